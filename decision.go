package zael

import (
	"iter"
	"slices"
	"time"

	"github.com/zeroae/zael/bucket"
)

// A Status tells how one limit stands after a decision.
type Status struct {
	Entity, Resource string
	Limit            Limit
	Available        int64 // whole tokens that are left; less than 0 is debt
	Requested        int64 // tokens; they were taken if the request was admitted
	Exceeded         bool  // this limit refused
	// RetryAfter is, after a refusal, the wait until the requested tokens are there if
	// nobody else takes any: 0 if they are there, Never if they are more than the burst
	// or the wait is more than 292 years.
	RetryAfter time.Duration
	// FullAfter is the wait until the bucket has its whole burst again if nobody takes
	// any tokens.
	FullAfter time.Duration
}

// A Decision is the outcome of a request, with a [Status] of each of its limits: the
// entity's, then the parent's, each in the order of its limits. It is a plain value;
// with up to four limits it needs no memory of its own.
type Decision struct {
	Admitted bool // everything was taken; if false, nothing was
	Degraded bool // admitted without a charge, as the store is unavailable and the failure mode open; there are no statuses

	resource string
	entities [2]string // the entity and its parent
	own      int       // how many limits are the entity's
	n        int       // how many limits there are
	at       bucket.Instant
	few      [few]standing
	more     []standing // all of them, if they are more than few
	given    []Status   // used instead by NewExceededError
}

// A standing is one limit in a decision. After an admitted request mark includes it.
type standing struct {
	limit    *bucket.Limit
	mark     int64
	amount   int64
	exceeded bool
}

// all returns the limits.
func (d *Decision) all() []standing {
	if d.n > few {
		return d.more
	}
	return d.few[:d.n]
}

// set makes room for n limits.
func (d *Decision) set(n int) []standing {
	if d.n = n; n > few {
		d.more = make([]standing, n)
	}
	return d.all()
}

// Len returns the number of statuses.
func (d *Decision) Len() int { return max(d.n, len(d.given)) }

// Status returns number i of the statuses. It panics if there is none.
func (d *Decision) Status(i int) Status {
	if d.given != nil {
		return d.given[i]
	}
	s := &d.all()[i]
	entity := d.entities[0]
	if i >= d.own {
		entity = d.entities[1]
	}
	state := s.state()
	status := Status{
		Entity: entity, Resource: d.resource, Limit: limitOf(s.limit.Name, s.limit.Definition),
		Available: state.Available(d.at), Requested: s.amount, Exceeded: s.exceeded,
		FullAfter: state.Wait(d.at, s.limit.Definition.Burst),
	}
	if !d.Admitted {
		status.RetryAfter = state.Wait(d.at, s.amount)
	}
	return status
}

func (s *standing) state() bucket.State {
	return bucket.State{Definition: s.limit.Definition, Mark: s.mark}
}

// All iterates over the statuses in order.
func (d *Decision) All() iter.Seq[Status] {
	return func(yield func(Status) bool) {
		for i := range d.Len() {
			if !yield(d.Status(i)) {
				return
			}
		}
	}
}

// RetryAfter returns the wait until the request fits all limits if nobody else takes any
// tokens: 0 if it was admitted, [Never] if no wait helps.
func (d *Decision) RetryAfter() time.Duration {
	var wait time.Duration
	if d.Admitted {
		return 0
	}
	for i := range d.given {
		wait = max(wait, d.given[i].RetryAfter)
	}
	for i := range d.all() {
		s := &d.all()[i]
		wait = max(wait, s.state().Wait(d.at, s.amount))
	}
	return wait
}

// Err returns nil if the request was admitted, or else the [*ExceededError] that
// [Limiter.Allow] would have returned.
func (d *Decision) Err() error {
	if d.Admitted {
		return nil
	}
	return &ExceededError{*d}
}

// clone returns the decision with memory of its own.
func (d *Decision) clone() Decision {
	c := *d
	c.more = slices.Clone(d.more)
	return c
}
