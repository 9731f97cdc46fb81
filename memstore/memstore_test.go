package memstore_test

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/memstore"
	"github.com/zeroae/zael/storetest"
)

// t0 is the instant at which the timelines begin.
var t0 = time.Date(2026, 1, 13, 14, 0, 0, 0, time.UTC)

var perMinute = bucket.Definition{Burst: 10, Amount: 10, Period: time.Minute, Capacity: 10}

// debit takes n of each limit named.
func debit(entity, resource string, n int64, names ...string) []zael.Debit {
	d := zael.Debit{Key: zael.Key{Entity: entity, Resource: resource}}
	for _, name := range names {
		d.Charges = append(d.Charges, zael.Charge{Name: name, Definition: perMinute, Amount: n})
	}
	return []zael.Debit{d}
}

func mustTake(t *testing.T, s *memstore.Store, now time.Time, debits []zael.Debit) {
	t.Helper()
	if _, err := s.Take(t.Context(), now, 0, debits); err != nil {
		t.Fatalf("Take of %v at %v: got %v, want nil", debits[0].Key, now.Sub(t0), err)
	}
}

// Full buckets go as others are used, those in use never.
func TestSweepForgetsFullBucketsOnly(t *testing.T) {
	t.Parallel()
	s := memstore.New(nil)
	const n = 1_000
	for i := range n {
		mustTake(t, s, t0, debit(fmt.Sprint("idle-", i), "r", 1, "rpm")) // full again after 6 s
	}
	for i := range 100 {
		mustTake(t, s, t0, debit(fmt.Sprint("busy-", i), "r", 10, "rpm")) // full again after 60 s
	}
	if got := s.Len(); got != n+100 {
		t.Fatalf("after %d takes: got %d buckets", n+100, got)
	}
	// Calls to one bucket alone clear the others away, in every shard. Asking for nothing makes no
	// bucket.
	later := t0.Add(30 * time.Second)
	hot := debit("hot", "r", 0, "rpm")
	for i := 0; s.Len() > 100; i++ {
		if i == 3*memstore.Shards {
			t.Fatalf("after %d sweeps: got %d buckets, want the 100 in use", i, s.Len())
		}
		s.SkipToSweep(hot[0].Key)
		mustTake(t, s, later, hot)
	}
	mustTake(t, s, later, debit("hot", "r", 1, "rpm"))
	if got := s.Len(); got != 101 {
		t.Errorf("after the sweep: got %d buckets, want the 100 in use and one more", got)
	}
	for i := range 100 {
		_, err := s.Take(t.Context(), t0.Add(time.Second), 0, debit(fmt.Sprint("busy-", i), "r", 5, "rpm"))
		if !errors.Is(err, zael.ErrExceeded) {
			t.Fatalf("busy-%d: got %v, want ErrExceeded", i, err)
		}
	}
}

// A bucket that was forgotten gives nothing to a caller with an older clock.
func TestForgottenBucketMintsNothing(t *testing.T) {
	t.Parallel()
	s := memstore.New(nil)
	full := t0.Add(61 * time.Second) // of what is taken now, a second ago
	mustTake(t, s, t0, debit("a", "r", 10, "rpm"))
	for i := 0; s.Len() > 1_000 || !gone(t, s, "a"); i++ {
		mustTake(t, s, full, debit(fmt.Sprint("x", i), "r", 1, "rpm"))
		if i > 100_000 {
			t.Fatal("the bucket is not forgotten")
		}
	}
	for _, c := range []struct {
		at   time.Duration
		want int64
	}{{0, 0}, {30 * time.Second, 5}, {60 * time.Second, 10}} {
		d := debit("a", "r", 0, "rpm")
		if _, err := s.Take(t.Context(), t0.Add(c.at), 0, d); err != nil {
			t.Fatal(err)
		}
		now, err := bucket.At(t0.Add(c.at))
		if err != nil {
			t.Fatal(err)
		}
		if got := d[0].Charges[0].State.Available(now); got != c.want {
			t.Errorf("available at +%v: got %d, want %d", c.at, got, c.want)
		}
	}
}

func gone(t *testing.T, s *memstore.Store, entity string) bool {
	t.Helper()
	_, b, err := s.Buckets(t.Context(), t0, []zael.Key{{Entity: entity, Resource: "r"}})
	if err != nil {
		t.Fatal(err)
	}
	return len(b[0].Limits) == 0
}

func TestMaxBuckets(t *testing.T) {
	t.Parallel()
	s := memstore.New(&memstore.Config{MaxBuckets: 3})
	for _, e := range []string{"a", "b", "c"} {
		mustTake(t, s, t0, debit(e, "r", 1, "rpm"))
	}
	_, err := s.Take(t.Context(), t0, 0, debit("d", "r", 1, "rpm"))
	if !errors.Is(err, zael.ErrUnavailable) || !strings.Contains(err.Error(), "Config.MaxBuckets") {
		t.Errorf("the fourth: got %v, want ErrUnavailable that names Config.MaxBuckets", err)
	}
	if _, err := s.Adjust(t.Context(), t0, debit("d", "r", 1, "rpm")); !errors.Is(err, zael.ErrUnavailable) {
		t.Errorf("the fourth by Adjust: got %v, want ErrUnavailable", err)
	}
	mustTake(t, s, t0, debit("a", "r", 1, "rpm"))
	mustTake(t, s, t0, debit("d", "r", 0, "rpm")) // takes nothing, needs no room
	if got := s.Len(); got != 3 {
		t.Errorf("got %d buckets, want 3", got)
	}
	// When they are full again there is room.
	mustTake(t, s, t0.Add(time.Hour), debit("d", "r", 1, "rpm"))
}

func TestUsageKeeps24Hours(t *testing.T) {
	t.Parallel()
	s := memstore.New(&memstore.Config{Usage: true})
	for h := range 30 {
		mustTake(t, s, t0.Add(time.Duration(h)*time.Hour), debit("a", "r", 1, "rpm"))
	}
	mustTake(t, s, t0.Add(29*time.Hour), debit("b", "r", 1, "rpm"))
	mustTake(t, s, t0, debit("c", "r", 1, "rpm")) // too old to be counted
	count := func(w zael.Window) (n int, events int64) {
		t.Helper()
		for r, err := range s.Usage(t.Context(), zael.UsageQuery{Resource: "r", Window: w}) {
			if err != nil {
				t.Fatal(err)
			}
			n++
			events += r.Events
		}
		return n, events
	}
	for w, want := range map[zael.Window][2]int64{zael.Hourly: {25, 25}, zael.Daily: {3, 25}, zael.Monthly: {2, 25}} {
		if n, events := count(w); int64(n) != want[0] || events != want[1] {
			t.Errorf("%s: got %d records with %d events, want %d with %d", w, n, events, want[0], want[1])
		}
	}
	off := memstore.New(nil)
	for _, err := range off.Usage(t.Context(), zael.UsageQuery{Resource: "r"}) {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("without Config.Usage: got %v, want errors.ErrUnsupported", err)
		}
	}
}

// More than int64 holds stays at its end, within an hour and over hours.
func TestUsageDoesNotWrap(t *testing.T) {
	t.Parallel()
	s := memstore.New(&memstore.Config{Usage: true})
	for entity, sign := range map[string]int64{"up": 1, "down": -1} {
		d := debit(entity, "r", sign*6e18, "rpm")
		s.Count(t0, d, 1)
		s.Count(t0, d, 1)
		s.Count(t0.Add(time.Hour), d, 1)
		end := map[int64]int64{1: math.MaxInt64, -1: math.MinInt64}[sign]
		for w, want := range map[zael.Window][]int64{zael.Hourly: {sign * 6e18, end}, zael.Daily: {end}} {
			var got []int64
			for r, err := range s.Usage(t.Context(), zael.UsageQuery{Entity: entity, Window: w}) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, r.Amounts["rpm"])
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s of %s: got %d, want %d", w, entity, got, want)
			}
		}
	}
}

// The store must not keep alive the texts that keys are parts of.
//
//nolint:paralleltest // it measures the heap
func TestKeysAreCopied(t *testing.T) {
	s := memstore.New(nil)
	before := heap()
	for i := range 100 {
		header := strings.Repeat("x", 100_000) + fmt.Sprintf("key-%030d", i)
		mustTake(t, s, t0, debit(header[100_000:], "r", 1, "rpm"))
	}
	if grown := heap() - before; grown > 1_000_000 {
		t.Errorf("100 keys cut out of long texts keep %d bytes", grown)
	}
	runtime.KeepAlive(s)
}

// Entities in use with two limits each take at most 300 bytes each: ten thousand, a million in a
// long run.
//
//nolint:paralleltest // it measures the heap
func TestMemoryPerEntity(t *testing.T) {
	n := 10_000
	if schedules.Long(t) {
		n = 1_000_000
	}
	s := memstore.New(nil)
	before := heap()
	name := make([]byte, 0, 32)
	d := debit("", "gpt-4", 1, "rpm", "tpm")
	for i := range n {
		name = fmt.Appendf(name[:0], "entity-%09d", i)
		d[0].Key.Entity = string(name)
		mustTake(t, s, t0, d)
	}
	each := float64(heap()-before) / float64(n)
	if s.Len() != n || each > 300 {
		t.Errorf("%d buckets with %.0f bytes each, want %d with at most 300", s.Len(), each, n)
	}
	t.Logf("%.0f bytes of heap for each entity", each)
	runtime.KeepAlive(s)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Cascades that name two buckets in opposite order do not lock each other out,
// and sweeping goes on meanwhile.
func TestOppositeCascades(t *testing.T) {
	t.Parallel()
	s := memstore.New(nil)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 500 {
				a, b := debit(fmt.Sprint("e", i%7), "r", 1, "rpm"), debit(fmt.Sprint("e", 6-i%7), fmt.Sprint("r", g%2), 1, "rpm")
				both := append(a, b...)
				if g%2 == 0 {
					both[0], both[1] = both[1], both[0]
				}
				_, err := s.Take(t.Context(), t0.Add(time.Duration(i)*time.Second), 0, both)
				if err != nil && !errors.Is(err, zael.ErrExceeded) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestInstantOutOfRange(t *testing.T) {
	t.Parallel()
	s := memstore.New(nil)
	for _, year := range []int{1, 1995, 2055, 9999} {
		now := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
		var v *zael.ValidationError
		if _, err := s.Take(t.Context(), now, 0, debit("a", "r", 1, "rpm")); !errors.As(err, &v) {
			t.Errorf("Take in %d: got %v, want a *ValidationError", year, err)
		}
		if _, err := s.Adjust(t.Context(), now, debit("a", "r", 1, "rpm")); !errors.As(err, &v) {
			t.Errorf("Adjust in %d: got %v, want a *ValidationError", year, err)
		}
	}
}

// A counting store has all roles of one that counts usage, but those of calls by value, of which it
// answers none, and of local calls, which are the same as others.
type counting struct {
	zael.Store
	zael.InstantStore
	zael.EntityStore
	zael.LimitStore
	zael.AdminStore
	zael.OnceStore
	zael.Applier
	zael.CapacityReader
	zael.ListStore
	zael.UsageStore
	zael.AuditStore
}

func TestConformance(t *testing.T) {
	t.Parallel()
	roles := []storetest.Role{
		storetest.Kinds, storetest.InstantStore, storetest.EntityStore, storetest.LimitStore, storetest.AdminStore, storetest.OnceStore, storetest.Applier,
		storetest.CapacityReader, storetest.ListStore, storetest.AuditStore,
	}
	t.Run("usage false", func(t *testing.T) {
		t.Parallel()
		storetest.Run(t, func(*testing.T) zael.Store { return memstore.New(nil) }, append(roles, storetest.LocalStore, storetest.ValueStore)...)
	})
	t.Run("usage true", func(t *testing.T) {
		t.Parallel()
		if testing.Short() { // the other roles do not count
			storetest.Run(t, func(*testing.T) zael.Store {
				s := memstore.New(&memstore.Config{Usage: true})
				return struct {
					zael.Store
					zael.EntityStore
					zael.UsageStore
				}{s, s, s}
			}, storetest.UsageStore)
			return
		}
		storetest.Run(t, func(*testing.T) zael.Store {
			s := memstore.New(&memstore.Config{Usage: true})
			return counting{s, s, s, s, s, s, s, s, s, s, s}
		}, append(roles, storetest.UsageStore)...)
	})
}
