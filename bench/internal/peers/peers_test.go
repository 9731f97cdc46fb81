package peers_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael/bench/internal/peers"
)

// setup returns a limiter of a contender.
func setup(t *testing.T, w *peers.Contender, limits ...peers.Limit) peers.Limiter {
	t.Helper()
	l, err := w.New(limits)
	if err != nil {
		t.Fatal(err)
	}
	if c, ok := l.(interface{ Close() }); ok {
		t.Cleanup(c.Close)
	}
	return l
}

func contenders(limits int) (some []peers.Contender) {
	for _, w := range peers.Contenders() {
		if w.Limits == limits {
			some = append(some, w)
		}
	}
	return some
}

// TestOneLimit checks that each contender limits each key by itself.
func TestOneLimit(t *testing.T) {
	t.Parallel()
	for _, w := range contenders(1) {
		l := setup(t, &w, peers.Limit{Name: "rpd", Every: 24 * time.Hour, Burst: 10, Amount: 1})
		for _, key := range []string{"key-1", "key-2"} {
			got := 0
			for range 20 {
				if l.Allow(key) {
					got++
				}
			}
			if got != 10 {
				t.Errorf("%s: admitted of 20 requests of %s: got %d, want 10", w.Name, key, got)
			}
		}
	}
}

// TestTwoLimits checks Contender.AllOrNothing: whether the first limit stays charged when
// the second refuses.
func TestTwoLimits(t *testing.T) {
	t.Parallel()
	for _, w := range contenders(2) {
		if w.SingleTokens {
			continue // go-limiter undoes the charge, so only concurrent requests see it
		}
		synctest.Test(t, func(t *testing.T) {
			const burst, refused = 10, 5
			l := setup(t, &w,
				peers.Limit{Name: "rpd", Every: 30 * 24 * time.Hour, Burst: burst, Amount: 1},
				peers.Limit{Name: "tpm", Every: time.Minute, Burst: 5, Amount: 5},
			)
			got := 0
			if l.Allow("key-1") {
				got++
			}
			for range refused {
				if l.Allow("key-1") {
					t.Errorf("%s: the second limit is exhausted: got admitted, want refused", w.Name)
				}
			}
			for range 2 * burst {
				<-time.After(5 * time.Minute) // the second limit has enough again
				if l.Allow("key-1") {
					got++
				}
			}
			want := burst
			if !w.AllOrNothing {
				want -= refused
			}
			if got != want {
				t.Errorf("%s: admitted: got %d, want %d", w.Name, got, want)
			}
		})
	}
}
