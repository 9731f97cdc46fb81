package coalesce_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/coalesce"
)

// A caller that leaves the queue has taken nothing; what a caller took that leaves a write
// in flight is given back, while the others keep theirs.
func TestLeaving(t *testing.T) {
	t.Parallel()
	bubble(t, flight, func(b *bench) {
		t := b.t
		d := slow(100)
		ctx1, leave1 := context.WithCancel(t.Context())
		ctx2, leave2 := context.WithCancel(t.Context())
		b.begin(t.Context(), key("a"), taking(charge("n", d, 1)))
		queued, onItsWay, stays := taking(charge("n", d, 2)), taking(charge("n", d, 4)), taking(charge("n", d, 8))
		b.begin(ctx1, key("a"), queued)
		b.begin(ctx2, key("a"), onItsWay)
		b.begin(t.Context(), key("a"), stays)
		leave1()
		synctest.Wait()
		b.want("left the queue", queued, coalesce.Failed)
		wait(flight + flight/2)
		leave2()
		synctest.Wait()
		b.want("left its write", onItsWay, coalesce.Failed)
		if !errors.Is(onItsWay.Err, context.Canceled) {
			t.Errorf("left: got %v, want context.Canceled", onItsWay.Err)
		}
		b.callers.Wait()
		b.workers.Wait()
		b.want("stays", stays, coalesce.Applied)
		b.wantWrites(3)
		if got := b.left(key("a"), "n"); got != 91 {
			t.Errorf("left: got %d, want 91: 1 and 8 are taken", got)
		}
		if got := b.engine.batches[2]; got.Kind != coalesce.Undo || got.Events != -1 {
			t.Errorf("the last write: got kind %d with %d events, want an undo of one", got.Kind, got.Events)
		}
		b.wantGivenBack(1, 0)
	})
}

// A caller that leaves returns at once, also one whose take is the only one of its
// write. The write goes on to its answer, and what it took is given back; with
// gives and reads there is nothing to give back.
func TestLeavingAlone(t *testing.T) {
	t.Parallel()
	for _, apart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := setup(t, flight, apart)
			d := slow(100)
			b.want("the first", b.take(key("a"), charge("n", d, 1)), coalesce.Applied)
			for _, m := range []*coalesce.Op{
				taking(charge("n", d, 8)), taking(charge("n", d, 200)),
				{Kind: coalesce.Adjust, Charges: []zael.Charge{charge("n", d, 2)}, At: instant()},
				{Kind: coalesce.Read, At: instant()},
			} {
				ctx, leave := context.WithTimeout(t.Context(), flight/2)
				begun := time.Now()
				b.Do(ctx, key("a"), m)
				leave()
				if took := time.Since(begun); took != flight/2 || m.Outcome != coalesce.Failed || !errors.Is(m.Err, context.DeadlineExceeded) {
					t.Errorf("kind %d: got outcome %d (%v) after %v, want its deadline, exceeded at once", m.Kind, m.Outcome, m.Err, took)
				}
				b.workers.Wait()
			}
			b.wantWrites(6)
			b.wantGivenBack(1, 0)
			if got := b.left(key("a"), "n"); got != 97 {
				t.Errorf("left: got %d, want 97: 1 is taken and 2 are charged", got)
			}
		})
	}
}

// What cannot be given back is reported.
func TestGivingBackFails(t *testing.T) {
	t.Parallel()
	for name, a := range map[string]coalesce.Answer{
		"engine out of order": {Outcome: coalesce.Failed, Err: errEngine}, "throttled": {Outcome: coalesce.Throttled, Err: errEngine},
	} {
		bubble(t, flight, func(b *bench) {
			b.engine.fault = func(_ int, batch *coalesce.Batch) *coalesce.Answer {
				if batch.Kind != coalesce.Undo {
					return nil
				}
				return &a
			}
			ctx, leave := context.WithTimeout(b.t.Context(), flight/2)
			defer leave()
			b.Do(ctx, key("a"), taking(charge("n", slow(100), 1)))
			b.workers.Wait()
			b.t.Log(name)
			b.wantGivenBack(0, 1)
		})
	}
}

// A batch shows in the trace of the first of its ops, also if that has left,
// and so does what is given back.
func TestBatchHasValuesOfItsFirst(t *testing.T) {
	t.Parallel()
	bubble(t, flight, func(b *bench) {
		first, leave := context.WithCancel(context.WithValue(b.t.Context(), caller{}, "first"))
		b.begin(b.t.Context(), key("a"), taking(charge("n", slow(100), 1)))
		b.begin(first, key("a"), taking(charge("n", slow(100), 1)))
		b.begin(context.WithValue(b.t.Context(), caller{}, "second"), key("a"), taking(charge("n", slow(100), 1)))
		wait(flight + flight/2)
		leave()
		b.callers.Wait()
		b.workers.Wait()
		if got := b.engine.whose; !slices.Equal(got, []any{nil, "first", "first"}) {
			b.t.Errorf("values of the writes: got %v, want none, and the first's of the batch and of what is given back", got)
		}
	})
}

// A slowContext is done a while after its deadline.
type slowContext struct {
	context.Context
	deadline time.Time
}

func (c slowContext) Deadline() (time.Time, bool) { return c.deadline, true }

// The engine is told when all callers of a write have left, and no earlier: the last
// deadline may have passed before. The next write waits for its answer all the same.
func TestAllLeave(t *testing.T) {
	t.Parallel()
	bubble(t, 3*time.Second, func(b *bench) {
		t := b.t
		d := slow(100)
		b.begin(t.Context(), key("a"), taking(charge("n", d, 1)))
		cancelled, cancel := context.WithTimeout(t.Context(), 3700*time.Millisecond)
		late, end := context.WithTimeout(t.Context(), 4*time.Second)
		defer end()
		late = slowContext{late, time.Now().Add(3800 * time.Millisecond)}
		line := []*coalesce.Op{taking(charge("n", d, 2)), taking(charge("n", d, 4))}
		b.begin(cancelled, key("a"), line[0])
		b.begin(late, key("a"), line[1])
		wait(3500 * time.Millisecond) // their write is in flight
		b.engine.mu.Lock()
		ctx := b.engine.ctx
		b.engine.mu.Unlock()
		cancel()
		synctest.Wait()
		if ctx.Err() != nil {
			t.Error("one of two has left: got the context of their write done, want it open")
		}
		stays := taking(charge("n", d, 8))
		b.begin(t.Context(), key("a"), stays)
		wait(400 * time.Millisecond)
		if got, ok := ctx.Deadline(); ctx.Err() != nil || !ok || time.Until(got) != -100*time.Millisecond {
			t.Errorf("0.1 s after the last deadline: got it %v, %v and %v, want an open context", ok, time.Until(got), ctx.Err())
		}
		wait(600 * time.Millisecond)
		if ctx.Err() == nil {
			t.Error("both have left: got the context of their write open, want it done")
		}
		b.callers.Wait()
		b.workers.Wait()
		for i, want := range []error{context.Canceled, context.DeadlineExceeded} {
			if b.want("left", line[i], coalesce.Failed); !errors.Is(line[i].Err, want) {
				t.Errorf("left: got %v, want %v", line[i].Err, want)
			}
		}
		b.want("stays", stays, coalesce.Applied)
		b.wantWrites(4) // one for two that left, and one that gives back
		b.wantGivenBack(2, 0)
		if got := b.left(key("a"), "n"); got != 91 {
			t.Errorf("left: got %d, want 91: 1 and 8 are taken", got)
		}
	})
}

// Whoever stays has what it took, and a stretch of the axis of its own, also in the Op that another
// caller had, and if others leave at any moment.
func TestRecycledOps(t *testing.T) {
	t.Parallel()
	for _, stay := range []time.Duration{time.Hour, 4 * flight} {
		bubble(t, flight, func(b *bench) {
			t := b.t
			d := slow(10_000)
			var mu sync.Mutex
			var taken int64
			ends := map[int64]int64{} // of stretches, by where they begin
			for i := range uint64(40) {
				r := rand.New(rand.NewPCG(i, 1))
				b.callers.Go(func() {
					for range 20 {
						ctx, leave := context.WithTimeout(t.Context(), 1+rand.N(stay))
						m, n := b.NewOp(), 1+r.Int64N(9)
						m.At, m.Events, m.Charges = instant(), 1, append(m.Charges, charge("m", d, 1), charge("n", d, n))
						if b.Do(ctx, key("a"), m); m.Outcome == coalesce.Applied {
							mark := coalesce.Taken(&m.Charges[1], m.Bucket, m.Behind, 1).Mark
							mu.Lock()
							taken += n
							ends[mark-n*d.Unit()] = mark
							mu.Unlock()
						}
						leave()
						b.Recycle(m)
					}
				})
			}
			b.callers.Wait()
			b.workers.Wait()
			if left, gone := b.left(key("a"), "n"), b.gaveBack > 0; left != 10_000-taken || gone != (stay < time.Hour) {
				t.Errorf("left: got %d, with some given back %v; want 10,000 less the %d that are taken", left, gone, taken)
			}
			if stay < time.Hour {
				return // stretches that were given back are taken again
			}
			at := slices.Min(slices.Collect(maps.Keys(ends)))
			for range ends {
				at = ends[at]
			}
			if begins := slices.Min(slices.Collect(maps.Keys(ends))); at != begins+taken*d.Unit() {
				t.Errorf("the stretches, joined: got one of %d units, want %d", at-begins, taken*d.Unit())
			}
		})
	}
}
