package loadgen_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/loadgen"
	"github.com/zeroae/zael/internal/pause"
	"github.com/zeroae/zael/memstore"
)

func job(limits ...zael.Limit) *loadgen.Job {
	return &loadgen.Job{
		Prefix: "bench-1", Resource: "bench", Keys: 1, Callers: 8, Limits: limits,
		Consume: zael.Amounts{"n": 1}, Duration: 400 * time.Millisecond,
	}
}

func ideal(t *testing.T, j *loadgen.Job, tally *loadgen.Tally) loadgen.Ideal {
	t.Helper()
	i, err := j.Ideal(tally)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// TestExact checks that a store which is asked for more than its limits have admits all
// that they have, except what refills in a key after its last call.
func TestExact(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*loadgen.Job){
		"one key":  func(*loadgen.Job) {},
		"ten keys": func(j *loadgen.Job) { j.Keys, j.Limits = 10, []zael.Limit{zael.PerSecond("n", 50)} },
		"threes":   func(j *loadgen.Job) { j.Consume["n"] = 3 },
		"two limits, the second tighter": func(j *loadgen.Job) {
			j.Limits = append(j.Limits, zael.PerSecond("m", 225))
			j.Consume["m"] = 7
		},
		"parent":         func(j *loadgen.Job) { j.Keys, j.Cascade = 3, true },
		"tighter parent": func(j *loadgen.Job) { j.Cascade, j.ParentLimits = true, []zael.Limit{zael.PerMinute("n", 50)} },
		"wider parent":   func(j *loadgen.Job) { j.Cascade, j.ParentLimits = true, []zael.Limit{zael.PerSecond("n", 12_500)} },
		"other parent":   func(j *loadgen.Job) { j.Cascade, j.ParentLimits = true, []zael.Limit{zael.PerSecond("x", 1)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				store := memstore.New(nil)
				l, err := zael.New(store, nil)
				if err != nil {
					t.Fatal(err)
				}
				j := job(zael.PerSecond("n", 250))
				j.Rate = 2_500
				change(j)
				if err := loadgen.Setup(ctx, l, j); err != nil {
					t.Fatal(err)
				}
				tally, err := loadgen.Run(ctx, store, j, nil)
				if err != nil {
					t.Fatal(err)
				}
				want := ideal(t, j, tally)
				if slack := int64(5 * (j.Keys - 1)); tally.Admitted > want.Acquires || tally.Admitted < want.Acquires-slack || tally.Refused == 0 {
					t.Errorf("got %d admitted and %d refused in %v, want %d admitted", tally.Admitted, tally.Refused, tally.Elapsed(), want.Acquires)
				}
				for n, tokens := range want.Tokens {
					if got := tally.Admitted * j.Consume[n]; got > tokens {
						t.Errorf("got %d tokens of %s, want %d at most", got, n, tokens)
					}
				}
				if asked := tally.Admitted + tally.Refused; asked < 990 || asked > 1010 {
					t.Errorf("got %d calls, want 1,000: %v at %.0f a second", asked, j.Duration, j.Rate)
				}
				if tally.Failed != 0 || tally.Elapsed() < 399*time.Millisecond || tally.Elapsed() > j.Duration {
					t.Errorf("got errors %v after %v", tally.Errors, tally.Elapsed())
				}
			})
		})
	}
}

// A slowStore takes 20 ms for each call.
type slowStore struct{ zael.Store }

func (s slowStore) Take(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
	_ = pause.For(ctx, 20*time.Millisecond)
	return s.Store.Take(ctx, now, maxWait, debits)
}

// TestLateCalls checks that, with a rate, latencies count from when a call was due, and
// that late callers skip no call.
func TestLateCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := job(zael.PerSecond("n", 1000))
		j.Callers, j.Rate = 1, 100
		tally, err := loadgen.Run(t.Context(), slowStore{memstore.New(nil)}, j, nil)
		if err != nil {
			t.Fatal(err)
		}
		// A call is due every 10 ms and takes 20: the last begins 200 ms late.
		if lat := tally.Latency(); tally.Admitted != 20 || lat.Max < 200*time.Millisecond || lat.Max > 230*time.Millisecond {
			t.Errorf("got %d admitted in %+v, want 20, the last of them in 200 to 230ms", tally.Admitted, lat)
		}
	})
}

// TestExactBurst checks that without noticeable refill exactly the burst is admitted.
func TestExactBurst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := job(zael.PerHour("n", 300))
		j.Keys, j.Rate = 3, 10_000
		tally, err := loadgen.Run(t.Context(), memstore.New(nil), j, nil)
		if err != nil {
			t.Fatal(err)
		}
		if want := ideal(t, j, tally); tally.Admitted != 900 || want.Acquires != 900 || want.Tokens["n"] != 900 {
			t.Errorf("got %d admitted of an ideal %+v, want 900 of 900", tally.Admitted, want)
		}
	})
}

// TestLatencies checks that quantiles rise, of admitted and of refused calls.
func TestLatencies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := job(zael.PerHour("n", 10))
		j.Rate = 1000
		tally, err := loadgen.Run(t.Context(), slowStore{memstore.New(nil)}, j, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, lat := range []loadgen.Latency{tally.Latency(), tally.RefusedLatency()} {
			if lat.P50 < 20*time.Millisecond || lat.P99 < lat.P50 || lat.P999 < lat.P99 || lat.Max < lat.P999 {
				t.Errorf("got %+v, want rising latencies from 20ms", lat)
			}
		}
	})
}

// TestIdeal compares with figures computed by hand.
func TestIdeal(t *testing.T) {
	t.Parallel()
	tally := &loadgen.Tally{First: 1_750_000_000_000_000_000, Last: 1_750_000_003_000_000_000}
	j := job(zael.PerSecond("n", 10).WithBurst(25), zael.PerMinute("m", 60))
	j.Keys, j.Consume = 4, zael.Amounts{"n": 2, "m": 1}
	got := ideal(t, j, tally)
	// n: 25 + 3·10 = 55 tokens for each key, 27 acquires; m: 60 + 3.
	if got.Tokens["n"] != 220 || got.Tokens["m"] != 252 || got.Acquires != 108 {
		t.Errorf("got %+v, want 220 and 252 tokens, 108 acquires", got)
	}
	j.Cascade = true
	got = ideal(t, j, tally)
	if got.Tokens["n"] != 55 || got.Tokens["m"] != 63 || got.Acquires != 27 {
		t.Errorf("with one parent: got %+v, want 55 and 63 tokens, 27 acquires", got)
	}
	if got := ideal(t, j, &loadgen.Tally{}); got.Acquires != 0 || got.Tokens["n"] != 0 {
		t.Errorf("without a call: got %+v, want 0", got)
	}
	j.Keys, j.Cascade, j.Limits = 1_000_000, false, []zael.Limit{{Name: "n", Burst: 1e15, Capacity: 1, RefillAmount: 1e15, RefillPeriod: 366 * 24 * time.Hour}}
	if got := ideal(t, j, tally); got.Acquires < 1<<61 || got.Tokens["n"] < 1<<61 {
		t.Errorf("large numbers: got %+v, want no overflow", got)
	}
}

// TestProcesses ends a job when each of three processes has admitted the burst of its
// own store.
func TestProcesses(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	j := job(zael.PerDay("n", 100))
	j.Duration, j.Rate = time.Hour, 1000
	tally, err := loadgen.RunProcesses(ctx, 3, processes("work"), j, func(c loadgen.Counts) {
		if c.Admitted >= 300 && c.Refused > 0 {
			cancel()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if tally.Admitted != 300 || tally.Refused == 0 || tally.Failed != 0 {
		t.Errorf("got %+v, want 300 admitted by three processes", tally.Counts)
	}
	if lat := tally.Latency(); lat.P50 <= 0 || lat.Max < lat.P50 {
		t.Errorf("got %+v, want the latencies of all", lat)
	}
}

// TestProcessesEnd checks that processes end when the job does, and when they are
// stopped before it began.
func TestProcessesEnd(t *testing.T) {
	t.Parallel()
	j := job(zael.PerDay("n", 100))
	j.Rate = 1000
	tally, err := loadgen.RunProcesses(t.Context(), 2, processes("work"), j, nil)
	if err != nil || tally.Admitted > 200 {
		t.Errorf("got %+v (%v), want at most 200 admitted", tally.Counts, err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	j.Duration = time.Hour
	if tally, err := loadgen.RunProcesses(cancelled, 2, processes("work"), j, nil); err != nil || tally.Admitted > 200 {
		t.Errorf("got %+v (%v), want at most 200 admitted", tally.Counts, err)
	}
}

func TestProcessesFail(t *testing.T) {
	t.Parallel()
	j := job(zael.PerHour("n", 100))
	j.Duration = time.Hour // the other process must be stopped
	for _, c := range []struct {
		roles []string
		want  string
	}{
		{[]string{"work", "fail"}, "process 2: out of luck"},
		{[]string{"babble", "work"}, "process 1: "},
	} {
		_, err := loadgen.RunProcesses(t.Context(), 2, processes(c.roles...), j, nil)
		var p *loadgen.ProcessError
		if !errors.As(err, &p) || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: got %v, want one error that begins with %q", c.roles, err, c.want)
		}
	}
	none := func(ctx context.Context) *exec.Cmd { return exec.CommandContext(ctx, "/there/is/none") }
	if _, err := loadgen.RunProcesses(t.Context(), 2, none, j, nil); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v, want an error", err)
	}
}

// A failingStore fails each take with err.
type failingStore struct {
	zael.Store
	err error
}

func (f failingStore) Take(context.Context, time.Time, time.Duration, []zael.Debit) (time.Time, error) {
	return time.Time{}, f.err
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		kind string
	}{
		{zael.ErrContention, "contention"},
		{fmt.Errorf("connection refused: %w", zael.ErrUnavailable), "unavailable"},
		{context.DeadlineExceeded, "timeout"},
		{errors.New("denied"), "denied"},
	} {
		synctest.Test(t, func(t *testing.T) {
			j := job(zael.PerHour("n", 100))
			j.Rate = 100
			tally, err := loadgen.Run(t.Context(), failingStore{memstore.New(nil), c.err}, j, nil)
			if err != nil {
				t.Fatal(err)
			}
			if tally.Failed == 0 || tally.Errors[c.kind] == 0 || tally.Admitted+tally.Refused != 0 {
				t.Errorf("%v: got %+v of kinds %v, want %s", c.err, tally.Counts, tally.Errors, c.kind)
			}
		})
	}
}

func TestTallyJSON(t *testing.T) {
	t.Parallel()
	j := job(zael.PerSecond("n", 100))
	j.Rate = 1000
	tally, err := loadgen.Run(t.Context(), memstore.New(nil), j, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(tally)
	if err != nil {
		t.Fatal(err)
	}
	var got loadgen.Tally
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if got.Counts != tally.Counts || got.Elapsed() != tally.Elapsed() || got.Latency() != tally.Latency() || got.RefusedLatency() != tally.RefusedLatency() {
		t.Errorf("got %+v, %+v, want %+v, %+v", got.Counts, got.Latency(), tally.Counts, tally.Latency())
	}
	if err := json.Unmarshal([]byte(`{"admitted":"AA=="}`), &got); err == nil {
		t.Error("a broken histogram: got no error")
	}
}

// TestCleanup checks that nothing of the job is left, and that nothing else is deleted.
func TestCleanup(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	store := memstore.New(&memstore.Config{Usage: true})
	l, err := zael.New(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	other := zael.Request{Entity: "other", Resource: "bench", Limits: []zael.Limit{zael.PerDay("n", 10)}, Consume: zael.Amounts{"n": 1}}
	if err := l.Allow(ctx, other); err != nil {
		t.Fatal(err)
	}
	j := job(zael.PerDay("n", 10))
	j.Keys, j.Cascade, j.Duration = 20, true, 100*time.Millisecond
	if err := loadgen.Setup(ctx, l, j); err != nil {
		t.Fatal(err)
	}
	if children, err := l.Children(ctx, j.Parent()); err != nil || len(children) != 20 {
		t.Errorf("got %d children (%v), want 20", len(children), err)
	}
	if _, err := loadgen.Run(ctx, store, j, nil); err != nil {
		t.Fatal(err)
	}
	if err := loadgen.Cleanup(ctx, l, j); err != nil {
		t.Fatal(err)
	}
	if children, err := l.Children(ctx, j.Parent()); err != nil || len(children) != 0 {
		t.Errorf("got %v (%v), want no children", children, err)
	}
	capacity, err := l.ResourceCapacity(ctx, "bench", "n", zael.CapacityOptions{})
	if err != nil || len(capacity.Entities) != 1 || capacity.Entities[0].Entity != "other" {
		t.Errorf("got %+v (%v), want the other entity alone", capacity, err)
	}
	usage, err := l.Usage(ctx, zael.UsageQuery{Resource: "bench"})
	if err != nil || usage.Events != 1 {
		t.Errorf("got %+v (%v), want the usage of the other entity alone", usage, err)
	}
	if err := loadgen.Cleanup(ctx, l, j); err != nil {
		t.Errorf("a second time: got %v", err)
	}
}
