package sqlitestore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// An op is one operation on its way through the writer. It has copies of its
// arguments: a caller that gives up may use its own again.
type op struct {
	kind    kind
	at      bucket.Instant
	hour    int64 // of at, since 1970
	maxWait time.Duration
	debits  []zael.Debit
	charges []zael.Charge // of all debits
	change  func(*txn) error

	err   error
	stage atomic.Int32
	done  chan struct{} // told once when the stage is answered
}

type kind uint8

const (
	takes kind = iota
	adjusts
	undoes  // an adjust that also uncounts the takes
	changes // all else, by change
)

// The stages of an op. Its caller may leave it from the first two.
const (
	queued   int32 = iota
	running        // part of a transaction
	answered       // the caller has been told, or is about to be
	left           // the caller has gone
)

// newOp is an op that was answered before, for its slices and its channel, or a
// new one.
func (s *Store) newOp(k kind) *op {
	o, ok := s.ops.Get().(*op)
	if !ok {
		o = &op{done: make(chan struct{}, 1)}
	}
	o.kind, o.err, o.change, o.maxWait = k, nil, nil, 0
	o.debits, o.charges = o.debits[:0], o.charges[:0]
	o.stage.Store(queued)
	return o
}

// load copies the arguments of Take and Adjust.
func (o *op) load(now time.Time, debits []zael.Debit) error {
	at, err := instantOf(now)
	if err != nil {
		return err
	}
	o.at, o.hour = at, hourOf(now)
	for i := range debits {
		if err := checkKey(debits[i].Key); err != nil {
			return err
		}
		for j := range debits[i].Charges {
			if err := checkText("limit", debits[i].Charges[j].Name); err != nil {
				return err
			}
		}
		o.charges = append(o.charges, debits[i].Charges...)
	}
	rest := o.charges
	for i := range debits {
		n := len(debits[i].Charges)
		o.debits = append(o.debits, zael.Debit{Key: debits[i].Key, Charges: rest[:n:n]})
		rest = rest[n:]
	}
	return nil
}

func instantOf(now time.Time) (bucket.Instant, error) {
	at, err := bucket.At(now)
	if err != nil {
		return 0, &zael.ValidationError{Field: "now", Reason: err.Error()}
	}
	return at, nil
}

// unload writes what came out of it into the caller's debits.
func (o *op) unload(debits []zael.Debit) {
	rest := o.charges
	for i := range debits {
		for j := range debits[i].Charges {
			ch := &debits[i].Charges[j]
			ch.State = rest[0].State
			if o.kind == takes {
				ch.Receipt = rest[0].Receipt
			}
			rest = rest[1:]
		}
	}
}

// undo returns the op that gives back what a take took.
func (o *op) undo() *op {
	for i := range o.debits {
		d := &o.debits[i]
		for j := range d.Charges {
			d.Charges[j].Amount = -d.Charges[j].Amount
		}
		// One of 0 would bring its limit under the definition of the take.
		d.Charges = slices.DeleteFunc(d.Charges, func(c zael.Charge) bool { return c.Amount == 0 })
	}
	u := &op{kind: undoes, at: o.at, hour: o.hour, debits: o.debits, charges: o.charges, done: make(chan struct{}, 1)}
	u.stage.Store(left)
	return u
}

// release keeps an op for another time that nobody else knows any more.
func (s *Store) release(o *op) {
	clear(o.debits)
	clear(o.charges) // whose names it need not keep alive
	o.change = nil
	s.ops.Put(o)
}

// submit has the writer do o and waits for the answer. If that does not come in
// time o must not be used any more.
func (q *queue) submit(ctx context.Context, o *op) (inTime bool, err error) {
	if ctx.Err() != nil {
		return false, contextError(ctx, "not tried")
	}
	if err := q.add(o); err != nil {
		return false, err
	}
	select {
	case <-o.done:
		return true, o.err
	case <-ctx.Done():
	}
	if o.stage.CompareAndSwap(queued, left) {
		return false, contextError(ctx, "gave up before its turn to write, nothing was changed")
	}
	if o.stage.CompareAndSwap(running, left) {
		what := "gave up while it was written, which may have been done"
		if o.kind == takes {
			what = "gave up while it was written, what was taken will be given back"
		}
		return false, contextError(ctx, what)
	}
	<-o.done // at once
	return true, o.err
}

// checkKey refuses what cannot be told apart in the file.
func checkKey(k zael.Key) error {
	if err := checkText("entity", k.Entity); err != nil {
		return err
	}
	return checkText("resource", k.Resource)
}

// checkText: SQLite's functions and tools take a zero byte for the end of a
// text, and JSON has no place for what is not UTF-8.
func checkText(field, s string) error {
	if strings.IndexByte(s, 0) >= 0 {
		return &zael.ValidationError{Field: field, Value: s, Reason: "has a zero byte in it"}
	}
	if !utf8.ValidString(s) {
		return &zael.ValidationError{Field: field, Value: s, Reason: "is not UTF-8"}
	}
	return nil
}

// Take implements zael.BucketStore.
func (s *Store) Take(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
	return now, s.bucketOp(ctx, takes, now, maxWait, debits)
}

// Adjust implements zael.BucketStore.
func (s *Store) Adjust(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
	return now, s.bucketOp(ctx, adjusts, now, 0, debits)
}

func (s *Store) bucketOp(ctx context.Context, k kind, now time.Time, maxWait time.Duration, debits []zael.Debit) error {
	o := s.newOp(k)
	o.maxWait = maxWait
	if err := o.load(now, debits); err != nil {
		s.release(o)
		return err
	}
	inTime, err := s.queue.submit(ctx, o)
	if !inTime {
		return err
	}
	o.unload(debits)
	s.release(o)
	return err
}

// change has f run in a transaction. f may not refer to what its caller uses.
func (s *Store) change(ctx context.Context, f func(*txn) error) error {
	o := s.newOp(changes)
	o.change = f
	inTime, err := s.queue.submit(ctx, o)
	if inTime {
		s.release(o)
	}
	return err
}

// A queue has the ops that wait for the writer, first come, first served.
type queue struct {
	mu     sync.Mutex
	ops    []*op
	purge  int  // the length at which those that were left are taken out
	closed bool // no more are taken in
	gone   bool // those that wait are turned away

	wake chan struct{} // told that there is something new
}

// enoughLeft is how many ops the queue has at least before it is purged.
const enoughLeft = 1024

func (q *queue) init() {
	q.purge = enoughLeft
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
			if o.waits() {
				kept = append(kept, o)
			}
		}
		clear(q.ops[len(kept):])
		q.ops = kept
		q.purge = max(enoughLeft, 2*len(kept))
	}
	q.ops = append(q.ops, o)
}

// waits tells whether o is still wanted.
func (o *op) waits() bool { return o.kind == undoes || o.stage.Load() == queued }

// take moves up to n ops that are wanted to the end of batch.
func (q *queue) take(batch []*op, n int) []*op {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := 0
	for ; i < len(q.ops) && n > 0; i++ {
		o := q.ops[i]
		if o.kind == undoes || o.stage.CompareAndSwap(queued, running) {
			batch = append(batch, o)
			n--
		}
	}
	rest := copy(q.ops, q.ops[i:])
	clear(q.ops[rest:])
	q.ops = q.ops[:rest]
	return batch
}

// wanted tells whether anybody waits. It forgets those in front who do not.
func (q *queue) wanted() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := 0
	for i < len(q.ops) && !q.ops[i].waits() {
		i++
	}
	if i > 0 {
		rest := copy(q.ops, q.ops[i:])
		clear(q.ops[rest:])
		q.ops = q.ops[:rest]
	}
	return len(q.ops) > 0 && !q.gone
}

func (q *queue) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

// close takes no more in.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

// abandon turns away those that wait, too.
func (q *queue) abandon() {
	q.mu.Lock()
	q.gone = true
	q.mu.Unlock()
	q.signal()
}
