package coalesce_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
)

const flight = 10 * time.Millisecond

// A take that meets no other is written at once, and nothing is kept of it.
func TestAlone(t *testing.T) {
	t.Parallel()
	bubble(t, 0, func(b *bench) {
		t := b.t
		for range 3 {
			b.want("take", b.take(key("a"), charge("n", slow(10), 2)), coalesce.Applied)
			if n := b.Len(); n != 0 {
				t.Errorf("buckets kept: got %d, want none", n)
			}
		}
		b.wantWrites(3)
		if got := b.left(key("a"), "n"); got != 4 {
			t.Errorf("left: got %d, want 4", got)
		}
	})
}

// Takes that arrive meanwhile are one write, in order, each that fits: a large one does
// not keep small ones behind it from what is left.
func TestInOrderEachThatFits(t *testing.T) {
	t.Parallel()
	bubble(t, flight, func(b *bench) {
		t := b.t
		d := slow(20)
		first := taking(charge("n", d, 1))
		b.begin(t.Context(), key("a"), first)
		var line []*coalesce.Op
		for _, n := range []int64{5, 18, 6, 8, 3, 0, 21} {
			m := taking(charge("n", d, n))
			line = append(line, m)
			b.begin(t.Context(), key("a"), m)
		}
		b.callers.Wait()
		b.want("first", first, coalesce.Applied)
		for i, want := range []coalesce.Outcome{
			coalesce.Applied, coalesce.Applied, coalesce.Applied, coalesce.Applied, coalesce.Applied, coalesce.Applied, coalesce.Refused,
		} {
			if i == 1 || i == 4 {
				want = coalesce.Refused
			}
			b.want("member", line[i], want)
		}
		b.wantWrites(2)
		if got := b.left(key("a"), "n"); got != 0 {
			t.Errorf("left: got %d, want 0", got)
		}
	})
}

// Where nothing is known of the bucket a batch has at most a burst of each limit;
// takes beyond it are in the next.
func TestBatchNeverAboveBurst(t *testing.T) {
	t.Parallel()
	bubble(t, flight, func(b *bench) {
		t := b.t
		d, e := slow(10), slow(1000)
		b.engine.fault = func(n int, _ *coalesce.Batch) *coalesce.Answer {
			if n == 0 {
				return &coalesce.Answer{Outcome: coalesce.Failed, Err: errEngine}
			}
			return nil
		}
		failed := taking(charge("n", d, 1))
		b.begin(t.Context(), key("a"), failed)
		applied := 0
		var line []*coalesce.Op
		for range 8 {
			m := taking(charge("n", d, 3), charge("m", e, 1))
			line = append(line, m)
			b.begin(t.Context(), key("a"), m)
		}
		b.callers.Wait()
		b.want("the one that failed", failed, coalesce.Failed)
		for _, m := range line {
			if m.Outcome == coalesce.Applied {
				applied++
			}
		}
		if applied != 3 {
			t.Errorf("applied: got %d, want 3", applied)
		}
		b.wantWrites(2)
	})
}

// Ops that name some of the limits, in another order, go together; those
// under another definition do not, and a changed definition is written alone.
func TestSubsetsAndDefinitions(t *testing.T) {
	t.Parallel()
	bubble(t, flight, func(b *bench) {
		t := b.t
		d, changed := slow(100), slow(200)
		b.begin(t.Context(), key("a"), taking(charge("n", d, 1)))
		line := []*coalesce.Op{
			taking(charge("n", d, 1), charge("m", d, 2)), taking(charge("m", d, 1)), taking(charge("m", d, 1), charge("n", d, 1)),
			taking(charge("n", changed, 7)), taking(charge("n", changed, 8)), taking(charge("m", d, 3)), taking(charge("n", changed, 9)),
		}
		for _, m := range line {
			b.begin(t.Context(), key("a"), m)
		}
		b.callers.Wait()
		for _, m := range line {
			b.want("take", m, coalesce.Applied)
		}
		b.wantWrites(4) // the first; the four of d; one that changes; the rest
		for i, want := range []int{1, 4, 1, 2} {
			if got := b.engine.batches[i].Members; got != want {
				t.Errorf("members of write %d: got %d, want %d: %s", i, got, want, b.engine)
			}
		}
		if n, m := b.left(key("a"), "n"), b.left(key("a"), "m"); n != 173 || m != 93 {
			t.Errorf("left: got %d and %d, want 173 and 93", n, m)
		}
	})
}

// A newer revision is written by one alone, though its numbers are the same.
func TestNewRevisionIsWrittenAlone(t *testing.T) {
	t.Parallel()
	bubble(t, flight, func(b *bench) {
		t := b.t
		old, next := slow(100), slow(100)
		old.Rev, next.Rev = 5, 6
		b.begin(t.Context(), key("a"), taking(charge("n", old, 1)))
		for range 3 {
			b.begin(t.Context(), key("a"), taking(charge("n", next, 1)))
		}
		b.callers.Wait()
		b.wantWrites(3)
		if got := b.left(key("a"), "n"); got != 96 {
			t.Errorf("left: got %d, want 96", got)
		}
	})
}

// Each op owns the stretch of the axis that it would have taken alone, in
// order, so that gives clamp as they should.
func TestReceipts(t *testing.T) {
	t.Parallel()
	bubble(t, flight, func(b *bench) {
		t := b.t
		d := slow(1000)
		b.begin(t.Context(), key("a"), taking(charge("n", d, 1), charge("m", d, 5)))
		var line []*coalesce.Op
		for i := range int64(6) {
			m := taking(charge("m", d, 10*i), charge("n", d, i))
			line = append(line, m)
			b.begin(t.Context(), key("a"), m)
		}
		b.callers.Wait()
		b.wantWrites(2)
		drip := d.Drip(line[0].Answer.At)
		n, m := drip+1000, drip+5000
		for i, member := range line {
			if !member.Shared {
				t.Errorf("member %d: got it alone, want it shared", i)
			}
			n += int64(i) * 1000
			m += int64(i) * 10_000
			for j, want := range []int64{m, n} {
				if got := coalesce.Taken(&member.Charges[j], member.Bucket, member.Behind, j).Receipt(); got.Mark != want || got.Generation != birth {
					t.Errorf("member %d, %s: got receipt %+v, want mark %d", i, member.Charges[j].Name, got, want)
				}
			}
		}
	})
}

// With different waits each one's bound holds, of those before it too.
func TestDifferentWaits(t *testing.T) {
	t.Parallel()
	bubble(t, flight, func(b *bench) {
		t := b.t
		d := define(10, 10, 10*time.Second) // one a second
		b.begin(t.Context(), key("a"), taking(charge("n", d, 10)))
		waits := []time.Duration{0, 3 * time.Second, 2 * time.Second, 5 * time.Second, 4 * time.Second}
		want := []coalesce.Outcome{coalesce.Refused, coalesce.Applied, coalesce.Refused, coalesce.Applied, coalesce.Refused}
		var line []*coalesce.Op
		for i, n := range []int64{1, 2, 1, 2, 1} {
			m := taking(charge("n", d, n))
			m.MaxWait = waits[i]
			line = append(line, m)
			b.begin(t.Context(), key("a"), m)
		}
		b.callers.Wait()
		for i, m := range line {
			b.want(waits[i].String(), m, want[i])
		}
		last := b.engine.batches[1]
		if len(last.Stages) != 1 || len(last.Stages[0]) != 2 || last.Stages[0][0] != (coalesce.Stage{Sum: 4, Wait: waits[3]}) || last.Stages[0][1] != (coalesce.Stage{Sum: 2, Wait: waits[1]}) {
			t.Errorf("stages: got %+v, want 4 within 5 s and 2 of them within 3 s", last.Stages)
		}
		b.wantWrites(2)
	})
}

// The answer to a refused batch tells which takes fit: they are the next batch, and the
// others are refused with its states.
func TestRefusedBatch(t *testing.T) {
	t.Parallel()
	bubble(t, flight, func(b *bench) {
		t := b.t
		d := slow(100)
		b.engine.after = func(n int, _ *coalesce.Batch, _ *coalesce.Answer) {
			if n == 0 { // another process takes after the answer was made
				b.engine.mu.Lock()
				is := b.engine.buckets[key("a")]["n"]
				is.Mark += 90_000
				b.engine.buckets[key("a")] = limits{"n": is}
				b.engine.mu.Unlock()
			}
		}
		b.begin(t.Context(), key("a"), taking(charge("n", d, 1)))
		line := []*coalesce.Op{taking(charge("n", d, 50)), taking(charge("n", d, 5)), taking(charge("n", d, 10)), taking(charge("n", d, 4))}
		for _, m := range line {
			b.begin(t.Context(), key("a"), m)
		}
		b.callers.Wait()
		for i, want := range []coalesce.Outcome{coalesce.Refused, coalesce.Applied, coalesce.Refused, coalesce.Applied} {
			b.want("member", line[i], want)
		}
		b.wantWrites(3)
		at := line[0].Answer.At
		if got := line[0].Bucket.State("n").Available(at); got != 9 {
			t.Errorf("left, by the refusal: got %d, want 9", got)
		}
	})
}

// A failed write fails for all of it, once; those behind it go on.
func TestFailedBatch(t *testing.T) {
	t.Parallel()
	bubble(t, flight, func(b *bench) {
		t := b.t
		d := slow(100)
		b.engine.fault = func(n int, _ *coalesce.Batch) *coalesce.Answer {
			if n == 1 {
				return &coalesce.Answer{Outcome: coalesce.Failed, Err: errEngine}
			}
			return nil
		}
		b.begin(t.Context(), key("a"), taking(charge("n", d, 1)))
		line := []*coalesce.Op{taking(charge("n", d, 1)), taking(charge("n", d, 2))}
		for _, m := range line {
			b.begin(t.Context(), key("a"), m)
		}
		wait(flight + flight/2)
		late := taking(charge("n", d, 4))
		b.begin(t.Context(), key("a"), late)
		b.callers.Wait()
		for _, m := range line {
			if b.want("member", m, coalesce.Failed); !errors.Is(m.Err, errEngine) {
				t.Errorf("member: got %v, want the engine's error", m.Err)
			}
		}
		b.want("behind", late, coalesce.Applied)
		b.wantWrites(3)
	})
}

// Gives and charges that meet are one write; one that changes a definition is its
// own, and reads that meet are one.
func TestAdjustsMeet(t *testing.T) {
	t.Parallel()
	bubble(t, flight, func(b *bench) {
		t := b.t
		d := slow(100)
		taken := b.take(key("a"), charge("n", d, 50))
		give := func(n int64) *coalesce.Op {
			c := charge("n", d, -n)
			c.Receipt = coalesce.Taken(&c, taken.Bucket, nil, 0).Receipt()
			return &coalesce.Op{Kind: coalesce.Adjust, Charges: []zael.Charge{c}, At: instant()}
		}
		more := &coalesce.Op{Kind: coalesce.Adjust, Charges: []zael.Charge{charge("m", d, 3), charge("n", d, 1)}, At: instant()}
		convert := &coalesce.Op{Kind: coalesce.Adjust, Charges: []zael.Charge{charge("n", slow(300), 0)}, At: instant()}
		look1, look2 := &coalesce.Op{Kind: coalesce.Read, At: instant()}, &coalesce.Op{Kind: coalesce.Read, At: instant()}
		b.begin(t.Context(), key("a"), taking(charge("n", d, 1)))
		for _, m := range []*coalesce.Op{give(10), more, convert, give(5), look1, look2} {
			b.begin(t.Context(), key("a"), m)
		}
		b.callers.Wait()
		b.wantWrites(4)
		if got := b.engine.batches[2].Members; got != 3 {
			t.Errorf("members of the adjust: got %d, want 3: %s", got, b.engine)
		}
		if got := b.left(key("a"), "n"); got != 263 {
			t.Errorf("left: got %d, want 263 of 300", got)
		}
	})
}

// A take behind a give gets what it gives.
func TestTakeBehindGive(t *testing.T) {
	t.Parallel()
	bubble(t, flight, func(b *bench) {
		t := b.t
		d := slow(10)
		taken := b.take(key("a"), charge("n", d, 9))
		give := charge("n", d, -5)
		give.Receipt = coalesce.Taken(&give, taken.Bucket, nil, 0).Receipt()
		b.begin(t.Context(), key("a"), taking(charge("n", d, 1)))
		early, late, more := taking(charge("n", d, 2)), taking(charge("n", d, 4)), taking(charge("n", d, 4))
		b.begin(t.Context(), key("a"), early)
		b.begin(t.Context(), key("a"), &coalesce.Op{Kind: coalesce.Adjust, Charges: []zael.Charge{give}, At: instant()})
		b.begin(t.Context(), key("a"), late)
		b.begin(t.Context(), key("a"), more)
		b.callers.Wait()
		b.want("before it", early, coalesce.Refused)
		b.want("behind it", late, coalesce.Applied)
		b.want("behind that", more, coalesce.Refused)
	})
}

// What a batch of several may not do is done one by one.
func TestApart(t *testing.T) {
	t.Parallel()
	bubble(t, flight, func(b *bench) {
		t := b.t
		d, was := slow(100), slow(50)
		full := bucket.State{}.Redefine(was, instant(), birth)
		b.engine.fault = func(n int, _ *coalesce.Batch) *coalesce.Answer {
			if n == 0 {
				b.engine.mu.Lock()
				b.engine.buckets[key("a")] = limits{"n": full} // another process changes it
				b.engine.mu.Unlock()
				return &coalesce.Answer{Outcome: coalesce.Failed, Err: errEngine}
			}
			return nil
		}
		b.begin(t.Context(), key("a"), taking(charge("n", d, 1)))
		var line []*coalesce.Op
		for range 5 {
			m := taking(charge("n", d, 2))
			line = append(line, m)
			b.begin(t.Context(), key("a"), m)
		}
		b.callers.Wait()
		for _, m := range line {
			b.want("take", m, coalesce.Applied)
		}
		b.wantWrites(4) // the one that failed, the one of all, the first of them, the others
		if got := b.left(key("a"), "n"); got != 90 {
			t.Errorf("left: got %d, want 90", got)
		}
	})
}

// wait lets time pass in the bubble.
func wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
