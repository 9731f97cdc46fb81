package zael

import (
	"iter"
	"slices"
	"time"

	"github.com/zeroae/zael/bucket"
)

// A Status is how one limit stands after a decision.
type Status struct {
	Entity, Resource string
	Limit            Limit
	Available        int64         // whole tokens that are left; below 0 is debt
	Requested        int64         // tokens; taken, if the request was admitted
	Exceeded         bool          // this limit refused
	RetryAfter       time.Duration // of a refusal: until the requested tokens fit, if nobody else takes any. 0 if they do, Never if they are above the burst or it takes 292 years
	FullAfter        time.Duration // until the limit has its whole burst again, if nobody takes any
}

// A Decision says what came of a request, and how each of its limits stands: of
// the entity, then of the parent, each in the order of its limits. It is a value;
// with up to four limits it has no memory of its own.
type Decision struct {
	Admitted bool // all was taken; if not, nothing
	Degraded bool // admitted without a charge, as the store is unavailable and the failure mode open: there are no statuses

	resource string
	entities [2]string // the entity and its parent
	own      int       // limits of the entity
	n        int       // limits in all
	at       bucket.Instant
	few      [few]standing
	more     []standing // all of them, if they are more than few
	given    []Status   // instead, of NewExceededError
}

// A standing is one limit in a decision. Of an admitted request mark is after it.
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

// All iterates the statuses in order.
func (d *Decision) All() iter.Seq[Status] {
	return func(yield func(Status) bool) {
		for i := range d.Len() {
			if !yield(d.Status(i)) {
				return
			}
		}
	}
}

// RetryAfter returns the wait until every limit asked fits, if nobody else takes
// from them: 0 if the request was admitted, Never if no wait helps.
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

// Err returns the refusal as the *ExceededError that Allow would have returned;
// nil if the request was admitted.
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
