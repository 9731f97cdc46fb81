// Package rows has the rows of the benchmark table.
package rows

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael/bench/internal/load"
	"github.com/zeroae/zael/bench/internal/peers"
)

// A Group is rows that can be compared with one another.
type Group struct {
	Name string // as in "limits=1/keys=uniform/parallel"
	Rows []Row
}

// A Row is one benchmark.
type Row struct {
	Name  string
	Peer  bool // counts when the fastest peer is looked for
	Whole bool // see peers.Way
	Run   func(*testing.B)
}

// The limits of requests that are admitted: 1 request and 500 tokens are taken,
// from bursts that nothing here exhausts.
func admitting(n int) []peers.Limit {
	return []peers.Limit{
		{Name: "rpm", Every: 100 * time.Microsecond, Burst: 1e12, Amount: 1},
		{Name: "tpm", Every: 100 * time.Microsecond, Burst: 1e12, Amount: 500},
	}[:n]
}

// The limits of requests that are refused: by the last of them, which has
// enough for one.
func refusing(n int) []peers.Limit {
	limits := admitting(n)
	last := &limits[n-1]
	last.Every, last.Burst = 24*time.Hour, last.Amount
	return limits
}

// All are all groups, in the order of the table.
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
	return groups
}

// floor is what the others stand on: a reading of the clock, and the loop with a
// limiter that does nothing.
func floor(loads *load.Loads) Group {
	return Group{Name: "floor", Rows: []Row{
		{Name: "time.Now", Run: func(b *testing.B) {
			b.Helper()
			var now time.Time
			for b.Loop() {
				now = time.Now()
			}
			if now.IsZero() {
				b.Fatal("there is no time")
			}
		}},
		{Name: "the loop alone", Run: func(b *testing.B) {
			b.Helper()
			serial(b, everything{}, loads.Get(load.Uniform), true)
		}},
	}}
}

type everything struct{}

func (everything) Allow(string) bool { return true }

// A setting is what the rows of a group have in common.
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
	for _, w := range peers.Ways() {
		if w.Limits == len(s.limits) && (!s.refused || !w.Lease) {
			g.Rows = append(g.Rows, Row{
				Name: w.Name, Peer: !w.Zael, Whole: w.Whole,
				Run: func(b *testing.B) { b.Helper(); s.run(b, &w) },
			})
		}
	}
	return g
}

// run measures one way.
func (s *setting) run(b *testing.B, w *peers.Way) {
	b.Helper()
	l := s.limiter(b, w)
	b.ReportAllocs()
	if s.parallel {
		parallel(b, l, s.loads.Get(s.pattern), !s.refused)
	} else {
		serial(b, l, s.loads.Get(s.pattern), !s.refused)
	}
}

// limiter is the latest one if it was made for w: a parallel benchmark is called
// again and again until it takes long enough. Otherwise it is a new one that has
// seen all keys; or only one of them if one request is all that is asked for.
func (s *setting) limiter(b *testing.B, w *peers.Way) peers.Limiter {
	b.Helper()
	if s.latest.way == w {
		return s.latest.limiter
	}
	s.latest.drop()
	l, err := w.New(s.limits)
	if err != nil {
		b.Fatal(err)
	}
	keys := s.loads.Get(s.pattern).Keys
	if s.parallel && b.N == 1 {
		keys = 1
	} else {
		*s.latest = latest{w, l}
	}
	for i := range keys {
		if key := load.Key(i); !l.Allow(key) {
			b.Fatalf("the first request of %s was refused", key)
		}
	}
	return l
}

// latest is the limiter that was measured last.
type latest struct {
	way     *peers.Way
	limiter peers.Limiter
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
		// Each begins elsewhere, far from the others.
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
