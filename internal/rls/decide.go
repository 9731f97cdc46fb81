package rls

import (
	"context"
	"errors"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/rls/rules"
)

// decide asks the limits of all descriptors of a call.
func (s *Service) decide(ctx context.Context, c *call) error {
	for i := range c.descriptors {
		if l := &c.descriptors[i]; l.action == refuse {
			l.exceeded = true
			c.over = c.over || !s.shadow(l.rule) && !s.quota(l.rule)
		}
	}
	if err := s.chargeAndCredit(ctx, c); err != nil {
		return err
	}
	if !c.over {
		if err := s.admit(ctx, c); err != nil {
			return err
		}
	}
	if !c.over {
		if err := s.forEach(c, takeAlone, false, func(l *descriptor) error { return s.takeOne(ctx, l) }); err != nil {
			return err
		}
	}
	return s.chargeAnyway(ctx, c)
}

// forEach calls f for the descriptors with an action: those of quotas, or the others.
func (s *Service) forEach(c *call, a action, quotas bool, f func(*descriptor) error) error {
	for i := range c.descriptors {
		if l := &c.descriptors[i]; l.action == a && s.quota(l.rule) == quotas {
			if err := f(l); err != nil {
				return err
			}
		}
	}
	return nil
}

// admit takes what the hard limits and the quotas of a call ask for, or refuses it.
func (s *Service) admit(ctx context.Context, c *call) (err error) {
	hard := c.parts(func(l *descriptor) bool { return l.action == take })
	quotas, left := false, false
	for i := range c.descriptors {
		if l := &c.descriptors[i]; l.rule != nil && s.quota(l.rule) && l.action != credit {
			quotas = true
			left = left || l.action == nothing || l.action == charge && !l.exceeded
		}
	}
	if !quotas || s.options.NeverRefuse {
		if err := s.takeAll(ctx, c, hard); err != nil || c.over {
			return err
		}
		return s.forEach(c, takeAlone, true, func(l *descriptor) error { return s.takeOne(ctx, l) })
	}
	lease, err := s.reserveAll(ctx, c, hard)
	if err != nil || c.over {
		return err
	}
	err = s.forEach(c, takeAlone, true, func(l *descriptor) error {
		err := s.takeOne(ctx, l)
		left = left || err == nil && !l.exceeded
		return err
	})
	if err == nil && left {
		return nil // the lease has nothing to settle
	}
	c.over = true
	return errors.Join(err, lease.Rollback(ctx))
}

// takeAll takes from all parts or from none. In the latter case the call is refused.
func (s *Service) takeAll(ctx context.Context, c *call, parts []part) error {
	if len(parts) == 0 {
		return nil
	}
	d, err := s.limiter.Decide(ctx, request(parts, c.domain))
	if err != nil {
		return c.refusedBySwitch(err)
	}
	c.record(parts, &d)
	return nil
}

// reserveAll is takeAll with a lease on what was taken, by which it can be given back; nil if
// nothing was asked for.
func (s *Service) reserveAll(ctx context.Context, c *call, parts []part) (*zael.Lease, error) {
	if len(parts) == 0 {
		return nil, nil
	}
	lease, err := s.limiter.Reserve(ctx, request(parts, c.domain))
	d := lease.Decision()
	if refused, ok := errors.AsType[*zael.ExceededError](err); ok {
		d, err = refused.Decision(), nil
	}
	if err != nil {
		return nil, c.refusedBySwitch(err)
	}
	c.record(parts, &d)
	return lease, nil
}

// takeOne takes what one descriptor asks for, if it fits.
func (s *Service) takeOne(ctx context.Context, l *descriptor) error {
	d, err := s.limiter.Decide(ctx, l.request(l.amount))
	switch {
	case errors.Is(err, zael.ErrDisabled):
		l.exceeded = true
		return nil
	case err != nil:
		return err
	}
	l.known, l.status = true, d.Status(0)
	l.exceeded = !d.Admitted
	return nil
}

// chargeAndCredit charges and gives back what the call reports. An addend beyond the burst of a
// token bucket charges the burst: more would keep the caller out for longer than a window.
func (s *Service) chargeAndCredit(ctx context.Context, c *call) error {
	for i := range c.descriptors {
		l := &c.descriptors[i]
		var d zael.Decision
		var err error
		switch l.action {
		case charge:
			n := l.amount
			if l.rule.Limit.Kind() == zael.KindRate {
				n = min(n, l.rule.Limit.Burst)
			}
			l.uncharged = l.amount - n
			d, err = s.limiter.Charge(ctx, l.request(n))
		case credit:
			d, err = s.limiter.Credit(ctx, l.request(l.amount))
		default:
			continue
		}
		switch {
		case errors.Is(err, zael.ErrDisabled):
			l.exceeded = true
		case err != nil:
			return err
		default:
			l.known, l.status = true, d.Status(0)
			l.exceeded = l.action == charge && l.status.Available < l.uncharged
		}
		c.over = c.over || l.exceeded && !s.shadow(l.rule) && !s.quota(l.rule)
	}
	return nil
}

// chargeAnyway charges, with Options.ChargeOnRefusal, what was not taken: all descriptors of a
// refused request, and those of quotas and shadows that had too little. It charges nothing to a
// token bucket that refused: a caller that retries would sink it ever deeper.
func (s *Service) chargeAnyway(ctx context.Context, c *call) error {
	if !s.options.ChargeOnRefusal {
		return nil
	}
	for i := range c.descriptors {
		l := &c.descriptors[i]
		switch {
		case l.action != take && l.action != takeAlone,
			!l.exceeded && !c.over, // it was taken
			l.exceeded && l.rule.Limit.Kind() == zael.KindRate:
			continue
		}
		n := l.amount
		if l.rule.Limit.Kind() == zael.KindRate {
			n = min(n, l.rule.Limit.Burst)
		}
		d, err := s.limiter.Charge(ctx, l.request(n))
		if errors.Is(err, zael.ErrDisabled) { // refused already, and never charged
			continue
		}
		if err != nil {
			return err
		}
		l.known, l.status = true, d.Status(0)
		l.exceeded = l.exceeded || l.status.Available < 0
	}
	return nil
}

// A part is one bucket of a request for several.
type part struct {
	entity      string
	descriptors []*descriptor
}

// parts returns the buckets of the descriptors for which of is true.
func (c *call) parts(of func(*descriptor) bool) (parts []part) {
next:
	for i := range c.descriptors {
		l := &c.descriptors[i]
		if !of(l) {
			continue
		}
		for j := range parts {
			if parts[j].entity == l.entity {
				parts[j].descriptors = append(parts[j].descriptors, l)
				continue next
			}
		}
		parts = append(parts, part{l.entity, []*descriptor{l}})
	}
	return parts
}

// request returns the request for all parts.
func request(parts []part, domain string) zael.Request {
	if len(parts) == 1 && len(parts[0].descriptors) == 1 { // nearly always
		only := parts[0].descriptors[0]
		return only.request(only.amount)
	}
	first := parts[0].part(domain)
	r := zael.Request{Entity: first.Entity, Resource: first.Resource, Limits: first.Limits, Consume: first.Consume, FailureMode: zael.FailClosed}
	for _, p := range parts[1:] {
		r.Also = append(r.Also, p.part(domain))
	}
	return r
}

// part returns a bucket as a part of a request. Descriptors that are the same share it, and
// one that brings its limit along has both.
func (p *part) part(domain string) zael.Part {
	z := zael.Part{Entity: p.entity, Resource: rules.Resource(domain), Consume: zael.Amounts{}}
	for _, l := range p.descriptors {
		name := l.rule.Limit.Name
		if _, known := z.Consume[name]; !known {
			z.Limits = append(z.Limits, l.rule.Limit)
		}
		z.Consume[name] += l.amount
	}
	return z
}

// request returns the request for the bucket of one descriptor.
func (l *descriptor) request(n int64) zael.Request {
	r := l.rule.Policy.For(l.entity, n)
	r.FailureMode = zael.FailClosed
	return r
}

// record stores how the limits of parts stand, and whether the call is refused.
func (c *call) record(parts []part, d *zael.Decision) {
	c.over = c.over || !d.Admitted
	for st := range d.All() {
		for i := range parts {
			if parts[i].entity != st.Entity {
				continue
			}
			for _, l := range parts[i].descriptors {
				if l.rule.Limit.Name == st.Limit.Name {
					l.known, l.status, l.exceeded = true, st, st.Exceeded
				}
			}
		}
	}
}

// refusedBySwitch marks the call as refused if err is that of a switch, or of a deleted namespace,
// which turns off all. It returns any other error.
func (c *call) refusedBySwitch(err error) error {
	if !errors.Is(err, zael.ErrDisabled) {
		return err
	}
	c.over = true
	one, ok := errors.AsType[*zael.DisabledError](err)
	for i := range c.descriptors {
		if l := &c.descriptors[i]; l.rule != nil && (!ok || l.entity == one.Entity) {
			l.exceeded = true
		}
	}
	return nil
}
