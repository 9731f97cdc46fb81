package rls

import (
	"context"
	"errors"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/rls/rules"
)

// decide asks for all lines of a call.
func (s *Service) decide(ctx context.Context, c *call) error {
	for i := range c.lines {
		if l := &c.lines[i]; l.action == refuse {
			l.exceeded = true
			c.over = c.over || !s.shadow(l.rule) && !s.quota(l.rule)
		}
	}
	if err := s.settle(ctx, c); err != nil {
		return err
	}
	if !c.over {
		if err := s.admit(ctx, c); err != nil {
			return err
		}
	}
	if !c.over {
		if err := s.each(c, takeAlone, false, func(l *line) error { return s.takeOne(ctx, l) }); err != nil {
			return err
		}
	}
	return s.chargeAnyway(ctx, c)
}

// each calls f for the lines of an action, those of quotas or the others.
func (s *Service) each(c *call, a action, quotas bool, f func(*line) error) error {
	for i := range c.lines {
		if l := &c.lines[i]; l.action == a && s.quota(l.rule) == quotas {
			if err := f(l); err != nil {
				return err
			}
		}
	}
	return nil
}

// admit takes what the hard limits and the quotas of a call ask for, or refuses it.
func (s *Service) admit(ctx context.Context, c *call) (err error) {
	hard := c.parts(func(l *line) bool { return l.action == take })
	quotas, left := false, false
	for i := range c.lines {
		if l := &c.lines[i]; l.rule != nil && s.quota(l.rule) && l.action != credit {
			quotas = true
			left = left || l.action == nothing || l.action == charge && !l.exceeded
		}
	}
	if !quotas || s.options.NeverRefuse {
		if err := s.takeAll(ctx, c, hard); err != nil || c.over {
			return err
		}
		return s.each(c, takeAlone, true, func(l *line) error { return s.takeOne(ctx, l) })
	}
	lease, err := s.reserveAll(ctx, c, hard)
	if err != nil || c.over {
		return err
	}
	err = s.each(c, takeAlone, true, func(l *line) error {
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
	c.note(parts, &d)
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
	c.note(parts, &d)
	return lease, nil
}

// takeOne takes what a line asks for, if it fits.
func (s *Service) takeOne(ctx context.Context, l *line) error {
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

// settle charges and gives back what the call has to tell. An addend beyond the burst of a
// token bucket charges the burst: more would keep the caller out for longer than a window.
func (s *Service) settle(ctx context.Context, c *call) error {
	for i := range c.lines {
		l := &c.lines[i]
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

// chargeAnyway charges, if that is asked for, what was not taken: by all descriptors of a
// refused request, and by those of quotas and shadows that had too little. Of a token bucket
// that refused it charges nothing: a caller who repeats would dig for ever.
func (s *Service) chargeAnyway(ctx context.Context, c *call) error {
	if !s.options.ChargeOnRefusal {
		return nil
	}
	for i := range c.lines {
		l := &c.lines[i]
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
	entity string
	lines  []*line
}

// parts returns the buckets of some lines of a call.
func (c *call) parts(of func(*line) bool) (parts []part) {
next:
	for i := range c.lines {
		l := &c.lines[i]
		if !of(l) {
			continue
		}
		for j := range parts {
			if parts[j].entity == l.entity {
				parts[j].lines = append(parts[j].lines, l)
				continue next
			}
		}
		parts = append(parts, part{l.entity, []*line{l}})
	}
	return parts
}

// request returns the request for all parts.
func request(parts []part, domain string) zael.Request {
	if len(parts) == 1 && len(parts[0].lines) == 1 { // nearly always
		only := parts[0].lines[0]
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
	for _, l := range p.lines {
		name := l.rule.Limit.Name
		if _, known := z.Consume[name]; !known {
			z.Limits = append(z.Limits, l.rule.Limit)
		}
		z.Consume[name] += l.amount
	}
	return z
}

// request returns the request for the bucket of a line alone.
func (l *line) request(n int64) zael.Request {
	r := l.rule.Policy.For(l.entity, n)
	r.FailureMode = zael.FailClosed
	return r
}

// note notes how the limits of parts stand, and whether the call is refused.
func (c *call) note(parts []part, d *zael.Decision) {
	c.over = c.over || !d.Admitted
	for st := range d.All() {
		for i := range parts {
			if parts[i].entity != st.Entity {
				continue
			}
			for _, l := range parts[i].lines {
				if l.rule.Limit.Name == st.Limit.Name {
					l.known, l.status, l.exceeded = true, st, st.Exceeded
				}
			}
		}
	}
}

// refusedBySwitch refuses a call that a switch refuses. It returns any other error.
func (c *call) refusedBySwitch(err error) error {
	disabled, ok := errors.AsType[*zael.DisabledError](err)
	if !ok {
		return err
	}
	c.over = true
	for i := range c.lines {
		if c.lines[i].entity == disabled.Entity {
			c.lines[i].exceeded = true
		}
	}
	return nil
}
