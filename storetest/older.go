package storetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

func timeChecks() []check {
	return []check{
		{name: "an older instant gives no tokens", run: olderGivesNothing},
		{name: "clocks that take turns give no tokens", run: clocksTakeTurns},
		{name: "forgetting a full bucket gives no tokens", run: forgetting},
		{name: "live buckets are never dropped", run: neverDropped},
	}
}

// olderGivesNothing: a clock behind neither refills what is taken nor winds
// back what has been counted.
func olderGivesNothing(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := trickle(10)
	now := 20 * time.Second

	s.admit(now, debit(k, ask("rpm", d, 10)))
	for _, older := range []time.Duration{now - 1, now - time.Second, 0, -time.Hour} {
		s.refuse(older, debit(k, ask("rpm", d, 1)))
		s.refuse(now, debit(k, ask("rpm", d, 1)))
	}
	s.left(now, k, "rpm", d, 0)
	s.admit(now+4*time.Second, debit(k, ask("rpm", d, 2)))
	s.admitWithin(now, 4*time.Second, debit(k, ask("rpm", d, 2))) // what will be there in 4 s, by a clock 4 s behind
	s.left(now+4*time.Second, k, "rpm", d, 0)
	s.adjust(0, debit(k, ask("rpm", d, 3)))
	s.left(now+4*time.Second, k, "rpm", d, -3)
	s.refuse(now+7*time.Second, debit(k, ask("rpm", d, 1)))
	s.admit(now+8*time.Second, debit(k, ask("rpm", d, 1)))
	return s.err
}

// clocksTakeTurns lets two clocks 20 ms apart ask in turn. A bucket that goes
// back with the slow one refills the difference at each turn.
func clocksTakeTurns(ctx context.Context, e *env) error {
	d := define(10, 10, time.Second)
	admitted := int64(0)
	for i := range 200 {
		now := e.t0.Add(time.Duration(i) * time.Millisecond)
		if i%2 == 0 {
			now = now.Add(20 * time.Millisecond)
		}
		_, err := e.take(ctx, now, 0, debit(key("alice"), ask("rpm", d, 1)))
		if err == nil {
			admitted++
		} else if !errors.Is(err, zael.ErrExceeded) {
			return err
		}
	}
	// 219 ms at 10/s are 2 tokens.
	if admitted < 11 || admitted > 12 {
		return fmt.Errorf("burst 10 and 10/s, for 219 ms: got %d admitted, want 11 or 12", admitted)
	}
	return nil
}

// forgetting fills buckets, has the store see an instant at which they are full
// again, and asks at one at which they are not. A store that forgot them may
// admit only by a later instant.
func forgetting(ctx context.Context, e *env) error {
	d := trickle(10)
	for i := range 8 {
		s := e.script(ctx)
		k := key(fmt.Sprintf("entity-%d", i))
		s.admit(0, debit(k, ask("rpm", d, 10)))
		if s.err != nil {
			return s.err
		}
	}
	s := e.script(ctx)
	for i := range 100 {
		s.admit(time.Hour+time.Duration(i), debit(key(fmt.Sprintf("other-%d", i)), ask("rpm", d, 1)))
	}
	if s.err != nil {
		return s.err
	}
	for i, after := range []time.Duration{0, 1, time.Second, 9 * time.Second, 5 * time.Second, 10*time.Second - 1, 0, 2 * time.Second} {
		k := key(fmt.Sprintf("entity-%d", i))
		refilled := int64(after / time.Second)
		at, err := e.take(ctx, e.t0.Add(after), 0, debit(k, ask("rpm", d, refilled+1)))
		if err == nil && at < mustAt(e.t0.Add(time.Duration(refilled+1)*time.Second)) {
			return fmt.Errorf("a take of %d at %v of a bucket emptied at 0: got it admitted by %s, want a refusal",
				refilled+1, after, clock(at.Time()))
		}
		if err != nil && !errors.Is(err, zael.ErrExceeded) {
			return err
		}
	}
	return s.err
}

// mustAt is bucket.At of an instant near env.t0.
func mustAt(t time.Time) bucket.Instant {
	at, err := bucket.At(t)
	if err != nil {
		panic(err)
	}
	return at
}

// neverDropped empties many buckets and asks all of them again. How many depends on
// the pace of the store.
func neverDropped(ctx context.Context, e *env) error {
	const workers, fewest, most = 16, 150, 2000
	d := define(10, 10, time.Hour)
	round := func(from, to int, after time.Duration, want error) error {
		return together(workers, func(w int) error {
			for i := from + w; i < to; i += workers {
				_, err := e.take(ctx, e.t0.Add(after), 0, debit(key(fmt.Sprintf("entity-%d", i)), ask("rpm", d, 10)))
				if !errors.Is(err, want) {
					return fmt.Errorf("bucket %d of %d at %v: got %w, want %w", i, to, after, orNil(err), orNil(want))
				}
			}
			return nil
		})
	}
	begin := time.Now()
	if err := round(0, fewest, 0, nil); err != nil {
		return err
	}
	n := fewest
	if !e.short { // as many as it takes in a quarter of a second
		n = min(most, max(fewest, int(fewest*(250*time.Millisecond)/max(1, time.Since(begin)))))
	}
	if err := round(fewest, n, 0, nil); err != nil {
		return err
	}
	if err := round(0, n, 0, zael.ErrExceeded); err != nil {
		return err
	}
	return round(0, n, 59*time.Minute, zael.ErrExceeded)
}
