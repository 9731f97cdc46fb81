// Package suite has the benchmarks of the table.
package suite

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael/bench/internal/load"
	"github.com/zeroae/zael/bench/internal/peers"
)

// A Group has benchmarks that can be compared with one another.
type Group struct {
	Name       string // such as limits=1/keys=uniform/parallel
	Benchmarks []Benchmark
}

// A Benchmark is a row of the table.
type Benchmark struct {
	Name         string
	Peer         bool // may be the fastest peer
	AllOrNothing bool // see peers.Contender
	Run          func(*testing.B)
}

// admitting returns limits that no benchmark exhausts. A request takes 1 token from the
// first and 500 from the second.
func admitting(n int) []peers.Limit {
	return []peers.Limit{
		{Name: "rpm", Every: 100 * time.Microsecond, Burst: 1e12, Amount: 1},
		{Name: "tpm", Every: 100 * time.Microsecond, Burst: 1e12, Amount: 500},
	}[:n]
}

// refusing returns limits of which the last has tokens for one request only.
func refusing(n int) []peers.Limit {
	limits := admitting(n)
	last := &limits[n-1]
	last.Every, last.Burst = 24*time.Hour, last.Amount
	return limits
}

// All returns all groups, in the order of the table.
func All(loads *load.Loads) []Group {
	groups := []Group{floor(loads)}
	last := new(latest)
	for n := 1; n <= 2; n++ {
		for _, p := range []load.Pattern{load.One, load.Uniform, load.Zipf} {
			for _, parallel := range []bool{false, true} {
				groups = append(groups, group(&setting{
					loads: loads, latest: last, pattern: p, limits: admitting(n), parallel: parallel,
				}))
			}
		}
		for _, parallel := range []bool{false, true} {
			groups = append(groups, group(&setting{
				loads: loads, latest: last, pattern: load.One, limits: refusing(n), parallel: parallel, refused: true,
			}))
		}
	}
	return slices.Concat(groups, kindsGroups(loads), httpGroups(), llmGroups())
}

// floor returns what every other benchmark includes: reading the clock, and the loop with
// a limiter that does nothing.
func floor(loads *load.Loads) Group {
	return Group{Name: "floor", Benchmarks: []Benchmark{
		{Name: "time.Now", Run: func(b *testing.B) {
			b.Helper()
			var now time.Time
			for b.Loop() {
				now = time.Now()
			}
			if now.IsZero() {
				b.Fatal("the clock is at zero")
			}
		}},
		{Name: "the loop alone", Run: func(b *testing.B) {
			b.Helper()
			serial(b, admitAll{}, loads.Get(load.Uniform), true)
		}},
	}}
}

type admitAll struct{}

func (admitAll) Allow(string) bool { return true }

// A setting has what the benchmarks of a group have in common.
type setting struct {
	loads    *load.Loads
	latest   *latest
	pattern  load.Pattern
	limits   []peers.Limit
	parallel bool
	refused  bool
}

func (s *setting) name() string {
	words := []string{fmt.Sprintf("limits=%d", len(s.limits)), "keys=" + string(s.pattern), "serial"}
	if s.parallel {
		words[2] = "parallel"
	}
	if s.refused {
		words = append(words, "refused")
	}
	return strings.Join(words, "/")
}

func group(s *setting) Group {
	g := Group{Name: s.name()}
	for _, c := range peers.Contenders() {
		if c.Limits == len(s.limits) && (!s.refused || !c.Lease) {
			g.Benchmarks = append(g.Benchmarks, Benchmark{
				Name: c.Name, Peer: !c.Zael, AllOrNothing: c.AllOrNothing,
				Run: func(b *testing.B) { b.Helper(); s.run(b, &c) },
			})
		}
	}
	return g
}

// run measures a contender.
func (s *setting) run(b *testing.B, c *peers.Contender) {
	b.Helper()
	l := s.limiter(b, c)
	b.ReportAllocs()
	if s.parallel {
		parallel(b, l, s.loads.Get(s.pattern), !s.refused)
	} else {
		serial(b, l, s.loads.Get(s.pattern), !s.refused)
	}
}

// limiter returns the latest limiter if it is of the same contender, since a parallel
// benchmark is called repeatedly until it takes long enough. Otherwise it returns a new
// one that has seen all keys, or one key if the benchmark makes one request only and is parallel,
// which tells nothing of its time, or is run once.
func (s *setting) limiter(b *testing.B, c *peers.Contender) peers.Limiter {
	b.Helper()
	if s.latest.contender == c {
		return s.latest.limiter
	}
	s.latest.drop()
	l, err := c.New(s.limits)
	if err != nil {
		b.Fatal(err)
	}
	keys := s.loads.Get(s.pattern).Keys
	if b.N == 1 && (s.parallel || s.loads.Once) {
		keys = 1
	} else {
		*s.latest = latest{c, l}
	}
	for i := range keys {
		if key := load.Key(i); !l.Allow(key) {
			b.Fatalf("the first request of %s was refused", key)
		}
	}
	return l
}

// latest has the limiter that was measured last.
type latest struct {
	contender *peers.Contender
	limiter   peers.Limiter
}

func (l *latest) drop() {
	if c, ok := l.limiter.(interface{ Close() }); ok {
		c.Close()
	}
	*l = latest{}
}

func serial(b *testing.B, l peers.Limiter, keys *load.Load, want bool) {
	b.Helper()
	i := 0
	for b.Loop() {
		if l.Allow(keys.At(i)) != want {
			b.Fatalf("request %d: got %t, want %t", i, !want, want)
		}
		i++
	}
}

func parallel(b *testing.B, l peers.Limiter, keys *load.Load, want bool) {
	b.Helper()
	var workers atomic.Int64
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		// Each goroutine begins at another place, far from the others.
		i := int(workers.Add(1)) * 104_729
		for pb.Next() {
			if l.Allow(keys.At(i)) != want {
				b.Errorf("request %d: got %t, want %t", i, !want, want)
				return
			}
			i++
		}
	})
}
