package dynamostore

import (
	"context"
	"errors"
	"fmt"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/enginecall"
	"github.com/zeroae/zael/internal/pause"
)

// writingBucket is what run does, in its errors.
const writingBucket = "writing a bucket"

// newWrite returns the write of a batch, from what was last seen of its bucket.
func (s *Store) newWrite(b coalesce.Batch) *protocol.BucketWrite {
	w := &protocol.BucketWrite{Batch: b, ID: s.random(), Index: s.keys.bucketIndex(b.Key), NoExpiry: s.trial.VirtualTime}
	w.Begin(s.cache.last(b.Key))
	return w
}

// run makes the calls of a write until it is finished, a call fails for good, or ctx is done.
// The error is nil unless the outcome is Failed or Throttled. If a write fails after a lost
// answer it may have been applied: see BucketWrite.LostAnswers.
func (s *Store) run(ctx context.Context, w *protocol.BucketWrite) (coalesce.Outcome, error) {
	for retries := 0; ; {
		if ctx.Err() != nil {
			return coalesce.Failed, s.translate(ctx, writingBucket, ctx.Err())
		}
		plan := w.Plan()
		switch plan.Action {
		case protocol.Finish:
			return s.finish(w, &plan)
		case protocol.Read:
			if err := s.readKnown(ctx, w); err != nil {
				return coalesce.Failed, err
			}
			continue
		case protocol.Send:
		}
		applied, err := s.send(ctx, w, &plan.Update)
		if err == nil {
			if applied {
				return coalesce.Applied, nil
			}
			continue // the guess was wrong
		}
		outcome, retry := s.callFailed(ctx, w, err)
		if !retry || retries >= maxRetries || pause.Backoff(ctx, retries, retryBase, retryMost) != nil {
			return outcome, s.translate(ctx, writingBucket, err)
		}
		retries++
	}
}

// finish returns the outcome of a plan that has one, and counts.
func (s *Store) finish(w *protocol.BucketWrite, plan *protocol.Plan) (coalesce.Outcome, error) {
	switch {
	case errors.Is(plan.Err, zael.ErrContention):
		s.stats.count(func(c *Stats) { c.Contended++ })
		if w.LostAnswers() > 0 {
			return coalesce.Failed, fmt.Errorf("dynamostore: an answer was lost, and other processes keep writing the bucket: %w", zael.ErrUnavailable)
		}
	case plan.Err == nil && w.LostAnswers() > 0: // a take that comes to nothing, and of which a copy may stand
		s.stats.count(func(c *Stats) { c.Repeated++ })
	}
	return plan.Outcome, plan.Err
}

// readKnown reads the bucket's item for a write that cannot be planned without it.
func (s *Store) readKnown(ctx context.Context, w *protocol.BucketWrite) error {
	r, err := s.readBucket(ctx, w.Key)
	if err != nil {
		return err
	}
	s.cache.observe(w.Key, r, w.At, nil)
	w.Learn(r)
	return nil
}

// send makes one call of a write, and reports whether the write is applied. After a wrong
// guess that was not the first it waits.
func (s *Store) send(ctx context.Context, w *protocol.BucketWrite, u *protocol.Update) (applied bool, err error) {
	r, ok, err := s.call(ctx, w, u)
	if err != nil {
		return false, err
	}
	if w.Answered(r, ok) {
		s.countApplied(w, r, ok)
		if r.Birth() == w.ID { // it made the item
			s.listResource(ctx, w.Key.Resource)
		}
		return true, nil
	}
	s.cache.observe(w.Key, r, w.At, nil)
	if w.Calls() > 1 {
		_ = pause.Backoff(ctx, w.Calls(), raceBase, raceMost) // run finds its error in ctx
	}
	return false, nil
}

// call makes one call of a write. What a write takes can be given back only if its answer is
// heard, so the call goes on when ctx is done, for its own time.
func (s *Store) call(ctx context.Context, w *protocol.BucketWrite, u *protocol.Update) (r *protocol.Record, ok bool, err error) {
	timeout := s.callTime(ctx)
	if w.Kind != coalesce.StoreDefinitions { // which takes nothing, in the caller's goroutine
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return s.updateItem(ctx, u)
}

// countApplied notes a write that is applied: by the last call if ok, or else by an earlier one.
func (s *Store) countApplied(w *protocol.BucketWrite, r *protocol.Record, ok bool) {
	var own []zael.Charge
	if w.Kind == coalesce.Take || w.Kind == coalesce.Adjust {
		own = w.Charges
	}
	s.cache.observe(w.Key, r, w.At, own)
	s.cache.owe(w.Key, w.Owes())
	repeated := w.LostAnswers() > 1 || ok && w.LostAnswers() > 0 // another copy may be applied too
	s.stats.count(func(c *Stats) {
		if repeated {
			c.Repeated++
		}
		if w.Redefined() {
			c.Conversions++
		}
	})
}

// callFailed notes a call that failed. It returns the outcome of the write, unless the call
// is to be tried again.
func (s *Store) callFailed(ctx context.Context, w *protocol.BucketWrite, err error) (outcome coalesce.Outcome, retry bool) {
	if throttled(err) {
		s.stats.count(func(c *Stats) { c.Throttled++ })
		callerBacksOff := !s.trial.Direct && w.Kind != coalesce.StoreDefinitions
		if callerBacksOff && w.LostAnswers() == 0 && ctx.Err() == nil {
			return coalesce.Throttled, false
		}
	}
	switch fateOf(err) {
	case enginecall.Rejected:
		return coalesce.Failed, false
	case enginecall.Unknown:
		w.Lost()
		s.stats.count(func(c *Stats) { c.Unanswered++ })
	case enginecall.NotApplied, enginecall.Overtaken:
	}
	return coalesce.Failed, w.LostAnswers() == 0 || w.Repeats()
}
