package rls

import "math"

// Hits are what one descriptor of a request adds to the statistics that envoyproxy/ratelimit
// keeps.
type Hits struct {
	Total  int64 // that were asked for
	Over   int64 // of these, beyond the limit
	Near   int64 // in the last part of the limit, by Options.NearLimit
	Within int64 // of requests that were not beyond it
	Shadow int64 // beyond it, and let pass in shadow mode
}

// count reports the descriptors of a decided call to Options.Count.
func (s *Service) count(c *call) {
	if s.options.Count == nil {
		return
	}
	for i := range c.descriptors {
		l := &c.descriptors[i]
		if l.rule == nil || l.action == nothing || l.action == credit {
			continue
		}
		h := s.hits(l)
		if s.shadow(l.rule) {
			h.Shadow = h.Over
		}
		s.options.Count(c.domain, l.metricName(), h)
	}
}

func (s *Service) hits(l *descriptor) Hits {
	h := Hits{Total: l.amount}
	limit := int64(l.rule.Requests)
	near := int64(math.Floor(float64(float32(limit) * s.options.NearLimit)))
	switch {
	case l.action == refuse, l.exceeded && l.action != charge: // nothing was taken
		h.Over = l.amount
		return h
	case !l.known: // another descriptor refused
		return h
	}
	after := limit - l.status.Available + l.uncharged
	before := after - l.amount
	if h.Over = min(max(0, after-limit), l.amount); h.Over == 0 {
		h.Within = l.amount
	}
	h.Near = max(0, min(after, limit)-max(before, near))
	return h
}
