package dynamostore

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// Take implements zael.BucketStore. Several debits are taken at the same time;
// if one does not fit, what the others took is given back. Two callers after
// the last tokens may then both be refused.
//
// If the answer to a write is lost it is repeated; it then counts once, or, if
// another write came between, perhaps twice: never less (Stats.Repeated).
func (s *Store) Take(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
	if err := s.check(ctx, debits); err != nil {
		return now, err
	}
	for i := range debits {
		for _, c := range debits[i].Charges {
			if c.Amount < 0 || c.Amount > bucket.MaxAmount {
				return now, invalid("amount of "+c.Name, c.Amount, fmt.Sprintf("is not in 0 to %d", bucket.MaxAmount))
			}
		}
	}
	now, at, err := s.instant(ctx, now)
	if err != nil {
		return now, err
	}
	t := taking{store: s, debits: debits, sides: make([]side, len(debits))}
	for i := range debits {
		o := s.op(takes, at, &debits[i])
		o.maxWait, o.exact = maxWait, len(debits) > 1
		t.sides[i].op = o
	}
	return now, t.do(ctx)
}

// A taking is a take of one or more buckets.
type taking struct {
	store  *Store
	debits []zael.Debit
	sides  []side
}

// A side is what came out for one bucket.
type side struct {
	*op
	asked   bool
	verdict verdict
	err     error
}

func (t *taking) do(ctx context.Context) error {
	// A side that refuses by what is known of it is asked first: it saves the
	// others a charge and its return.
	if !t.ask(ctx, func(sd *side) bool { return len(t.sides) == 1 || sd.sketch().fits }, false) ||
		!t.ask(ctx, func(*side) bool { return true }, true) {
		return t.none(ctx)
	}
	for i := range t.sides {
		t.sides[i].took(t.debits[i].Charges)
	}
	return nil
}

// ask asks those sides that were not asked and for which now says what is
// wanted, at the same time. It tells whether all of them took.
func (t *taking) ask(ctx context.Context, is func(*side) bool, want bool) bool {
	var wg sync.WaitGroup
	var first *side
	for i := range t.sides {
		sd := &t.sides[i]
		if sd.asked || is(sd) != want {
			continue
		}
		sd.asked = true
		if first == nil {
			first = sd // by this goroutine
			continue
		}
		wg.Go(func() { sd.verdict, sd.err = t.store.run(ctx, sd.op) })
	}
	if first != nil {
		first.verdict, first.err = t.store.run(ctx, first.op)
	}
	wg.Wait()
	for i := range t.sides {
		if sd := &t.sides[i]; sd.asked && sd.verdict != applied {
			return false
		}
	}
	return true
}

// none undoes what was taken, and says why.
func (t *taking) none(ctx context.Context) error {
	s := t.store
	var wg sync.WaitGroup
	var first error
	for i := range t.sides {
		sd := &t.sides[i]
		switch {
		case sd.err != nil:
			if first == nil {
				first = sd.err
			}
			s.undoUnknown(ctx, sd.op)
		case sd.verdict == contended:
			if first == nil {
				first = fmt.Errorf("dynamostore: %d calls for one write: %w", maxCalls, zael.ErrContention)
			}
		case sd.asked && sd.verdict == applied:
			wg.Go(func() { s.undo(ctx, sd.op) })
		}
	}
	wg.Wait()
	if first != nil {
		return first
	}
	if err := t.look(ctx); err != nil {
		return err
	}
	for i := range t.sides {
		if t.sides[i].isStale() {
			for j := range t.sides {
				t.sides[j].shows(t.debits[j].Charges, true, 0)
			}
			return zael.ErrStaleLimits
		}
	}
	for i := range t.sides {
		s.keep(ctx, t.sides[i].op)
		t.sides[i].shows(t.debits[i].Charges, false, s.random())
	}
	return zael.ErrExceeded
}

// look reads the sides that were not asked.
func (t *taking) look(ctx context.Context) error {
	for i := range t.sides {
		sd := &t.sides[i]
		if sd.asked {
			continue
		}
		r, err := t.store.readBucket(ctx, sd.key)
		if err != nil {
			return err
		}
		t.store.cache.learn(sd.key, r, sd.at, nil)
		sd.learn(r)
	}
	return nil
}

func (o *op) isStale() bool {
	for i := range o.charges {
		if o.known.state(o.charges[i].Name).Stale(o.charges[i].Definition) {
			return true
		}
	}
	return false
}

// keep writes those definitions of a refused take that would admit it sooner.
// A caller who is told to come back in a second finds then what was said.
func (s *Store) keep(ctx context.Context, refused *op) {
	o := *refused
	o.kind, o.id, o.calls, o.unsure, o.exact = keeps, s.random(), 0, false, false
	if v, err := s.run(ctx, &o); err == nil && (v == applied || v == nothing) {
		refused.known = o.known
	} // otherwise it stays as it is: the next caller tries again
}
