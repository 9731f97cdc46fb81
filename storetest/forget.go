package storetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zeroae/zael"
)

func forgetChecks() []check {
	return []check{
		{name: "names that are used once do not add up", run: forgetsNames},
		{name: "limits in use are not forgotten", run: keepsLimits},
		{name: "forgetting a full limit gives no tokens", run: forgettingLimit},
		{name: "a receipt of a forgotten limit gives nothing to the next", run: forgottenReceipt},
		{name: "a changed limit is remembered for an hour", run: keepsRevisions},
	}
}

// once is how many names a script uses once: so many that a store is to have
// forgotten half of them.
const once = 70

// names takes one token of each of so many limits of buckets, which are full again
// after a second, and of the limit busy, which keeps the bucket in use.
func (s *script) names(after, apart time.Duration, keys ...zael.Key) {
	for i := range once {
		for _, k := range keys {
			if i == 0 {
				s.admit(after, debit(k, ask("busy", never(10), 1)))
			}
			s.admit(after+time.Duration(i)*apart, debit(k, ask(fmt.Sprintf("once-%d", i), trickle(10), 1)))
		}
	}
}

// kept reads the limits of a bucket.
func (s *script) kept(after time.Duration, k zael.Key) (all []zael.LimitState) {
	s.do(func() error {
		_, got, err := s.e.read(s.ctx, s.e.t0.Add(after), k)
		if err == nil {
			all = got[0].Limits
		}
		return err
	})
	return all
}

// forgetsNames uses each name once, hours apart.
func forgetsNames(ctx context.Context, e *env) error {
	s := e.script(ctx)
	const apart = 3 * time.Hour
	s.names(0, apart, key("alice"))
	if got := len(s.kept(once*apart, key("alice"))); s.err == nil && got > once/2 {
		return fmt.Errorf("limits of a bucket of which %d were named once each, %v apart: got %d, want half as many at most", once, apart, got)
	}
	return s.err
}

// keepsLimits: while others are forgotten, a limit that is not full stays as it is.
func keepsLimits(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := never(10)
	taken := debit(k, ask("rpm", d, 7))

	s.admit(0, taken)
	s.names(0, 3*time.Hour, k)
	now := once * 3 * time.Hour
	s.left(now, k, "rpm", d, 3)
	s.left(now, k, "busy", d, 9)
	s.refuse(now, debit(k, ask("rpm", d, 4)))
	s.adjust(now, debit(k, back(taken.Charges[0], 7)))
	s.left(now, k, "rpm", d, 10)
	return s.err
}

// forgettingLimit is as forgetting, of one limit of a bucket that is in use.
func forgettingLimit(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := trickle(10)
	instants := []time.Duration{0, 9 * time.Second, 10*time.Second - 1}
	keys := []zael.Key{key("alice"), key("bob"), key("carol")}
	for _, k := range keys {
		s.admit(0, debit(k, ask("rpm", d, 10)))
	}
	s.names(12*time.Second, 2500*time.Millisecond, keys...)
	for i, after := range instants {
		s.do(func() error {
			n := int64(after/time.Second) + 1
			at, err := e.take(ctx, e.t0.Add(after), 0, debit(keys[i], ask("rpm", d, n)))
			if err == nil && at < mustAt(e.t0.Add(time.Duration(n)*time.Second)) {
				return fmt.Errorf("a take of %d at %v of a limit emptied at 0: got it admitted by %s, want a refusal", n, after, clock(at.Time()))
			}
			if !errors.Is(err, zael.ErrExceeded) {
				return err
			}
			return nil
		})
	}
	return s.err
}

// forgottenReceipt has a receipt that is worth something when its limit is full:
// another, later charge was given back first.
func forgottenReceipt(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d, larger := define(20, 1, time.Hour), define(30, 1, time.Hour)
	first, second := debit(k, ask("rpm", d, 10)), debit(k, ask("rpm", d, 10))

	s.admit(0, first)
	s.admit(0, second)
	s.adjust(0, debit(k, back(first.Charges[0], 10)))
	s.names(12*time.Hour, 2500*time.Millisecond, k) // full since 10 h; the second charge owns the refill up to 20 h
	now := 13 * time.Hour
	next := debit(k, ask("rpm", larger, 10))
	s.admit(now, next)
	s.adjust(now, debit(k, back(second.Charges[0], 10)))
	s.left(now, k, "rpm", larger, 20)
	s.adjust(now, debit(k, back(next.Charges[0], 10)))
	s.left(now, k, "rpm", larger, 30)
	return s.err
}

// keepsRevisions: a process that knows the limits from before a change is told so,
// even if the changed limit has long been full.
func keepsRevisions(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	rev := e.t0.UnixMicro()
	old, changed := stored(trickle(10), rev-1), stored(trickle(20), rev)

	s.admit(-time.Second, debit(k, ask("rpm", old, 1)))
	s.admit(0, debit(k, ask("rpm", changed, 1)))
	s.names(time.Minute, 20*time.Second, k) // until 25 min
	s.do(func() error {
		_, err := e.take(ctx, e.t0.Add(50*time.Minute), 0, debit(k, ask("rpm", old, 1)))
		if !errors.Is(err, zael.ErrStaleLimits) {
			return fmt.Errorf("a take of a limit that was changed 50 min ago, as it was before: got %w, want zael.ErrStaleLimits", orNil(err))
		}
		return nil
	})
	return s.err
}
