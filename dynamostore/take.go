package dynamostore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
)

// Take implements zael.BucketStore. Several debits are taken at the same time;
// if one does not fit, what the others took is given back. Two callers after
// the last tokens may then both be refused.
//
// If the answer to a write is lost it is repeated; it then counts once, or, if
// another write came between, perhaps twice: never less (Stats.Repeated).
func (s *Store) Take(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
	if !s.inflight.begin() {
		return now, errClosed
	}
	defer s.inflight.end()
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
	t := taking{store: s, debits: debits, sides: make([]side, len(debits)), begun: time.Now()}
	for i := range debits {
		t.sides[i].Op = coalesce.Op{
			Kind: coalesce.Take, Charges: slices.Clone(debits[i].Charges), At: at, MaxWait: maxWait, Events: 1, ExactState: len(debits) > 1,
		}
	}
	err = t.do(ctx)
	return now.Add(t.later(at)), err
}

// A taking is a take of one or more buckets.
type taking struct {
	store  *Store
	debits []zael.Debit
	sides  []side
	begun  time.Time
}

// A side is what came out for one bucket.
type side struct {
	coalesce.Op
	asked bool
}

func (t *taking) do(ctx context.Context) error {
	// A side that refuses by what is known of it is asked first: it saves the
	// others a charge and its return.
	if !t.ask(ctx, func(i int) bool { return len(t.sides) == 1 || t.likely(i) }, false) ||
		!t.ask(ctx, func(int) bool { return true }, true) {
		return t.none(ctx)
	}
	for i := range t.sides {
		sd, charges := &t.sides[i], t.debits[i].Charges
		for j := range charges {
			c := &charges[j]
			if state := sd.Bucket.State(c.Name); state.Absent() { // asked for 0
				c.Receipt = state.Redefine(c.Definition, sd.Answer.At, sd.Answer.Birth).Receipt()
			} else {
				c.Receipt = coalesce.Receipt(c, sd.Bucket, sd.Behind, j)
			}
		}
	}
	return nil
}

// later is how long after an instant the sides counted, as takes of one write
// count at the latest of their instants, which go on while they wait: the last
// of them, or, of a refusal, the first that refused.
func (t *taking) later(at bucket.Instant) time.Duration {
	last, refused := at, bucket.MaxInstant
	for i := range t.sides {
		sd := &t.sides[i]
		switch {
		case !sd.asked || sd.Outcome == coalesce.Failed:
		case sd.Outcome == coalesce.Refused:
			refused = min(refused, sd.Answer.At)
		default:
			last = max(last, sd.Answer.At)
		}
	}
	if refused < bucket.MaxInstant {
		last = max(at, refused)
	}
	return time.Duration(last - at)
}

// likely tells whether a side fits by what is known of it.
func (t *taking) likely(i int) bool {
	sd := &t.sides[i]
	o := t.store.op(takes, sd.Op.At, t.debits[i].Key, sd.Charges)
	o.maxWait = sd.MaxWait
	return o.sketch().fits
}

// ask asks those sides that were not asked and for which is says what is
// wanted, at the same time. It reports whether all of them took.
func (t *taking) ask(ctx context.Context, is func(int) bool, want bool) bool {
	var buf [2]*side
	started := buf[:0]
	for i := range t.sides {
		sd := &t.sides[i]
		if sd.asked || is(i) != want {
			continue
		}
		sd.asked = true
		t.store.coalescer.Start(ctx, t.debits[i].Key, &sd.Op)
		started = append(started, sd)
	}
	took := true
	for _, sd := range started {
		t.store.await(&sd.Op)
		took = took && sd.Outcome == coalesce.Applied
	}
	return took
}

// none undoes what was taken, and says why.
func (t *taking) none(ctx context.Context) error {
	s := t.store
	var first error
	for i := range t.sides {
		sd := &t.sides[i]
		if sd.asked && sd.Outcome == coalesce.Failed && first == nil {
			first = sd.Err
		}
	}
	undone, n := t.undo(ctx)
	for range n {
		select {
		case <-undone: // and the side has its bucket since
		case <-ctx.Done():
			return cmp.Or(first, s.translate(ctx, "giving back", ctx.Err()))
		}
	}
	if first != nil {
		return first
	}
	for i := range t.sides {
		sd := &t.sides[i]
		if !sd.asked {
			look := coalesce.Op{Kind: coalesce.Read, At: sd.Op.At}
			if s.ask(ctx, t.debits[i].Key, &look); look.Outcome == coalesce.Failed {
				return look.Err
			}
			sd.Answer = look.Answer
		}
	}
	for i := range t.sides {
		sd := &t.sides[i]
		if coalesce.Evaluate(sd.Bucket, sd.Charges, sd.Answer.At, sd.MaxWait) == coalesce.Stale {
			for j := range t.sides {
				shows(t.debits[j].Charges, t.sides[j].Bucket, 0, 0, true, 0)
			}
			return zael.ErrStaleLimits
		}
	}
	for i := range t.sides {
		sd := &t.sides[i]
		b := s.keep(ctx, t.debits[i].Key, &sd.Op)
		shows(t.debits[i].Charges, b, sd.Answer.At, sd.Seen, false, s.random())
	}
	return zael.ErrExceeded
}

// undo gives back what the sides took, also when the caller has left. The
// channel receives once for each of the n sides that it gives back.
func (t *taking) undo(ctx context.Context) (undone <-chan struct{}, n int) {
	s := t.store
	done := make(chan struct{}, len(t.sides))
	for i := range t.sides {
		sd := &t.sides[i]
		if !sd.asked || sd.Outcome != coalesce.Applied {
			continue
		}
		n++
		key := t.debits[i].Key // the debits are the caller's
		s.inflight.spawn(func() {
			s.undoMember(ctx, key, &sd.Op, t.begun)
			done <- struct{}{}
		})
	}
	return done, n
}

// keep writes those definitions of a refused take that would admit it sooner,
// and returns the bucket since. A caller who is told to come back in a second
// finds then what was said.
func (s *Store) keep(ctx context.Context, key zael.Key, m *coalesce.Op) coalesce.Bucket {
	if coalesce.Evaluate(m.Bucket, m.Charges, m.Answer.At, m.MaxWait) != coalesce.UnknownDefinition {
		return m.Bucket
	}
	o := s.op(keeps, m.Answer.At, key, m.Charges)
	o.seen, o.maxWait = max(o.seen, m.Seen), m.MaxWait
	o.known, o.guess, o.fresh = recordIn(m.Bucket), nil, true
	v, err := s.run(ctx, o)
	s.coalescer.Forget(key)
	if err == nil && (v == applied || v == nothing) {
		return o.known
	}
	return m.Bucket // the next caller tries again
}

// recordIn is the record in an answer.
func recordIn(b coalesce.Bucket) *record {
	r, _ := b.(*record)
	return r
}
