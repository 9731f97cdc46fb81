package postgresstore

import (
	"slices"
	"sync"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/recent"
)

const (
	mostOps  = 2048 // in a batch
	mostRows = 64   // in a batch

	// leastPurge is the least length at which ops that nobody waits for are removed.
	leastPurge = 1024
)

// A queue has the ops that wait for a lane, and what is known of buckets. One batch of a bucket
// is in flight at a time from this process.
type queue struct {
	mu      sync.Mutex
	more    sync.Cond          // an op may be taken, or the queue was closed
	pending list               // ops whose buckets were free when they were put here
	busy    map[zael.Key]*list // of buckets in flight: the ops that wait for them
	known   *recent.Map[zael.Key, *row]
	running int  // batches in flight
	closed  bool // adds no more
	rejects bool // those that wait get errClosed
}

// A list is some ops, first in, first out.
type list struct {
	ops   []*op
	purge int // the length at which ops that nobody waits for are removed
}

func (l *list) push(o *op) {
	if len(l.ops) >= max(l.purge, leastPurge) {
		l.ops = slices.DeleteFunc(l.ops, func(o *op) bool { return !o.isWanted() })
		l.purge = 2 * len(l.ops)
	}
	l.ops = append(l.ops, o)
}

// A batch is ops that one call performs, and their buckets.
type batch struct {
	ops   []*op
	rows  []*row // in the order of their keys, as far as they are known, to be changed
	locks bool   // the buckets are locked first
	// several says that ops have several buckets, so that all rows are written or none.
	several bool
	alone   bool // the ops are all of the same buckets
}

// admits reports whether an op may go with those of a batch, whose buckets are in rows.
func (b *batch) admits(o *op, rows map[zael.Key]*row) bool {
	if o.locks() != b.locks || o.alone != b.alone || len(o.debits) > 1 != b.several {
		return false
	}
	return !b.alone || !slices.ContainsFunc(o.debits, func(d zael.Debit) bool { return rows[d.Key] == nil })
}

// split has each op of a batch go with those of the same buckets, and reports whether that is
// new.
func (b *batch) split() bool {
	if b.alone || len(b.rows) < 2 || len(b.ops) < 2 {
		return false
	}
	for _, o := range b.ops {
		o.alone = true
	}
	return true
}

func (q *queue) init(cached int) {
	q.more.L = &q.mu
	q.busy = map[zael.Key]*list{}
	q.known = recent.New[zael.Key, *row](cached)
}

func (q *queue) add(o *op) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed && o.kind != undoOp || q.rejects {
		return errClosed
	}
	q.place(o)
	return nil
}

// place puts o behind those that wait for a bucket of it, or where a lane takes it.
func (q *queue) place(o *op) {
	for i := range o.debits {
		if waiting := q.busy[o.debits[i].Key]; waiting != nil {
			waiting.push(o)
			return
		}
	}
	q.pending.push(o)
	q.more.Signal()
}

// next returns the next batch, when there is one; nil when the queue is closed and nothing is
// left to do.
func (q *queue) next() *batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if b := q.take(); b != nil {
			q.running++
			return b
		}
		if q.closed && (q.running == 0 || q.rejects) {
			q.more.Broadcast()
			return nil
		}
		q.more.Wait()
	}
}

// take returns a batch of ops whose buckets are free.
func (q *queue) take() *batch {
	b := new(batch)
	rows := map[zael.Key]*row{}
	rest := q.pending.ops[:0]
	for _, o := range q.pending.ops {
		switch {
		case len(b.ops) >= mostOps || len(rows) >= mostRows || len(b.ops) > 0 && !b.admits(o, rows):
			rest = append(rest, o)
			continue
		case !o.isWanted():
			continue
		}
		if key, blocked := q.blocks(o, rows); blocked {
			q.busy[key].push(o)
			continue
		}
		if o.kind != undoOp && !o.stage.CompareAndSwap(queued, running) {
			continue
		}
		b.locks, b.alone, b.several = o.locks(), o.alone, len(o.debits) > 1
		b.ops = append(b.ops, o)
		for j := range o.debits {
			key := o.debits[j].Key
			if rows[key] == nil {
				rows[key] = q.begin(key)
			}
		}
	}
	clear(q.pending.ops[len(rest):])
	q.pending.ops = rest
	if len(rest) > 0 {
		q.more.Signal() // another lane may go on
	}
	if len(b.ops) == 0 {
		return nil
	}
	for _, r := range rows {
		b.rows = append(b.rows, r)
	}
	slices.SortFunc(b.rows, func(x, y *row) int { return compareKeys(x.key, y.key) })
	return b
}

// blocks reports whether a bucket of o, which it returns, is in flight, but for those of the
// batch.
func (q *queue) blocks(o *op, own map[zael.Key]*row) (zael.Key, bool) {
	for i := range o.debits {
		if key := o.debits[i].Key; q.busy[key] != nil && own[key] == nil {
			return key, true
		}
	}
	return zael.Key{}, false
}

// begin marks a bucket as in flight, and returns a copy of what is known of it.
func (q *queue) begin(key zael.Key) *row {
	q.busy[key] = new(list)
	if r, ok := q.known.Get(key); ok {
		return r.clone()
	}
	return missing(key)
}

// learn notes the state of a bucket in flight. r must not change any more.
func (q *queue) learn(r *row) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.known.Put(r.key, r)
}

// forget drops what is known of a bucket.
func (q *queue) forget(key zael.Key) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.known.Delete(key)
}

// forgetAll drops what is known of all buckets.
func (q *queue) forgetAll() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.known.Clear()
}

// finish ends a batch. again are those of its ops that are to be performed again.
func (q *queue) finish(b *batch, again []*op) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running--
	var waiting []*op
	for _, r := range b.rows {
		waiting = append(waiting, q.busy[r.key].ops...)
		delete(q.busy, r.key)
	}
	for _, o := range again {
		if o.kind == undoOp || o.stage.CompareAndSwap(running, queued) {
			q.pending.ops = slices.Insert(q.pending.ops, 0, o)
		}
	}
	for _, o := range waiting {
		if o.isWanted() {
			q.place(o)
		}
	}
	if q.closed {
		q.more.Broadcast()
		return
	}
	q.more.Signal()
}

func (q *queue) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

// close makes add fail from now on.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.more.Broadcast()
}

// reject makes the waiting ops fail, too.
func (q *queue) reject() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed, q.rejects = true, true
	all := q.pending.ops
	q.pending.ops = nil
	for _, l := range q.busy {
		all = append(all, l.ops...)
		l.ops = nil
	}
	for _, o := range all {
		if o.stage.CompareAndSwap(queued, answered) {
			o.err = errClosed
			o.done <- struct{}{}
		}
	}
	q.more.Broadcast()
}
