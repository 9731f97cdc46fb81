package zael

import (
	"fmt"
	"iter"
	"time"

	"github.com/zeroae/zael/bucket"
)

// A Status tells how one limit stands after a decision.
type Status struct {
	Entity, Resource string
	Limit            Limit
	Available        int64 // whole tokens that are left; less than 0 is debt, and 10¹⁵ of an unlimited one
	Requested        int64 // tokens; they were taken if the request was admitted
	Exceeded         bool  // this limit refused
	Overdrawn        bool  // a soft limit is in debt: a hard one would have refused
	// RetryAfter is, after a refusal, the wait until the requested tokens are there if
	// nobody else takes any: 0 if they are there, Never if they are more than the burst,
	// the limit blocks, or the wait is more than 292 years. Of slots it is the time by
	// which they are free if their holders die: nearly always they are released before.
	RetryAfter time.Duration
	// FullAfter is the wait until the bucket has its whole burst again if nobody takes
	// any tokens.
	FullAfter time.Duration
	// PeriodStart and ResetsAt are when the period that is on began, and when it ends, of a
	// quota or a session. They are zero for other kinds, and while no session is on.
	PeriodStart, ResetsAt time.Time
}

// A Decision is the outcome of a request, with a [Status] of each of its limits: the
// entity's, then the parent's, each in the order of its limits. That of
// a request with a [Policy] of up to four rates, on one bucket in memory, is a plain
// value; any other refers to memory of its own, which does not change.
type Decision struct {
	Admitted bool // everything was taken; if false, nothing was
	Degraded bool // admitted without a charge, as the store is unavailable and the failure mode open; there are no statuses

	// Bypassed says that a switch of the entity, or of its parent, makes its limits not
	// bind: nothing was charged to them. See Limiter.SetSwitch.
	Bypassed bool

	// The usual decision is on one bucket, by a policy of few limits. Any other has
	// standings instead.
	n       uint8          // of limits
	at      bucket.Instant // of the take
	entity  string
	policy  *PolicyLimits
	marks   [few]int64 // after an admitted request including it
	amounts [few]int64
	more    *beside // nil if it would be zero
}

// beside is what a few decisions have beside others. It is never changed.
type beside struct {
	few [few]int64 // of the usual decision: what is used of limits that are not plain rates
	all *standings // of any other decision
}

// standings are how the limits of a decision stand. They are never changed.
type standings struct {
	beside
	resource       string
	entities       [2]string     // the entity and its parent
	own            int           // how many limits are the entity's
	ahead          time.Duration // a limit refused unless the tokens were there by then
	limits         []*bucket.Limit
	marks, amounts []int64
	used           []int64  // of limits that are not plain rates
	given          []Status // of NewExceededError
}

// stand has the decision have standings.
func (d *Decision) stand(s *standings) {
	s.all, d.more = s, &s.beside
}

// standings returns those of the decision, nil if it is the usual one.
func (d *Decision) standings() *standings {
	if d.more == nil {
		return nil
	}
	return d.more.all
}

// setUsed notes what is used of the limits of the usual decision.
func (d *Decision) setUsed(used *[few]int64) {
	if *used != [few]int64{} {
		d.more = &beside{few: *used}
	}
}

// standing returns limit number i, how it stands, and what was asked for.
func (d *Decision) standing(i int) (s bucket.State, name string, amount int64) {
	if m := d.standings(); m != nil {
		return bucket.State{Definition: m.limits[i].Definition, Mark: m.marks[i], Used: m.used[i]}, m.limits[i].Name, m.amounts[i]
	}
	limit := &d.policy.Limits[i]
	if s = (bucket.State{Definition: limit.Definition, Mark: d.marks[i]}); d.more != nil {
		s.Used = d.more.few[i]
	}
	return s, limit.Name, d.amounts[i]
}

// Len returns the number of statuses.
func (d *Decision) Len() int {
	if m := d.standings(); m != nil {
		return max(len(m.limits), len(m.given))
	}
	return int(d.n)
}

// Status returns number i of the statuses. It panics if there is none.
func (d *Decision) Status(i int) Status {
	if i < 0 || i >= d.Len() {
		panic(fmt.Sprintf("zael: status %d of a decision that has %d", i, d.Len()))
	}
	if m := d.standings(); m != nil && m.given != nil {
		return m.given[i]
	}
	state, name, amount := d.standing(i)
	status := Status{
		Limit: limitOf(name, state.Definition), Requested: amount,
		Available: state.Available(d.at),
	}
	status.Overdrawn = state.Overdrawn(d.at)
	if kind := status.Limit.Kind(); kind != KindBlock && kind != KindUnlimited { // the state is that of the limit beneath
		status.FullAfter = state.WaitFull(d.at)
		if start, end, ok := state.Period(d.at); ok {
			status.PeriodStart, status.ResetsAt = start.Time(), end.Time()
		}
	}
	ahead := time.Duration(0)
	if m := d.standings(); m != nil {
		status.Entity, status.Resource, ahead = m.entities[btoi(i >= m.own)], m.resource, m.ahead
	} else {
		status.Entity, status.Resource = d.entity, d.policy.Resource
	}
	if !d.Admitted {
		status.RetryAfter = state.Wait(d.at, amount)
		_, fits := state.Take(d.at, amount, ahead)
		status.Exceeded = !fits
	}
	return status
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
	for i := range d.Len() {
		if m := d.standings(); m != nil && m.given != nil {
			wait = max(wait, m.given[i].RetryAfter)
			continue
		}
		state, _, amount := d.standing(i)
		wait = max(wait, state.Wait(d.at, amount))
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
