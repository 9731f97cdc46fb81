package sqlitestore

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/hourly"
	"github.com/zeroae/zael/internal/oncekey"
	"github.com/zeroae/zael/internal/storearg"
)

// An op is an operation for the writer. It has copies of its arguments, because a
// caller that gives up may change them.
type op struct {
	kind    kind
	at      bucket.Instant
	hour    int64 // of at, counted from 1970
	maxWait time.Duration
	debits  []zael.Debit
	charges []zael.Charge // of all debits
	change  func(*txn) error
	once    *oncekey.Operation // nil: it has no key

	overdrawn [][]string // of an undoOp: the limits that the take left overdrawn, by debit

	err   error
	stage atomic.Int32
	done  chan struct{} // receives one value when the stage becomes answered
}

type kind uint8

const (
	takeOp kind = iota
	adjustOp
	undoOp   // an adjust that gives back a take and uncounts it
	changeOp // anything else: runs change
)

// The stages of an op. Its caller may give up in the first two.
const (
	queued    int32 = iota
	running         // in a transaction
	answered        // the answer is in done, or about to be
	abandoned       // the caller has given up
)

// newOp returns an op, which may reuse the slices and the channel of one that was
// answered.
func (s *Store) newOp(k kind) *op {
	o, ok := s.ops.Get().(*op)
	if !ok {
		o = &op{done: make(chan struct{}, 1)}
	}
	o.kind, o.err, o.change, o.once, o.maxWait = k, nil, nil, nil, 0
	o.debits, o.charges = o.debits[:0], o.charges[:0]
	o.stage.Store(queued)
	return o
}

// copyArguments copies the arguments of Take or Adjust into o.
func (o *op) copyArguments(now time.Time, debits []zael.Debit) error {
	at, err := storearg.Instant(now)
	if err == nil {
		err = storable.Debits(debits, o.kind == takeOp, "file")
	}
	if err != nil {
		return err
	}
	o.at, o.hour = at, hourly.Of(now)
	for i := range debits {
		o.charges = append(o.charges, debits[i].Charges...)
	}
	rest := o.charges
	for i := range debits {
		n := len(debits[i].Charges)
		d := debits[i]
		d.Charges = rest[:n:n]
		o.debits = append(o.debits, d)
		rest = rest[n:]
	}
	return nil
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
	over := make([][]string, len(o.debits))
	for i := range o.debits {
		d := &o.debits[i]
		over[i] = o.overdrew(i)
		for j := range d.Charges {
			d.Charges[j].Amount = -d.Charges[j].Amount
		}
		// One of 0 would bring its limit under the definition of the take.
		d.Charges = slices.DeleteFunc(d.Charges, func(c zael.Charge) bool { return c.Amount == 0 })
	}
	u := &op{kind: undoOp, at: o.at, hour: o.hour, debits: o.debits, charges: o.charges, overdrawn: over, done: make(chan struct{}, 1)}
	u.stage.Store(abandoned)
	return u
}

// overdrew returns the limits of a debit that the op, or the take that it undoes, has left
// overdrawn.
func (o *op) overdrew(i int) []string {
	switch {
	case o.kind == takeOp && !o.debits[i].Bypass:
		return overdrawn(o.debits[i].Charges, o.at)
	case o.kind == undoOp:
		return o.overdrawn[i]
	}
	return nil
}

// release makes o available to newOp. The caller has the only reference to it.
func (s *Store) release(o *op) {
	clear(o.debits)
	clear(o.charges) // so that names can be freed
	o.change, o.once = nil, nil
	s.ops.Put(o)
}

// submit queues o for the writer and waits for the answer. If inTime is false, ctx
// was done first and the writer may still use o.
func (q *queue) submit(ctx context.Context, o *op) (inTime bool, err error) {
	if ctx.Err() != nil {
		return false, contextError(ctx, "not attempted")
	}
	if err := q.add(o); err != nil {
		return false, err
	}
	select {
	case <-o.done:
		return true, o.err
	case <-ctx.Done():
	}
	if o.stage.CompareAndSwap(queued, abandoned) {
		return false, contextError(ctx, "gave up before its turn to write, nothing was changed")
	}
	if o.stage.CompareAndSwap(running, abandoned) {
		what := "gave up while the change was being written, it may have been made"
		if o.kind == takeOp {
			what = "gave up while the take was being written, it will be given back"
		}
		return false, contextError(ctx, what)
	}
	<-o.done // comes at once
	return true, o.err
}

// Take implements zael.BucketStore.
func (s *Store) Take(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
	_, err := s.bucketOp(ctx, takeOp, now, maxWait, debits, nil)
	return now, err
}

// Adjust implements zael.BucketStore.
func (s *Store) Adjust(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
	_, err := s.bucketOp(ctx, adjustOp, now, 0, debits, nil)
	return now, err
}

// bucketOp performs a take or an adjust; once is nil if it has no key. first is what was kept
// with a key that is known.
func (s *Store) bucketOp(ctx context.Context, k kind, now time.Time, maxWait time.Duration, debits []zael.Debit, once *oncekey.Operation) (first []byte, err error) {
	o := s.newOp(k)
	o.maxWait, o.once = maxWait, once
	if err := o.copyArguments(now, debits); err != nil {
		s.release(o)
		return nil, err
	}
	inTime, err := s.queue.submit(ctx, o)
	if !inTime {
		return nil, err
	}
	if once != nil && once.First != nil {
		first = once.First
	} else {
		o.copyResults(debits)
	}
	s.release(o)
	return first, err
}

// change runs f in a transaction of the writer. f may run after change has returned,
// if ctx is done, so it must not refer to what its caller goes on using.
func (s *Store) change(ctx context.Context, f func(*txn) error) error {
	o := s.newOp(changeOp)
	o.change = f
	inTime, err := s.queue.submit(ctx, o)
	if inTime {
		s.release(o)
	}
	return err
}

// A queue holds the ops that wait for the writer, first in, first out.
type queue struct {
	mu        sync.Mutex
	ops       []*op
	purge     int  // the length at which abandoned ops are removed
	closed    bool // adds no more
	rejecting bool // those that wait get errClosed

	wake chan struct{} // receives when there is something new
}

// leastPurge is the least length at which abandoned ops are removed.
const leastPurge = 1024

func (q *queue) init() {
	q.purge = leastPurge
	q.wake = make(chan struct{}, 1)
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

var errClosed = fmt.Errorf("sqlitestore: the store is closed: %w", zael.ErrClosed)

func (q *queue) add(o *op) error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return errClosed
	}
	q.push(o)
	first := len(q.ops) == 1
	q.mu.Unlock()
	if first {
		q.signal()
	}
	return nil
}

func (q *queue) push(o *op) {
	if len(q.ops) >= q.purge {
		kept := q.ops[:0]
		for _, o := range q.ops {
			if o.isWanted() {
				kept = append(kept, o)
			}
		}
		clear(q.ops[len(kept):])
		q.ops = kept
		q.purge = max(leastPurge, 2*len(kept))
	}
	q.ops = append(q.ops, o)
}

// isWanted reports whether the writer has to perform o.
func (o *op) isWanted() bool { return o.kind == undoOp || o.stage.Load() == queued }

// next moves up to n wanted ops to the end of batch.
func (q *queue) next(batch []*op, n int) []*op {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := 0
	for ; i < len(q.ops) && n > 0; i++ {
		o := q.ops[i]
		if o.kind == undoOp || o.stage.CompareAndSwap(queued, running) {
			batch = append(batch, o)
			n--
		}
	}
	rest := copy(q.ops, q.ops[i:])
	clear(q.ops[rest:])
	q.ops = q.ops[:rest]
	return batch
}

// hasWaiting reports whether an op is waiting. It removes abandoned ones from the
// front.
func (q *queue) hasWaiting() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := 0
	for i < len(q.ops) && !q.ops[i].isWanted() {
		i++
	}
	if i > 0 {
		rest := copy(q.ops, q.ops[i:])
		clear(q.ops[rest:])
		q.ops = q.ops[:rest]
	}
	return len(q.ops) > 0 && !q.rejecting
}

func (q *queue) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

// close makes add fail from now on.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

// reject makes the waiting ops fail, too.
func (q *queue) reject() {
	q.mu.Lock()
	q.rejecting = true
	q.mu.Unlock()
	q.signal()
}
