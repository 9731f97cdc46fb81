package dynamostore

import (
	"context"
	"fmt"
	"slices"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/pause"
)

// maxLimits is how many limits one operation may name of a bucket: an
// expression of the engine has at most 300 operators and 4096 bytes.
const maxLimits = 40

// op makes the operation on one bucket, from what is known of it. The charges
// are the op's to keep.
func (s *Store) op(k kind, at bucket.Instant, key zael.Key, charges []zael.Charge) *op {
	o := &op{
		kind: k, key: key, charges: charges, at: at, seen: at,
		id: s.random(), index: s.keys.bucketIndex(key), noTTL: s.config.VirtualTime,
	}
	if e := s.cache.get(key); e != nil {
		o.known, o.guess, o.seen = e.record, e.likely(at), max(at, e.latest)
	}
	return o
}

// run asks the engine until o has a verdict: applied, nothing, refused, stale,
// apart or contended; or throttledNow with an error, if others space the writes.
// After another error o.unsure tells whether the write may have been
// applied all the same.
//
// When ctx is done it makes no further call.
func (s *Store) run(ctx context.Context, o *op) (verdict, error) {
	for unanswered := 0; ; {
		if ctx.Err() != nil {
			return 0, s.translate(ctx, "writing a bucket", ctx.Err())
		}
		w, v, err := o.plan()
		switch v {
		case read:
			r, err := s.readBucket(ctx, o.key)
			if err != nil {
				return 0, err
			}
			s.cache.learn(o.key, r, o.at, nil)
			o.calls++
			o.learn(r)
			continue
		case send:
		case outside:
			if o.several && !o.unsure {
				return apart, nil // one of them is to blame
			}
			return 0, err
		case contended:
			s.stats.count(func(c *Stats) { c.Contended++ })
			if o.unsure {
				return 0, fmt.Errorf("dynamostore: an answer was lost, and others write all the time: %w", zael.ErrUnavailable)
			}
			return v, nil
		default:
			if o.lost > 0 { // a take that came out as none, and a copy may stand
				s.stats.count(func(c *Stats) { c.Repeated++ })
			}
			return v, nil
		}

		r, ok, err := s.send(ctx, o, &w)
		if err == nil {
			if o.answered(r, ok) {
				s.applied(o, o.lost > 1 || ok && o.lost > 0)
				return applied, nil
			}
			s.cache.learn(o.key, r, o.at, nil)
			if o.calls > 1 {
				_ = pause.Backoff(ctx, o.calls, againBase, againMost) // its error is found above
			}
			continue
		}
		if throttled(err) {
			s.stats.count(func(c *Stats) { c.Throttled++ })
			if o.spaced && !o.unsure && ctx.Err() == nil {
				return throttledNow, s.translate(ctx, "writing a bucket", err)
			}
		}
		switch fateOf(err) {
		case answeredNo:
			return 0, s.translate(ctx, "writing a bucket", err)
		case unknown:
			o.unsure = true
			o.lost++
			s.stats.count(func(c *Stats) { c.Unanswered++ })
		}
		if unanswered >= maxRetries || o.unsure && !o.repeats() || pause.Backoff(ctx, unanswered, retryBase, retryMost) != nil {
			return 0, s.translate(ctx, "writing a bucket", err)
		}
		unanswered++
	}
}

// send makes one call of o. What o takes can be given back only if its answer is
// heard, so the call goes on when ctx is done, for its own time.
func (s *Store) send(ctx context.Context, o *op, w *write) (r *record, ok bool, err error) {
	d := s.callTime(ctx)
	if o.kind != keeps { // which takes nothing, in the caller's goroutine
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return s.update(ctx, w)
}

// repeats tells whether o may be sent again when the fate of a first copy is
// unknown. Gives may not: given twice they would make tokens, and lost ones refill.
func (o *op) repeats() bool {
	return o.kind == takes || o.kind == adjusts && slices.ContainsFunc(o.charges, func(c zael.Charge) bool { return c.Amount > 0 })
}

// applied notes what a write has done; again if another copy may have done it too.
func (s *Store) applied(o *op, again bool) {
	var own []zael.Charge
	if o.kind == takes || o.kind == adjusts {
		own = o.charges
	}
	s.cache.learn(o.key, o.known, o.at, own)
	s.stats.count(func(c *Stats) {
		if again {
			c.Repeated++
		}
		for i := range o.charges {
			was, is := o.before.find(o.charges[i].Name), o.known.find(o.charges[i].Name)
			if was != nil && is != nil && was.text != is.text {
				c.Conversions++
				break
			}
		}
	})
}

// check finds what is wrong with an operation whatever the buckets are.
func (s *Store) check(ctx context.Context, debits []zael.Debit) error {
	if ctx.Err() != nil {
		return s.translate(ctx, "not tried", ctx.Err())
	}
	for i := range debits {
		if err := checkKey(debits[i].Key); err != nil {
			return err
		}
		charges := debits[i].Charges
		if n := limitsOf(charges); n > maxLimits {
			return invalid("charges", n, fmt.Sprintf("name more limits than the %d that one write to DynamoDB can", maxLimits))
		}
		for j := range charges {
			if err := checkLimitName(charges[j].Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// limitsOf is how many limits charges name, if that may be too many.
func limitsOf(charges []zael.Charge) int {
	if len(charges) <= maxLimits {
		return len(charges)
	}
	names := map[string]bool{}
	for i := range charges {
		names[charges[i].Name] = true
	}
	return len(names)
}

// shows writes the states of a take that took nothing: as kept, or under the
// definitions of the charges. A limit that is not there would begin at birth.
func shows(charges []zael.Charge, b coalesce.Bucket, at, seen bucket.Instant, kept bool, birth uint64) {
	for i := range charges {
		c := &charges[i]
		c.State, c.Receipt = b.State(c.Name), bucket.Receipt{}
		switch {
		case kept:
		case c.State.Absent():
			c.State = c.State.Redefine(c.Definition, at, birth)
		default:
			c.State = c.State.Redefine(c.Definition, seen, 0)
		}
	}
}
