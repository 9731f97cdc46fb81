package coalesce_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael/internal/coalesce"
)

// An engine that panics does so to all callers of the write, and to nobody else:
// takes that are queued, and later ones, are served.
func TestEnginePanics(t *testing.T) {
	t.Parallel()
	bubble(t, time.Second, func(b *bench) {
		bug := errors.New("a bug")
		b.engine.fault = func(n int, _ *coalesce.Batch) *coalesce.Answer {
			if n < 2 {
				panic(bug)
			}
			return nil
		}
		d, k := slow(100), key("e")
		var panicked atomic.Int64
		do := func(m *coalesce.Op) {
			defer func() {
				if err, ok := recover().(error); ok && errors.Is(err, bug) {
					panicked.Add(1)
				}
			}()
			b.Do(b.t.Context(), k, m)
		}
		b.callers.Go(func() { do(taking(charge("n", d, 1))) }) // alone
		time.Sleep(500 * time.Millisecond)                     //nolint:forbidigo // of the bubble
		for range 3 {                                          // a batch
			b.callers.Go(func() { do(taking(charge("n", d, 10))) })
		}
		time.Sleep(time.Second) //nolint:forbidigo // of the bubble
		m := taking(charge("n", d, 5))
		b.callers.Go(func() { do(m) }) // behind it
		b.callers.Wait()
		if got := panicked.Load(); got != 4 {
			t.Errorf("got %d panics, want 4", got)
		}
		b.want("waited for the batch", m, coalesce.Applied)
		b.want("comes later", b.take(k, charge("n", d, 5)), coalesce.Applied)
		if got := b.left(k, "n"); got != 90 {
			t.Errorf("got %d left, want 90", got)
		}
	})
}
