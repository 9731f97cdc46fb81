package peers_test

import (
	"testing"
	"time"

	"github.com/juju/ratelimit"
	"github.com/throttled/throttled/v2"
	throttledstore "github.com/throttled/throttled/v2/store/memstore"
	"golang.org/x/time/rate"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

// A goroutine that reads the clock may be overtaken before it calls the limiter, so the
// limiter sees instants that go back and forth. Here every second one is 20 ms old.
const (
	calls     = 10_000
	step      = 10 * time.Microsecond // from one call to the next
	age       = 20 * time.Millisecond // of every second instant
	perSecond = 100                   // tokens
	burst     = 100
)

// bound is the most that may be admitted: the burst and what refills during the calls and
// during age.
var bound = burst + int(perSecond*(calls*step+age)/time.Second)

var start = time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)

// A backAndForth is a clock that is read once for each call.
type backAndForth struct{ reads int }

func (c *backAndForth) Now() time.Time {
	t := start.Add(time.Duration(c.reads) * step)
	if c.reads%2 == 1 {
		t = t.Add(-age)
	}
	c.reads++
	return t
}

// Sleep implements ratelimit.Clock; juju/ratelimit calls it only to wait.
func (c *backAndForth) Sleep(time.Duration) { panic("slept") }

func admitted(t *testing.T, clock *backAndForth, allow func() bool) int {
	t.Helper()
	clock.reads = 0
	n := 0
	for range calls {
		if allow() {
			n++
		}
	}
	if clock.reads != calls {
		t.Errorf("reads of the clock: got %d, want %d", clock.reads, calls)
	}
	return n
}

func TestInterleavedTimestamps(t *testing.T) {
	t.Parallel()

	t.Run("zael", func(t *testing.T) {
		t.Parallel()
		var clock backAndForth
		l, err := zael.New(memstore.New(nil), &zael.Config{Clock: clock.Now})
		if err != nil {
			t.Fatal(err)
		}
		got := admitted(t, &clock, func() bool {
			return l.Allow(t.Context(), zael.Request{
				Entity: "key-1", Resource: "gpt-4",
				Limits:  []zael.Limit{zael.PerSecond("rps", perSecond).WithBurst(burst)},
				Consume: zael.Amounts{"rps": 1},
			}) == nil
		})
		t.Logf("zael admits %d of %d where at most %d are allowed", got, calls, bound)
		// The least is the burst and what refills until the last instant.
		if least := burst + int(perSecond*calls*step/time.Second) - 1; got < least || got > bound {
			t.Errorf("admitted: got %d, want %d to %d", got, least, bound)
		}
	})

	t.Run("golang.org/x/time/rate", func(t *testing.T) {
		t.Parallel()
		var clock backAndForth
		l := rate.NewLimiter(perSecond, burst)
		got := admitted(t, &clock, func() bool { return l.AllowN(clock.Now(), 1) })
		t.Logf("x/time/rate admits %d of %d where at most %d are allowed", got, calls, bound)
		if got != calls {
			t.Errorf("admitted: got %d, want all %d: the flaw described in README.md is gone", got, calls)
		}
	})

	t.Run("throttled", func(t *testing.T) {
		t.Parallel()
		var clock backAndForth
		store, err := throttledstore.New(0)
		if err != nil {
			t.Fatal(err)
		}
		store.SetTimeNow(clock.Now)
		l, err := throttled.NewGCRARateLimiterCtx(throttled.WrapStoreWithContext(store),
			throttled.RateQuota{MaxRate: throttled.PerSec(perSecond), MaxBurst: burst - 1})
		if err != nil {
			t.Fatal(err)
		}
		got := admitted(t, &clock, func() bool {
			limited, _, err := l.RateLimitCtx(t.Context(), "key-1", 1)
			return !limited && err == nil
		})
		t.Logf("throttled admits %d of %d where at most %d are allowed", got, calls, bound)
		if got > bound {
			t.Errorf("admitted: got %d, want at most %d", got, bound)
		}
	})

	t.Run("juju/ratelimit", func(t *testing.T) {
		t.Parallel()
		var clock backAndForth
		l := ratelimit.NewBucketWithClock(time.Second/perSecond, burst, &clock) // reads the clock once
		got := admitted(t, &clock, func() bool { return l.TakeAvailable(1) == 1 })
		t.Logf("juju/ratelimit admits %d of %d where at most %d are allowed", got, calls, bound)
		if got > bound {
			t.Errorf("admitted: got %d, want at most %d", got, bound)
		}
	})
}
