package coalesce_test

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/testrig/schedules"
)

// A refusal is remembered for a second, as a mark: a take of less asks the engine, and so
// does one that comes when enough has refilled.
func TestRefusalsAreRemembered(t *testing.T) {
	t.Parallel()
	bubble(t, 0, func(b *bench) {
		t := b.t
		d := define(10, 10, time.Second)
		b.take(key("a"), charge("n", d, 9))
		b.want("more than there is", b.take(key("a"), charge("n", d, 5)), coalesce.Refused)
		b.wantWrites(2)
		again := b.take(key("a"), charge("n", d, 5))
		if b.want("again", again, coalesce.Refused); !again.Local {
			t.Error("again: got an answer of the engine, want one from memory")
		}
		b.wantWrites(2)
		b.want("less", b.take(key("a"), charge("n", d, 1)), coalesce.Applied)
		b.wantWrites(3)
		if m := b.take(key("a"), charge("n", d, 1)); m.Outcome != coalesce.Refused || !m.Local {
			t.Errorf("after the last: got outcome %d, local %v, want it refused by what the last take left", m.Outcome, m.Local)
		}
		wait(100 * time.Millisecond)
		b.want("refilled", b.take(key("a"), charge("n", d, 1)), coalesce.Applied)
		b.wantWrites(4)
		wait(999 * time.Millisecond)
		if _, ok := b.Recall(key("a")); !ok {
			t.Error("after 0.999 s: got nothing, want it remembered")
		}
		wait(time.Millisecond)
		if _, ok := b.Recall(key("a")); ok {
			t.Error("after a second: got it, want it forgotten")
		}
	})
}

// What nobody has swept yet does not count for longer.
func TestRefusalExpiresBeforeItIsSwept(t *testing.T) {
	t.Parallel()
	bubble(t, 0, func(b *bench) {
		d := slow(10)
		b.take(key("b"), charge("n", d, 11)) // is swept a second later, and a second after that
		wait(500 * time.Millisecond)
		b.take(key("a"), charge("n", d, 11))
		wait(1200 * time.Millisecond)
		b.want("a second later", b.take(key("a"), charge("n", d, 11)), coalesce.Refused)
		b.wantWrites(3)
	})
}

// A give whose fate is unknown may have been given.
func TestUnknownGiveClearsRefusal(t *testing.T) {
	t.Parallel()
	bubble(t, 0, func(b *bench) {
		t := b.t
		d := slow(10)
		taken := b.take(key("a"), charge("n", d, 10))
		b.want("take", b.take(key("a"), charge("n", d, 1)), coalesce.Refused)
		b.engine.fault = func(n int, batch *coalesce.Batch) *coalesce.Answer {
			if n != 2 {
				return nil
			}
			b.engine.mu.Lock()
			defer b.engine.mu.Unlock()
			b.engine.apply(batch)
			return &coalesce.Answer{Outcome: coalesce.Failed, Err: errEngine}
		}
		give := charge("n", d, -3)
		give.Receipt = coalesce.Taken(&give, taken.Bucket, nil, 0).Receipt()
		b.Do(t.Context(), key("a"), &coalesce.Op{Kind: coalesce.Adjust, Charges: []zael.Charge{give}, At: instant()})
		b.want("after it", b.take(key("a"), charge("n", d, 3)), coalesce.Applied)
	})
}

// What this process gives back is there at once; so is what Forget is called for.
func TestGiveClearsRefusal(t *testing.T) {
	t.Parallel()
	bubble(t, 0, func(b *bench) {
		t := b.t
		d := slow(10)
		taken := b.take(key("a"), charge("n", d, 10))
		b.want("take", b.take(key("a"), charge("n", d, 1)), coalesce.Refused)
		give := charge("n", d, -3)
		give.Receipt = coalesce.Taken(&give, taken.Bucket, nil, 0).Receipt()
		b.Do(t.Context(), key("a"), &coalesce.Op{Kind: coalesce.Adjust, Charges: []zael.Charge{give}, At: instant()})
		b.want("after the give", b.take(key("a"), charge("n", d, 3)), coalesce.Applied)
		b.want("and no more", b.take(key("a"), charge("n", d, 1)), coalesce.Refused)
		b.engine.mu.Lock()
		delete(b.engine.buckets, key("a")) // deleted
		b.engine.mu.Unlock()
		b.Forget(key("a"))
		b.want("after Forget", b.take(key("a"), charge("n", d, 10)), coalesce.Applied)
	})
}

// A refusal under one definition says nothing about another.
func TestRefusalIsOfItsDefinition(t *testing.T) {
	t.Parallel()
	bubble(t, 0, func(b *bench) {
		d := slow(10)
		d.Rev = 5
		raised := slow(20)
		raised.Rev = 6
		b.take(key("a"), charge("n", d, 10))
		b.want("take", b.take(key("a"), charge("n", d, 1)), coalesce.Refused)
		b.want("raised", b.take(key("a"), charge("n", raised, 1)), coalesce.Applied)
		b.want("the old one", b.take(key("a"), charge("n", d, 1)), coalesce.Stale)
		named := slow(20) // by a call: as the bucket's
		b.want("named by a call", b.take(key("a"), charge("n", named, 10)), coalesce.Refused)
		writes := b.engine.writes()
		b.want("again", b.take(key("a"), charge("n", named, 10)), coalesce.Refused)
		b.wantWrites(writes)
	})
}

// An answer that was on its way when the bucket was changed otherwise is not
// remembered.
func TestLateRefusalIsNotRemembered(t *testing.T) {
	t.Parallel()
	bubble(t, flight, func(b *bench) {
		t := b.t
		d := slow(10)
		b.take(key("a"), charge("n", d, 10))
		m := taking(charge("n", d, 1))
		b.begin(t.Context(), key("a"), m)
		b.Forget(key("a"))
		b.callers.Wait()
		b.want("take", m, coalesce.Refused)
		if _, ok := b.Recall(key("a")); ok {
			t.Error("got the refusal, want it forgotten")
		}
	})
}

// The writes of a throttled bucket are spaced out, further with each throttle,
// and closer again with each answer.
func TestThrottledWritesAreSpaced(t *testing.T) {
	t.Parallel()
	bubble(t, time.Millisecond, func(b *bench) {
		t := b.t
		d := slow(1_000_000)
		throttled := 12
		b.engine.fault = func(n int, _ *coalesce.Batch) *coalesce.Answer {
			if n < throttled {
				return &coalesce.Answer{Outcome: coalesce.Throttled, Err: errEngine}
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		line := make([]*coalesce.Op, 10)
		for i := range line {
			line[i] = taking(charge("n", d, 1))
			b.begin(ctx, key("a"), line[i])
		}
		b.callers.Wait()
		for _, m := range line {
			b.want("take", m, coalesce.Applied)
		}
		gap := float64(20 * time.Millisecond)
		for i := 1; i <= throttled; i++ {
			got := float64(b.engine.begun[i].Sub(b.engine.begun[i-1]))
			if i > 1 {
				gap = min(gap*1.5, float64(500*time.Millisecond))
			}
			if got < gap*0.74 || got > gap*1.26+float64(time.Millisecond) {
				t.Errorf("gap after throttle %d: got %v, want %v and a quarter of it more or less", i, time.Duration(got), time.Duration(gap))
			}
		}
		n := b.engine.writes()
		for range 200 {
			b.take(key("a"), charge("n", d, 1))
		}
		begun := b.engine.begun[n:]
		if early, late := begun[20].Sub(begun[0]), begun[199].Sub(begun[179]); late > early/10 {
			t.Errorf("20 writes: got %v at first and %v later, want them closer by ten times", early, late)
		}
	})
}

// Whose time is nearly up gets one more try, however wide the gap.
func TestThrottledLastTry(t *testing.T) {
	t.Parallel()
	bubble(t, time.Millisecond, func(b *bench) {
		t := b.t
		d := slow(100)
		throttled := 12
		b.engine.fault = func(n int, _ *coalesce.Batch) *coalesce.Answer {
			if n < throttled {
				return &coalesce.Answer{Outcome: coalesce.Throttled, Err: errEngine}
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		long := taking(charge("n", d, 1))
		b.begin(ctx, key("a"), long)
		for b.engine.writes() < throttled {
			wait(time.Millisecond)
		}
		short, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer stop()
		m := taking(charge("n", d, 1))
		begin := time.Now()
		b.begin(short, key("a"), m)
		b.callers.Wait()
		b.want("has 200 ms", m, coalesce.Applied)
		if got := time.Since(begin); got < 130*time.Millisecond || got > 150*time.Millisecond {
			t.Errorf("answered after %v, want it 60 ms before its deadline", got)
		}
	})
}

// Whose time ends is told why.
func TestThrottledUntilTheDeadline(t *testing.T) {
	t.Parallel()
	bubble(t, time.Millisecond, func(b *bench) {
		t := b.t
		b.engine.fault = func(int, *coalesce.Batch) *coalesce.Answer {
			return &coalesce.Answer{Outcome: coalesce.Throttled, Err: errEngine}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		m := taking(charge("n", slow(10), 1))
		b.Do(ctx, key("a"), m)
		if m.Outcome != coalesce.Failed || !errors.Is(m.Err, context.DeadlineExceeded) || !errors.Is(m.Err, errEngine) {
			t.Errorf("got outcome %d, %v, want the deadline and the throttle", m.Outcome, m.Err)
		}
	})
}

// A take without a deadline fails after some throttles.
func TestThrottledWithoutDeadline(t *testing.T) {
	t.Parallel()
	bubble(t, time.Millisecond, func(b *bench) {
		b.engine.fault = func(int, *coalesce.Batch) *coalesce.Answer {
			return &coalesce.Answer{Outcome: coalesce.Throttled, Err: errEngine}
		}
		b.want("take", b.take(key("a"), charge("n", slow(10), 1)), coalesce.Failed)
		b.wantWrites(5)
	})
}

// Of many buckets, a million in a long run, nothing is left when they are idle, and of those that
// refuse no more than a bound.
//
//nolint:paralleltest // it measures the heap
func TestMemoryIsBounded(t *testing.T) {
	n := 12_000
	if schedules.Long(t) {
		n = 1_000_000
	}
	synctest.Test(t, func(t *testing.T) {
		d := slow(1)
		empty := bucket.State{}.Redefine(d, instant(), birth)
		empty.Mark += 1000
		g := coalesce.New(blank{limits{"n": empty}}, coalesce.Config{MaxLimits: 1, Remembered: 2000, Tries: 1, Go: func(f func()) { f() }})
		before := heap()
		for i := range n {
			k := zael.Key{Entity: strconv.Itoa(i), Resource: "r"}
			for amount := range int64(2) {
				g.Do(t.Context(), k, taking(charge("n", d, amount+1)))
			}
		}
		if got := g.Len(); got == 0 || got > 2064 {
			t.Errorf("refusals remembered: got %d, want some and 2000 at most", got)
		}
		wait(3 * time.Second)
		if got := g.Len(); got != 0 {
			t.Errorf("buckets kept when idle: got %d, want none", got)
		}
		if after := heap(); after > before+4<<20 {
			t.Errorf("heap: got %d bytes more, want 4 MB at most", after-before)
		}
		runtime.KeepAlive(g)
	})
}

// blank admits 1 and refuses 2, of any bucket.
type blank struct{ bucket limits }

func (e blank) Write(_ context.Context, b *coalesce.Batch) coalesce.Answer {
	a := coalesce.Answer{Bucket: e.bucket, At: b.At, Seen: b.At}
	if b.Charges[0].Amount > 1 {
		a.Outcome = coalesce.Refused
	}
	return a
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A take that was throttled before its batch is refused stays with the others that fit: a
// throttled bucket does not get one write for each.
func TestThrottledThenRefused(t *testing.T) {
	t.Parallel()
	bubble(t, flight, func(b *bench) {
		t := b.t
		d := slow(1000)
		b.engine.fault = func(n int, _ *coalesce.Batch) *coalesce.Answer {
			switch n {
			case 1, 2, 3:
				return &coalesce.Answer{Outcome: coalesce.Throttled, Err: errEngine}
			case 4: // another process was faster
				b.engine.mu.Lock()
				is := b.engine.buckets[key("a")]["n"]
				is.Mark += 950_000
				b.engine.buckets[key("a")] = limits{"n": is}
				b.engine.mu.Unlock()
			}
			return nil
		}
		b.begin(t.Context(), key("a"), taking(charge("n", d, 1)))
		for range 20 {
			b.begin(t.Context(), key("a"), taking(charge("n", d, 3)))
		}
		b.callers.Wait()
		b.wantWrites(6) // the first; three that were throttled, one that was refused; the takes that fit
		if got := b.left(key("a"), "n"); got != 1 {
			t.Errorf("left: got %d, want 1 of 49: 16 fit", got)
		}
	})
}
