package memstore_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/memstore"
)

// TestOnceKeys compares once-keys with a map, over times in which they are forgotten and used again.
func TestOnceKeys(t *testing.T) {
	t.Parallel()
	type kept struct {
		hash, answer string
		until        time.Time
	}
	for seed := range schedules.Seeds(t, 10) {
		rng := rand.New(rand.NewPCG(seed, 31))
		keys, want, now := memstore.NewOnceKeys(), map[string]kept{}, t0
		for step := range 3000 {
			now = now.Add(time.Duration(rng.Int64N(int64(time.Minute))))
			key := fmt.Sprintf("key-%d", rng.IntN(400))
			hash, answer, known := keys.Lookup(key, now)
			if k := want[key]; known != k.until.After(now) || known && (hash != k.hash || answer != k.answer) {
				t.Fatalf("seed %d, step %d: %q: got %q, %q and %t, want %+v at %v", seed, step, key, hash, answer, known, k, now)
			}
			if known {
				continue
			}
			age := []time.Duration{0, time.Second, 10 * time.Minute, 25 * time.Hour, 4000 * time.Hour}[rng.IntN(5)]
			k := kept{strings.Repeat("h", rng.IntN(3)), strings.Repeat("a", rng.IntN(100)*rng.IntN(170)), now.Add(age)}
			want[key] = k
			keys.Keep(zael.Once{Key: key, Hash: k.hash, Until: k.until}, now, k.answer)
		}
		for range 100 { // each drops a block of each age
			now = now.Add(9000 * time.Hour)
			keys.Keep(zael.Once{Key: "last", Until: now.Add(time.Second)}, now, "")
		}
		if n := keys.Len(); n > 2 {
			t.Errorf("seed %d: got %d keys a year later, want none but the last", seed, n)
		}
	}
}

// Keys that have one hash are different keys.
func TestOnceKeysOfOneHash(t *testing.T) {
	t.Parallel()
	keys := memstore.NewOnceKeys()
	keys.Keep(zael.Once{Key: "a", Until: t0.Add(time.Hour)}, t0, "of a")
	keys.Collide("a", "b")
	if _, answer, known := keys.Lookup("b", t0); known {
		t.Fatalf("b: got %q, want it not to be known", answer)
	}
	keys.Keep(zael.Once{Key: "b", Until: t0.Add(time.Hour)}, t0, "of b")
	for _, key := range []string{"a", "b"} {
		if _, answer, known := keys.Lookup(key, t0); !known || answer != "of "+key {
			t.Errorf("%s: got %q and %t", key, answer, known)
		}
	}
}

// TestOnceKeysAreSmall: a key of a lease that has ended weighs little, and nothing that the garbage
// collector has to look at.
func TestOnceKeysAreSmall(t *testing.T) { //nolint:paralleltest // it measures memory
	const n = 25_000
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	keys := memstore.NewOnceKeys()
	for i := range n {
		keys.Keep(zael.Once{Key: fmt.Sprintf("lease-%020d", i), Until: t0.Add(25 * time.Hour)}, t0, `{"verb":"settle","used":{"rpm":1,"tpm":734}}`)
	}
	each := float64(heap()-before) / n
	t.Logf("%.0f bytes each", each)
	if each > 140 {
		t.Errorf("got %.0f bytes for each of %d keys, want at most 140", each, n)
	}
	runtime.KeepAlive(keys)
}
