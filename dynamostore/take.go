package dynamostore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/storearg"
)

// Take implements zael.BucketStore. Several debits are taken at the same time; if one does
// not fit, what the others took is given back. Two callers after the last tokens may then
// both be refused.
//
// A write whose answer is lost is repeated. It then counts once, or, if another write came
// between, perhaps twice, and never less (Stats.Repeated).
func (s *Store) Take(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
	if bypasses(debits) {
		return s.takeBypassing(ctx, now, maxWait, debits)
	}
	if !s.inflight.Begin() {
		return now, errClosed
	}
	defer s.inflight.End()
	if err := s.check(ctx, debits); err != nil {
		return now, err
	}
	for i := range debits {
		for _, c := range debits[i].Charges {
			if c.Amount < 0 || c.Amount > bucket.MaxAmount {
				return now, storearg.Invalid("amount of "+c.Name, c.Amount, fmt.Sprintf("is not in 0 to %d", bucket.MaxAmount))
			}
		}
	}
	now, at, err := s.clock.Instant(ctx, now)
	if err != nil {
		return now, err
	}
	t := multiTake{store: s, debits: debits, sides: make([]sideTake, len(debits)), begun: time.Now()}
	for i := range debits {
		t.sides[i].Op = coalesce.Op{
			Kind: coalesce.Take, Charges: slices.Clone(debits[i].Charges), At: at, MaxWait: maxWait, Settings: debits[i].SettingsRev, Holder: debits[i].Holder, Events: 1, ExactState: len(debits) > 1,
		}
	}
	err = t.takeAll(ctx)
	return now.Add(t.countedOffset(at)), err
}

// A multiTake is a take from one or more buckets.
type multiTake struct {
	store  *Store
	debits []zael.Debit
	sides  []sideTake // of each debit
	begun  time.Time
}

// A sideTake is the take from one of the buckets.
type sideTake struct {
	coalesce.Op
	started bool
}

// takeAll takes from all buckets or from none.
func (t *multiTake) takeAll(ctx context.Context) error {
	// A side that is likely to refuse is taken first: if it does, the others need not be
	// taken and given back.
	alone := len(t.sides) == 1
	if !t.takeSides(ctx, func(i int) bool { return !alone && !t.likelyFits(i) }) ||
		!t.takeSides(ctx, func(int) bool { return true }) {
		return t.refuseAll(ctx)
	}
	for i := range t.sides {
		sd, charges := &t.sides[i], t.debits[i].Charges
		for j := range charges {
			c := &charges[j]
			state := coalesce.Taken(c, sd.Bucket, sd.Behind, j)
			if state.Absent() { // asked for 0
				state = state.Redefine(c.Definition, sd.Answer.At, sd.Answer.Birth)
			}
			if c.Receipt = state.Receipt(); !c.Definition.Plain() {
				c.State = state
			}
		}
	}
	return nil
}

// countedOffset returns how long after an instant the take was decided, since takes of one
// write are decided at the latest of their instants, and these advance in the queue: at the
// last side, or, if refused, at the first side that refused.
func (t *multiTake) countedOffset(at bucket.Instant) time.Duration {
	last, refused := at, bucket.MaxInstant
	for i := range t.sides {
		sd := &t.sides[i]
		switch {
		case !sd.started || sd.Outcome == coalesce.Failed:
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

// likelyFits reports whether a side fits by what was last seen of its bucket.
func (t *multiTake) likelyFits(i int) bool {
	op := &t.sides[i].Op
	w := t.store.newWrite(coalesce.Batch{
		Key: t.debits[i].Key, Kind: coalesce.Take, Charges: op.Charges, At: op.At, MaxWait: op.MaxWait, Settings: op.Settings, Holder: op.Holder,
	})
	return w.Fits()
}

// takeSides starts, at the same time, the sides that were not started and for which pick
// returns true. It reports whether all of them took.
func (t *multiTake) takeSides(ctx context.Context, pick func(int) bool) bool {
	var buf [2]*sideTake
	started := buf[:0]
	for i := range t.sides {
		sd := &t.sides[i]
		if sd.started || !pick(i) {
			continue
		}
		sd.started = true
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

// refuseAll gives back what was taken, and returns why the take came to nothing.
func (t *multiTake) refuseAll(ctx context.Context) error {
	s := t.store
	var first error
	for i := range t.sides {
		sd := &t.sides[i]
		if sd.started && sd.Outcome == coalesce.Failed && first == nil {
			first = sd.Err
		}
	}
	undone, n := t.undo(ctx)
	for range n {
		select {
		case <-undone: // and the side has the state of its bucket since
		case <-ctx.Done():
			return cmp.Or(first, s.translate(ctx, "giving back", ctx.Err()))
		}
	}
	if first != nil && !t.outranked(first) {
		return first
	}
	if err := t.readRest(ctx); err != nil {
		return err
	}
	if t.staleSettings() {
		return zael.ErrStaleSettings
	}
	for i := range t.sides {
		sd := &t.sides[i]
		if coalesce.Evaluate(sd.Bucket, sd.Charges, sd.Answer.At, sd.MaxWait) == coalesce.Stale {
			for j := range t.sides {
				fillStates(t.debits[j].Charges, t.sides[j].Bucket)
			}
			return zael.ErrStaleLimits
		}
	}
	for i := range t.sides {
		sd := &t.sides[i]
		fillStates(t.debits[i].Charges, s.storeDefinitions(ctx, t.debits[i].Key, &sd.Op))
		redefineStates(t.debits[i].Charges, sd.Answer.At, sd.Seen, s.random())
		slotStates(t.debits[i].Charges, sd.Bucket, sd.Holder, sd.Answer.At)
	}
	return zael.ErrExceeded
}

// outranked reports whether a side refuses, so that it does not matter that another one
// cannot be reached. Of that one nothing is known then.
func (t *multiTake) outranked(err error) bool {
	refused := slices.ContainsFunc(t.sides, func(sd sideTake) bool { return sd.started && sd.Outcome == coalesce.Refused })
	if !refused || !errors.Is(err, zael.ErrUnavailable) {
		return false
	}
	for i := range t.sides {
		if sd := &t.sides[i]; sd.started && sd.Outcome == coalesce.Failed {
			sd.Answer = coalesce.Answer{Outcome: coalesce.Failed, Bucket: (*protocol.Record)(nil), At: sd.Op.At, Seen: sd.Op.At}
		}
	}
	return true
}

// readRest reads the buckets of the sides that were not started.
func (t *multiTake) readRest(ctx context.Context) error {
	for i := range t.sides {
		sd := &t.sides[i]
		if sd.started {
			continue
		}
		read := coalesce.Op{Kind: coalesce.Read, At: sd.Op.At}
		if t.store.do(ctx, t.debits[i].Key, &read); read.Outcome == coalesce.Failed {
			return read.Err
		}
		sd.Answer = read.Answer
	}
	return nil
}

// undo gives back what the sides took, also when the caller has left. The channel receives
// once for each of the n sides that are given back.
func (t *multiTake) undo(ctx context.Context) (undone <-chan struct{}, n int) {
	s := t.store
	done := make(chan struct{}, len(t.sides))
	for i := range t.sides {
		sd := &t.sides[i]
		if !sd.started || sd.Outcome != coalesce.Applied {
			continue
		}
		n++
		key := t.debits[i].Key // the debits are the caller's
		s.inflight.Go(func() {
			s.undoMember(ctx, key, &sd.Op, t.begun)
			done <- struct{}{}
		})
	}
	return done, n
}

// storeDefinitions writes those definitions of a refused take that would admit it sooner,
// and returns the bucket since. A caller that is told to come back in a second finds then
// what it was told.
func (s *Store) storeDefinitions(ctx context.Context, key zael.Key, op *coalesce.Op) coalesce.Bucket {
	if !coalesce.Differs(op.Bucket, op.Charges) {
		return op.Bucket
	}
	w := s.newWrite(coalesce.Batch{
		Key: key, Kind: coalesce.StoreDefinitions, Charges: op.Charges, At: op.Answer.At, MaxWait: op.MaxWait,
	})
	w.Seen = max(w.Seen, op.Seen)
	known, _ := op.Bucket.(*protocol.Record)
	w.Know(known)
	outcome, err := s.run(ctx, w)
	s.coalescer.Forget(key)
	if err == nil && outcome == coalesce.Applied {
		return w.Known()
	}
	return op.Bucket // the next caller tries again
}

// fillStates writes the states of its limits into the charges of a take that took nothing.
func fillStates(charges []zael.Charge, b coalesce.Bucket) {
	for i := range charges {
		c := &charges[i]
		c.State, c.Receipt = coalesce.StateOf(b, c), bucket.Receipt{}
	}
}

// redefineStates brings the states in charges under the definitions of the charges, at the
// latest instant seen. A limit that is not there would begin at birth, now.
func redefineStates(charges []zael.Charge, at, seen bucket.Instant, birth uint64) {
	for i := range charges {
		c := &charges[i]
		if c.State.Absent() {
			c.State = c.State.Redefine(c.Definition, at, birth)
		} else {
			c.State = c.State.Redefine(c.Definition, seen, 0)
		}
	}
}
