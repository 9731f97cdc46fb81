package schedules_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/zeroae/zael/internal/testrig/schedules"
)

// Not parallel, as all here: they set the environment.
func TestCount(t *testing.T) {
	t.Setenv(schedules.LongVariable, "")
	want := 200
	if testing.Short() {
		want = 20
	}
	if got := schedules.Count(t, 200); got != want {
		t.Errorf("Count(200): got %d, want %d", got, want)
	}
	if got := schedules.Count(t, 1); got != 1 {
		t.Errorf("Count(1): got %d, want 1", got)
	}
	t.Setenv(schedules.LongVariable, "20")
	if got := schedules.Count(t, 200); got != 4000 {
		t.Errorf("Count(200), %s=20: got %d, want 4000", schedules.LongVariable, got)
	}
}

func TestSeeds(t *testing.T) {
	t.Setenv(schedules.LongVariable, "")
	t.Setenv(schedules.SeedVariable, "")
	n := schedules.Count(t, 30)
	got := slices.Collect(schedules.Seeds(t, 30))
	if len(got) != n || got[0] != 1 || got[n-1] != uint64(n) {
		t.Errorf("Seeds(30): got %v, want 1 to %d", got, n)
	}

	t.Setenv(schedules.LongVariable, "2")
	a, b := slices.Collect(schedules.Seeds(t, 30)), slices.Collect(schedules.Seeds(t, 30))
	if len(a) != 60 || len(b) != 60 || a[0] == b[0] {
		t.Errorf("Seeds(30) of two long runs: got %d from %d and %d from %d, want 60 others each time", len(a), a[0], len(b), b[0])
	}

	t.Setenv(schedules.SeedVariable, "7")
	if got := slices.Collect(schedules.Seeds(t, 30)); !slices.Equal(got, []uint64{7}) {
		t.Errorf("Seeds(30), %s=7: got %v, want 7 alone", schedules.SeedVariable, got)
	}
}

// A double is a test that fails on its own.
type double struct {
	testing.TB

	failed bool
	log    []string
}

func (d *double) Helper() {}

func (d *double) Failed() bool { return d.failed }

func (d *double) Logf(format string, args ...any) {
	d.log = append(d.log, fmt.Sprintf(format, args...))
}

func (d *double) Fatalf(format string, args ...any) {
	d.failed = true
	d.Logf(format, args...)
	runtime.Goexit()
}

func TestFailureSaysTheSeed(t *testing.T) {
	t.Setenv(schedules.LongVariable, "1")
	for _, fatal := range []bool{false, true} {
		d := &double{TB: t}
		var last uint64
		tried := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			for seed := range schedules.Seeds(d, 30) {
				last = seed
				if tried++; tried < 3 {
					continue
				}
				if fatal {
					d.Fatalf("wrong")
				}
				d.failed = true
			}
		}()
		<-done
		if want := fmt.Sprintf("last seed was %d; %s=", last, schedules.SeedVariable); tried != 3 || !strings.Contains(strings.Join(d.log, "\n"), want) {
			t.Errorf("fatal %v: got %d schedules and %q, want 3 and %q", fatal, tried, d.log, want)
		}
	}
}

//nolint:paralleltest // it sets the environment
func TestBadNumbers(t *testing.T) {
	for _, text := range []string{"0", "-1", "many", "1.5"} {
		t.Setenv(schedules.LongVariable, text)
		d := &double{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			schedules.Count(d, 10)
		}()
		<-done
		if !d.failed || !strings.Contains(strings.Join(d.log, "\n"), schedules.LongVariable+"="+text) {
			t.Errorf("%s=%s: got failed %v and %q, want it to fail", schedules.LongVariable, text, d.failed, d.log)
		}
	}
}
