package postgresstore

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/enginecall"
	"github.com/zeroae/zael/internal/pause"
)

const (
	// remembered is how long a refusal is remembered, and rememberedSlots how long one of a
	// bucket with slots, which are released at any moment.
	remembered      = time.Second
	rememberedSlots = 100 * time.Millisecond

	// undoFor is how long a store tries to find out whether a write was made whose answer was
	// lost, and to give back what nobody holds.
	undoFor = 30 * time.Second

	leastAttempt   = 100 * time.Millisecond // for an answer, if the caller has as long
	patientAttempt = 5 * time.Second        // for an answer, if no caller has a deadline

	retryBase, retryMost = 2 * time.Millisecond, 250 * time.Millisecond
)

// retries are those of reads, and of changes of administration.
//
//nolint:gochecknoglobals // a constant
var retries = enginecall.Retries{FateOf: fateOf, Most: 8, Base: retryBase, Longest: retryMost}

// lane performs batches until the queue is closed and empty.
func (s *Store) lane() {
	for {
		// Let callers that were just answered queue their next ops first, for few and large
		// batches.
		runtime.Gosched()
		b := s.queue.next()
		if b == nil {
			return
		}
		s.queue.finish(b, s.perform(b))
	}
}

// perform performs a batch and answers its ops. It returns those that are to be performed
// again, on what has become known of their buckets.
//
// A call that was surely not made is made again for half of the time that callers have. One
// that may have been made is repeated until that is known, for longer than they wait: what it
// took is given back then.
func (s *Store) perform(b *batch) (again []*op) {
	begun := time.Now()
	w := &writing{store: s, batch: b, deadline: b.deadline(begun)}
	left := w.deadline.Sub(begun)
	for try := 0; ; try++ {
		err := w.attempt()
		if err == nil {
			return s.answer(b, nil, w.again)
		}
		s.leaveStandby(err)
		waited, fate := time.Since(begun), fateOf(err)
		if fate == enginecall.Unknown && !w.sent {
			fate = enginecall.NotApplied
		}
		switch {
		case isLockTimeout(err) && !w.unsure && b.split():
			return s.answer(b, nil, b.ops)
		case fate == enginecall.Rejected && !w.unsure:
			return s.answer(b, err, nil)
		case fate == enginecall.Overtaken:
			s.stats.changed.Add(1)
		case fate == enginecall.NotApplied && !w.unsure && (!w.wanted() || waited > left/2 || !b.bounded()):
			return s.answer(b, err, nil)
		case fate == enginecall.Unknown:
			s.stats.unanswered.Add(1)
			w.unsure = true
		}
		if w.unsure && waited > left-left/8 {
			s.release(b, err)
		}
		if waited > left+undoFor || pause.Backoff(s.life, min(try, 8), retryBase, retryMost) != nil {
			s.strand(b)
			return s.answer(b, err, nil)
		}
	}
}

// release tells the callers of a batch that it is not known whether it was made. What it took
// is given back when that is known.
func (s *Store) release(b *batch, err error) {
	err = s.translate(s.life, "changing buckets", err)
	for _, o := range b.ops {
		if o.kind != undoOp && o.stage.Load() == running {
			o.early = err
			if o.stage.CompareAndSwap(running, abandoned) {
				o.done <- struct{}{}
			}
		}
	}
}

// bounded reports whether a caller has a deadline, until which a failed call is made again.
// Without one, callers are told at once.
func (b *batch) bounded() bool {
	return slices.ContainsFunc(b.ops, func(o *op) bool { return !o.until.IsZero() })
}

// strand counts takes of which it is not known whether they were made, and forgets the buckets.
func (s *Store) strand(b *batch) {
	for _, o := range b.ops {
		if o.kind == takeOp && o.once.GivenBack() {
			s.stats.stranded.Add(1)
		}
	}
	for _, r := range b.rows {
		s.queue.forget(r.key)
	}
}

// deadline returns the latest deadline of a batch's callers, or some time from now if one has
// none.
func (b *batch) deadline(begun time.Time) (latest time.Time) {
	for _, o := range b.ops {
		if o.until.IsZero() {
			return begun.Add(2 * patientAttempt)
		}
		if o.until.After(latest) {
			latest = o.until
		}
	}
	return latest
}

// answer answers the ops of a batch, except those that are to be performed again. err is that
// of all, if it is not nil.
func (s *Store) answer(b *batch, err error, again []*op) []*op {
	if err != nil {
		err = s.translate(s.life, "changing buckets", err)
	}
	for _, o := range b.ops {
		if slices.Contains(again, o) {
			continue
		}
		if err != nil {
			o.err = err
		}
		switch {
		case o.kind == undoOp:
			s.undone(o)
		case o.stage.CompareAndSwap(running, answered):
			o.done <- struct{}{}
		case o.kind == takeOp && o.err == nil && o.once.GivenBack():
			s.giveBack(o.undo())
		}
	}
	return again
}

// giveBack queues an undo. A store that closes performs it first.
func (s *Store) giveBack(u *op) {
	u.until = time.Now().Add(undoFor)
	if s.queue.add(u) != nil {
		s.stats.stranded.Add(1)
	}
}

// undone notes how an undo went.
func (s *Store) undone(u *op) {
	if u.err == nil {
		s.stats.undone.Add(1)
	} else {
		s.stats.stranded.Add(1)
	}
}

// remembers reports whether a refusal of a bucket may be remembered.
func (q *queue) remembers(key zael.Key) bool {
	r := q.recall(key)
	return r != nil && r.refuses
}

// recall returns what was known of a bucket a moment ago, or nil.
func (q *queue) recall(key zael.Key) *row {
	q.mu.Lock()
	defer q.mu.Unlock()
	r, ok := q.known.Get(key)
	if !ok || !r.refuses || r.read.IsZero() {
		return nil
	}
	lasts := remembered
	if len(r.Holders) > 0 {
		lasts = rememberedSlots
	}
	if time.Since(r.read) >= lasts {
		return nil
	}
	return r
}

// recalls answers a take that a remembered refusal refuses, and reports whether it did: if one
// bucket of it is known to have too little, and all are known under the definitions of the
// take.
func (s *Store) recalls(o *op) bool {
	if s.trial.Direct || len(o.debits) == 0 || !s.queue.remembers(o.debits[0].Key) {
		return false
	}
	outcome := bucket.Fits
	rows := make([]bucket.Record, len(o.debits))
	for i := range o.debits {
		d := &o.debits[i]
		r := s.queue.recall(d.Key)
		if r == nil || d.Bypass || r.settings > d.SettingsRev || !r.under(d.Charges) {
			return false
		}
		rows[i] = r.Record
		rows[i].Own = d.Holder
		outcome = max(outcome, rows[i].Take(d.Charges, o.at, o.maxWait, rand.Uint64()))
	}
	if outcome != bucket.Exceeds {
		return false
	}
	for i := range o.debits {
		rows[i].Finish(bucket.Exceeds, o.debits[i].Charges, o.at)
	}
	s.stats.remembered.Add(1)
	return true
}

// under reports whether a bucket has all limits of charges under their very definitions, so
// that a take that is refused changes nothing.
func (r *row) under(charges []zael.Charge) bool {
	for i := range charges {
		c := &charges[i]
		if !slices.ContainsFunc(r.Limits, func(l bucket.LimitState) bool { return l.Name == c.Name && l.State.Definition == c.Definition }) {
			return false
		}
	}
	return true
}
