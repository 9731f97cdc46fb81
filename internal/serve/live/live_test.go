package live_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve/live"
	"github.com/zeroae/zael/memstore"
)

// A rig is a limiter that tells a Recorder, with a clock that stands until it is moved.
type rig struct {
	*testing.T

	limiter  *zael.Limiter
	recorder *live.Recorder

	mu  sync.Mutex
	now time.Time
}

func begin() time.Time { return time.Date(2026, time.January, 13, 14, 0, 0, 0, time.UTC) }

func setup(t *testing.T) *rig {
	t.Helper()
	r := &rig{T: t, now: begin()}
	r.recorder = live.New(r.clock)
	var err error
	if r.limiter, err = zael.New(memstore.New(nil), &zael.Config{Clock: r.clock, Observer: r.recorder}); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

// allow asks n times for amounts of limits in their order, and returns how often it was admitted.
func (r *rig) allow(n int, entity, resource string, limits []zael.Limit, amounts zael.Amounts) (admitted int) {
	r.Helper()
	for range n {
		switch err := r.limiter.Allow(r.Context(), zael.Request{Entity: entity, Resource: resource, Limits: limits, Consume: amounts}); {
		case err == nil:
			admitted++
		case !errors.Is(err, zael.ErrExceeded):
			r.Fatal(err)
		}
	}
	return admitted
}

func (r *rig) snapshot() live.Snapshot {
	return r.recorder.Snapshot(live.View{Most: 1000, All: true, Covers: func(string) bool { return true }})
}

// near returns the limits that are near their end, as text.
func (r *rig) near() string {
	var all []string
	for _, n := range r.snapshot().Near {
		all = append(all, fmt.Sprintf("%s/%s/%s=%d-%d", n.Entity, n.Resource, n.Limit.Name, n.Available, n.Refused))
	}
	return strings.Join(all, " ")
}

func (r *rig) wantNear(want string) {
	r.Helper()
	if got := r.near(); got != want {
		r.Errorf("near a limit: got %q, want %q", got, want)
	}
}

// Counts are of the minute in which they were made, by resource and limit, for an hour.
func TestCounts(t *testing.T) {
	t.Parallel()
	r := setup(t)
	limits := []zael.Limit{zael.PerMinute("rpm", 3), zael.PerMinute("tpm", 1000)}
	if got := r.allow(5, "key-1", "gpt-4", limits, zael.Amounts{"tpm": 10}); got != 3 {
		t.Fatalf("admitted %d, want 3", got)
	}
	r.advance(2 * time.Minute)
	r.allow(1, "key-1", "gpt-4", limits, zael.Amounts{"tpm": 10})
	r.allow(1, "key-2", "other", limits[:1], zael.Amounts{"rpm": 4}) // never
	lease, err := r.limiter.Acquire(t.Context(), zael.Request{Entity: "key-2", Resource: "gpt-4", Limits: limits, Consume: zael.Amounts{"tpm": 100}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(lease.Settle(zael.Amounts{"tpm": 60}), lease.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
	other, err := r.limiter.Acquire(t.Context(), zael.Request{Entity: "key-3", Resource: "gpt-4", Limits: limits, Consume: zael.Amounts{"tpm": 500}})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Rollback(t.Context()); err != nil { // which uses nothing
		t.Fatal(err)
	}
	s := r.snapshot()
	if got, want := fmt.Sprint(s.Total.Admitted[57:], s.Total.Refused[57:]), "[3 0 3] [2 0 1]"; got != want {
		t.Errorf("admitted and refused in the last minutes: got %s, want %s", got, want)
	}
	var texts []string
	for _, l := range s.Limits {
		texts = append(texts, fmt.Sprint(l.Resource, "/", l.Limit, l.SumAdmitted, l.SumRefused, l.SumTokens, l.Admitted[57:], l.Refused[57:], l.Tokens[57:]))
	}
	want := "gpt-4/rpm 6 2 5 [3 0 3] [2 0 0] [3 0 2]; other/rpm 0 1 0 [0 0 0] [0 0 1] [0 0 0]; gpt-4/tpm 6 0 100 [3 0 3] [0 0 0] [30 0 70]"
	if got := strings.NewReplacer("/rpm", "/rpm ", "/tpm", "/tpm ").Replace(strings.Join(texts, "; ")); got != want {
		t.Errorf("limits: got %s\nwant %s", got, want)
	}
	r.advance(57 * time.Minute)
	if s = r.snapshot(); s.Total.Admitted[0] != 3 || len(s.Limits) != 3 {
		t.Errorf("after 59 minutes: got %v and %d limits, want the 3 first admitted and 3", s.Total.Admitted, len(s.Limits))
	}
	r.advance(time.Minute)
	if s = r.snapshot(); s.Total.Admitted[0] != 0 || s.Limits[0].SumRefused != 1 {
		t.Errorf("after an hour: got %v and %d refused, want the first minute forgotten", s.Total.Admitted, s.Limits[0].SumRefused)
	}
	r.advance(time.Hour)
	if s = r.snapshot(); len(s.Limits) != 0 {
		t.Errorf("after two hours: got %d limits, want none", len(s.Limits))
	}
}

// Who is near a limit is shown with what is left now, until it has recovered.
func TestNear(t *testing.T) {
	t.Parallel()
	r := setup(t)
	rpm := []zael.Limit{zael.PerMinute("rpm", 60)}
	r.allow(1, "fine", "r", rpm, zael.Amounts{"rpm": 47})
	r.wantNear("")
	r.allow(1, "near", "r", rpm, zael.Amounts{"rpm": 50})
	r.allow(1, "empty", "r", rpm, zael.Amounts{"rpm": 60})
	r.wantNear("empty/r/rpm=0-0 near/r/rpm=10-0")
	r.allow(3, "empty", "r", rpm, zael.Amounts{"rpm": 1})
	r.wantNear("empty/r/rpm=0-3 near/r/rpm=10-0")
	r.advance(5 * time.Second)
	r.wantNear("empty/r/rpm=5-3") // near has 15 again
	r.advance(15 * time.Second)
	r.wantNear("empty/r/rpm=20-3") // was refused a moment ago
	r.advance(2 * time.Minute)
	r.wantNear("")

	daily := []zael.Limit{zael.EachDay("rpd", 5)}
	r.allow(6, "daily", "r", daily, nil)
	r.advance(5 * time.Hour)
	r.wantNear("daily/r/rpd=0-0")
	r.advance(5 * time.Hour) // midnight has passed
	r.wantNear("")

	blocked := []zael.Limit{zael.Block("n")}
	r.allow(1, "blocked", "r", blocked, nil)
	r.wantNear("blocked/r/n=0-1")
	r.advance(2 * time.Minute)
	r.wantNear("")

	lease, err := r.limiter.Acquire(t.Context(), zael.Request{Entity: "busy", Resource: "r", Limits: []zael.Limit{zael.AtOnce("parallel", 2)}, Consume: zael.Amounts{"parallel": 2}})
	if err != nil {
		t.Fatal(err)
	}
	r.wantNear("busy/r/parallel=0-0")
	r.recorder.Forget("busy")
	r.wantNear("")
	if err := lease.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A refusal that no wait helps stays one, however long ago it was.
func TestNearNever(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.allow(1, "never", "r", []zael.Limit{zael.PerMinute("rpm", 1)}, zael.Amounts{"rpm": 2})
	r.advance(time.Minute)
	near := r.snapshot().Near
	if len(near) != 1 || near[0].RetryAfter != zael.Never {
		t.Fatalf("got %+v, want one limit whose RetryAfter is Never", near)
	}
	if text, err := json.Marshal(near[0]); err != nil || !strings.Contains(string(text), `"retry_after_seconds":null`) {
		t.Errorf("got %s, %v, want retry_after_seconds to be null", text, err)
	}
}

// A view has one resource, some entities, and some elements of a list.
func TestView(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for i := range 10 {
		r.allow(1+i, fmt.Sprintf("team-%d", i%2), fmt.Sprintf("r%d", i), []zael.Limit{zael.PerMinute("rpm", 1)}, nil)
	}
	s := r.recorder.Snapshot(live.View{Most: 3, All: true, Covers: func(string) bool { return true }})
	if len(s.Limits) != 3 || s.MoreLimits != 7 || s.Limits[0].Resource != "r9" || len(s.Near) != 3 || s.MoreNear != 7 {
		t.Errorf("three of each: got %d and %d more, %d and %d more", len(s.Limits), s.MoreLimits, len(s.Near), s.MoreNear)
	}
	s = r.recorder.Snapshot(live.View{Most: 100, Covers: func(entity string) bool { return entity == "team-1" }})
	if s.Total != nil || len(s.Limits) != 0 || len(s.Near) != 5 || s.Near[0].Entity != "team-1" {
		t.Errorf("one team: got %+v, want 5 of it, and no sums", s)
	}
	s = r.recorder.Snapshot(live.View{Most: 100, All: true, Resource: "r3", Covers: func(string) bool { return true }})
	if len(s.Limits) != 1 || len(s.Near) != 1 || s.Near[0].Resource != "r3" {
		t.Errorf("one resource: got %d and %d, want 1", len(s.Limits), len(s.Near))
	}
	text, err := json.Marshal(s.Near[0])
	if err != nil || !strings.HasSuffix(string(text), `,"seen_seconds_ago":0,"refused":3}`) || !strings.HasPrefix(string(text), `{"entity_id":"team-1","resource":"r3","limit_name":"rpm",`) {
		t.Errorf("as JSON: got %s (%v)", text, err)
	}
}

// However many names come, 16 MiB are not exceeded, and new ones find room when old ones are idle.
func TestMemoryIsBounded(t *testing.T) { //nolint:paralleltest // it measures the heap
	r := setup(t)
	before := heap()
	long := strings.Repeat("x", 240)
	var l *zael.Limiter // a new one now and then, so that its store stays small
	observe := func(i int, suffix string) {
		entity, resource := fmt.Sprintf("%s%s%d", long, suffix, i), fmt.Sprintf("%s%s%d", long, suffix, i)
		limit := []zael.Limit{zael.PerMinute(strings.Repeat("n", 50)+fmt.Sprint(i%1000), 1)}
		if i%100 == 0 || l == nil {
			var err error
			if l, err = zael.New(memstore.New(nil), &zael.Config{Clock: r.clock, Observer: r.recorder}); err != nil {
				t.Fatal(err)
			}
		}
		_ = l.Allow(context.Background(), zael.Request{Entity: entity, Resource: resource, Limits: limit, Consume: zael.Amounts{limit[0].Name: 2}}) // never
	}
	for i := range 5000 {
		observe(i, "a")
	}
	if grown := heap() - before; grown > 16<<20 {
		t.Errorf("5000 limits of as many entities: got %d bytes more, want 16 MiB at most", grown)
	}
	s := r.snapshot()
	if n := len(s.Limits) + s.MoreLimits; n != 4096 {
		t.Errorf("got %d limits, want 4096", n)
	}
	if n := len(s.Near) + s.MoreNear; n < 900 || n > 1008 {
		t.Errorf("got %d entities near a limit, want about 1000", n)
	}
	r.advance(2 * time.Hour)
	observe(1, "b")
	if s = r.snapshot(); len(s.Limits) != 1 || len(s.Near) != 1 {
		t.Errorf("two hours later: got %d limits and %d entities, want the new one", len(s.Limits), len(s.Near))
	}
	runtime.KeepAlive(r)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Any number of goroutines decide and look.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	r := setup(t)
	var group sync.WaitGroup
	for w := range 8 {
		group.Go(func() {
			for i := range 200 {
				r.allow(1, fmt.Sprintf("key-%d", i%50), fmt.Sprintf("r%d", w), []zael.Limit{zael.PerMinute("rpm", 2)}, nil)
				if i%20 == 0 {
					r.snapshot()
					r.recorder.Forget(fmt.Sprintf("key-%d", i%50))
				}
				r.advance(time.Millisecond)
			}
		})
	}
	group.Wait()
	s := r.snapshot()
	sum := int64(0)
	for i := range live.Minutes {
		sum += s.Total.Admitted[i] + s.Total.Refused[i]
	}
	if sum != 1600 {
		t.Errorf("counted %d requests, want 1600", sum)
	}
}

// BenchmarkDecision is what an acquire costs more with a Recorder.
func BenchmarkDecision(b *testing.B) {
	recorder := live.New(time.Now)
	for name, burst := range map[string]int64{"admitted": 1 << 30, "refused": 1} {
		b.Run(name, func(b *testing.B) {
			l, err := zael.New(memstore.New(nil), nil)
			if err != nil {
				b.Fatal(err)
			}
			p := zael.MustPolicy("gpt-4", zael.PerMinute("rpm", burst), zael.PerMinute("tpm", burst))
			var d zael.Decision
			for range 2 {
				if d, err = l.Decide(b.Context(), p.For("key-1", 1, 1)); err != nil {
					b.Fatal(err)
				}
			}
			o := zael.Observed{Context: b.Context(), Entity: "key-1", Resource: "gpt-4", Outcome: zael.OutcomeAdmitted, Decision: &d}
			if !d.Admitted {
				o.Outcome = zael.OutcomeRefused
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					recorder.Decision(&o)
				}
			})
		})
	}
}
