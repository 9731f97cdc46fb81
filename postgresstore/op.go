package postgresstore

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/hourly"
	"github.com/zeroae/zael/internal/oncekey"
	"github.com/zeroae/zael/internal/within"
)

// An op is an operation on buckets that waits for a lane. It has copies of its arguments,
// because a caller that gives up may change them.
type op struct {
	opRules
	at      bucket.Instant
	hour    int64 // of at, counted from 1970
	debits  []zael.Debit
	charges []zael.Charge // of all debits
	until   time.Time     // the deadline of the caller; zero if there is none
	came    time.Time     // when it was queued first

	overdrawn [][]string // of an undoOp: the limits that the take left overdrawn, by debit

	tries int  // how often another process was faster
	alone bool // goes with ops of the same buckets only: others would have to wait for its locks

	err      error
	early    error          // told to a caller that does not wait until it is known what came of the op
	held     bool           // of extendOp
	deadline bucket.Instant // of extendOp
	stage    atomic.Int32
	done     chan struct{} // receives one value when the stage becomes answered, or early is set
}

type kind uint8

const (
	takeOp kind = iota
	adjustOp
	undoOp // an adjust that gives back a take and uncounts it
	extendOp
)

// The stages of an op. Its caller may give up in the first two.
const (
	queued    int32 = iota
	running         // in a batch
	answered        // done has its value, or is about to
	abandoned       // the caller has given up
)

// newOp returns an op with copies of its arguments, checked. It may be one that was answered and
// recycled.
func (s *Store) newOp(k kind, now time.Time, at bucket.Instant, debits []zael.Debit) (*op, error) {
	if err := storable.Debits(debits, k == takeOp, "database"); err != nil {
		return nil, err
	}
	o, ok := s.ops.Get().(*op)
	if !ok {
		o = &op{done: make(chan struct{}, 1)}
	}
	*o = op{opRules: opRules{kind: k}, at: at, hour: hourly.Of(now), debits: o.debits[:0], charges: o.charges[:0], done: o.done}
	for i := range debits {
		o.charges = append(o.charges, debits[i].Charges...)
	}
	rest := o.charges
	for i := range debits {
		n := len(debits[i].Charges)
		d := debits[i]
		d.Charges, rest = rest[:n:n], rest[n:]
		o.debits = append(o.debits, d)
	}
	return o, nil
}

// recycle makes o available to newOp. The caller has the only reference to it.
func (s *Store) recycle(o *op) {
	clear(o.debits)
	clear(o.charges) // so that names can be freed
	s.ops.Put(o)
}

// copyResults copies states and receipts into the caller's debits.
func (o *op) copyResults(debits []zael.Debit) {
	rest := o.charges
	for i := range debits {
		for j := range debits[i].Charges {
			ch := &debits[i].Charges[j]
			ch.State = rest[0].State
			if o.kind == takeOp {
				ch.Receipt = rest[0].Receipt
			}
			rest = rest[1:]
		}
	}
}

// undo returns the op that gives back what a take took.
func (o *op) undo() *op {
	u := &op{opRules: opRules{kind: undoOp}, at: o.at, hour: o.hour} // nobody waits for it
	for i, d := range o.debits {
		u.overdrawn = append(u.overdrawn, o.overdrew(i))
		charges := slices.Clone(d.Charges)
		for j := range charges {
			charges[j].Amount = -charges[j].Amount
		}
		// One of 0 would bring its limit under the definition of the take.
		d.Charges = slices.DeleteFunc(charges, func(c zael.Charge) bool { return c.Amount == 0 })
		u.debits = append(u.debits, d)
		u.charges = append(u.charges, d.Charges...)
	}
	return u
}

// overdrew returns the limits of a debit that the op, or the take that it undoes, has left
// overdrawn.
func (o *op) overdrew(i int) (names []string) {
	d := &o.debits[i]
	switch {
	case o.kind == undoOp:
		return o.overdrawn[i]
	case o.kind != takeOp || d.Bypass:
		return nil
	}
	for j := range d.Charges {
		if d.Charges[j].Overdraws(o.at) {
			names = append(names, d.Charges[j].Name)
		}
	}
	return names
}

// has reports whether a bucket is one of those of o.
func (o *op) has(key zael.Key) bool {
	return slices.ContainsFunc(o.debits, func(d zael.Debit) bool { return d.Key == key })
}

// isWanted reports whether o is to be performed.
func (o *op) isWanted() bool { return o.kind == undoOp || o.stage.Load() == queued }

// locks reports whether o needs a transaction that locks the buckets first: it has a key, or
// other processes were faster more than once.
func (o *op) locks() bool { return o.once != nil || o.tries > 1 || len(o.debits) == 0 }

// submit queues o and waits for the answer. If inTime is false, ctx was done first and a lane
// may still use o.
func (s *Store) submit(ctx context.Context, o *op) (inTime bool, err error) {
	if ctx.Err() != nil {
		return false, contextError(ctx, "not attempted")
	}
	if !s.inflight.Begin() {
		return false, errClosed
	}
	defer s.inflight.End()
	o.until, _ = ctx.Deadline()
	o.came = time.Now()
	if err := s.queue.add(o); err != nil {
		return false, err
	}
	if within.Wait(ctx, o.done) {
		if o.stage.Load() == abandoned {
			return false, o.early
		}
		return true, o.err
	}
	if o.stage.CompareAndSwap(queued, abandoned) {
		return false, contextError(ctx, "gave up before its turn, nothing was changed")
	}
	if o.stage.CompareAndSwap(running, abandoned) {
		what := "gave up while the change was being made, it may have been made"
		if o.kind == takeOp {
			what = "gave up while the take was being made, it will be given back"
		}
		return false, contextError(ctx, what)
	}
	<-o.done // comes at once
	if o.stage.Load() == abandoned {
		return false, o.early
	}
	return true, o.err
}

// Take implements zael.BucketStore.
func (s *Store) Take(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
	at, _, err := s.bucketOp(ctx, now, debits, opRules{kind: takeOp, maxWait: maxWait})
	return at, err
}

// Adjust implements zael.BucketStore.
func (s *Store) Adjust(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
	at, _, err := s.bucketOp(ctx, now, debits, opRules{kind: adjustOp})
	return at, err
}

// opRules say what an op does beside its debits.
type opRules struct {
	kind    kind
	maxWait time.Duration
	once    *oncekey.Operation // nil: it has no key
}

// bucketOp performs a take or an adjust. first is what was kept with a key that is known.
func (s *Store) bucketOp(ctx context.Context, now time.Time, debits []zael.Debit, rules opRules) (counted time.Time, first []byte, err error) {
	now, at, err := s.clock.Instant(ctx, now)
	if err != nil {
		return now, nil, err
	}
	o, err := s.newOp(rules.kind, now, at, debits)
	if err != nil {
		return now, nil, err
	}
	o.opRules = rules
	once := rules.once
	if once != nil {
		once.At = now
	}
	if o.kind == takeOp && once == nil && s.recalls(o) {
		o.copyResults(debits)
		s.recycle(o)
		return now, nil, zael.ErrExceeded
	}
	inTime, err := s.submit(ctx, o)
	if !inTime {
		return now, nil, err
	}
	if once != nil && once.First != nil {
		first = once.First
	} else {
		o.copyResults(debits)
	}
	s.recycle(o)
	return now, first, err
}

// TakeLocal implements zael.LocalStore: it answers takes that a remembered refusal refuses.
func (s *Store) TakeLocal(now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, bool, error) {
	if len(debits) != 1 || !s.queue.remembers(debits[0].Key) || s.queue.isClosed() {
		return now, false, nil
	}
	counted, at, ok := s.clock.Local(now)
	if !ok {
		return now, false, nil
	}
	o, err := s.newOp(takeOp, counted, at, debits)
	if err != nil {
		return now, false, nil // Take says so
	}
	defer s.recycle(o)
	if o.maxWait = maxWait; !s.recalls(o) {
		return now, false, nil
	}
	o.copyResults(debits)
	return counted, true, zael.ErrExceeded
}

// AdjustLocal implements zael.LocalStore.
func (s *Store) AdjustLocal(now time.Time, _ []zael.Debit) (time.Time, bool, error) {
	return now, false, nil
}

// Renew implements zael.SlotStore.
func (s *Store) Renew(ctx context.Context, now time.Time, d zael.Debit) (held bool, err error) {
	_, held, err = s.Extend(ctx, now, d)
	return held, err
}

// Extend implements zael.OnceStore.
func (s *Store) Extend(ctx context.Context, now time.Time, d zael.Debit) (deadline time.Time, held bool, err error) {
	now, at, err := s.clock.Instant(ctx, now)
	if err != nil {
		return deadline, false, err
	}
	o, err := s.newOp(extendOp, now, at, []zael.Debit{d})
	if err != nil {
		return deadline, false, err
	}
	if _, err := s.submit(ctx, o); err != nil || !o.held {
		return deadline, false, err
	}
	return o.deadline.Time(), true, nil
}
