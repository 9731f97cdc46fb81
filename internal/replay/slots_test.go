package replay_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael/internal/replay"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/memstore"
)

func TestSlots(t *testing.T) {
	t.Parallel()
	const trace = `t,d,tokens,n
0,10,5,1
2,10s,5,1
3,500ms,5,1
12,4,7,1
12,0,7,1
13,1min,5,0
14,1.5,5,2
16,1,5,2
`
	for _, settle := range []string{"", "rpm=tokens"} {
		o := replay.Options{
			Limits: limits(t, "par=2 at once", "rpm=100/min"), DurationColumn: "d", Consume: exprs(t, "par=n"),
		}
		if settle != "" {
			o.Settle = exprs(t, settle)
		}
		var refused []int
		o.Decided = func(d *replay.Decided) error {
			if !d.Admitted {
				refused = append(refused, d.Line)
			}
			return nil
		}
		report := run(t, strings.NewReader(trace), &o)
		// t3 finds t0 and t2; t12 finds none of them; t14 finds t12's, until t16.
		if fmt.Sprint(refused) != "[4 8]" {
			t.Errorf("settle %q: got lines %v refused, want 4 and 8", settle, refused)
		}
		want(t, "least number", *report.LeastBurst["par"], 3)
		want(t, "refused by par", report.DeniedBy["par"], 2)
		if peak := report.Limits[0].PeakUtilization; peak != 100 {
			t.Errorf("peak: got %v %%, want 100", peak)
		}
	}
}

// TestDurations looks at how long a request holds its slot.
func TestDurations(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		duration string
		unit     time.Duration
		want     time.Duration
	}{
		{"2", time.Second, 2 * time.Second},
		{"2.25", time.Second, 2250 * time.Millisecond},
		{".5", time.Second, 500 * time.Millisecond},
		{"1500", time.Millisecond, 1500 * time.Millisecond},
		{"1.5", time.Millisecond, 1500 * time.Microsecond},
		{"250ms", time.Second, 250 * time.Millisecond},
		{"250ms", time.Millisecond, 250 * time.Millisecond},
		{"1.5s", time.Second, 1500 * time.Millisecond},
		{" 2min ", time.Second, 2 * time.Minute},
		{"1h2min", time.Second, time.Hour + 2*time.Minute},
	} {
		for after, admitted := range map[time.Duration]bool{c.want - 1: false, c.want: true} {
			at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(after).Format(time.RFC3339Nano)
			trace := "t,d\n2026-01-01T00:00:00Z," + c.duration + "\n" + at + ",0\n"
			report := run(t, strings.NewReader(trace), &replay.Options{
				Limits: limits(t, "par=1 at once"), DurationColumn: "d", TimeUnit: c.unit,
			})
			if (report.Denied == 0) != admitted {
				t.Errorf("%q with numbers in %v: got %d refused after %v, want it held for %v", c.duration, c.unit, report.Denied, after, c.want)
			}
		}
	}
}

func TestSlotsErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ trace, column, want string }{
		{"t,d\n0,1\n", "", "--duration-column"},
		{"t,d\n0,1\n", "x", `no column "x"`},
		{"t,d\n0,\n", "d", "line 2, column d: the cell is empty"},
		{"t,d\n0,-1\n", "d", `line 2, column d: "-1" is not a length of time`},
		{"t,d\n0,1 fortnight\n", "d", "250ms, 1.5s or 2min"},
		{"t,d\n0,99999999999999999\n", "d", "is not a length of time"},
	} {
		o := replay.Options{Limits: limits(t, "par=2 at once"), DurationColumn: c.column}
		_, err := replay.Run(t.Context(), memstore.New(nil), strings.NewReader(c.trace), &o)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q by %q: got %v, want an error with %q", c.trace, c.column, err, c.want)
		}
	}
}

// TestSlotsModel compares random traces of several entities with a second formulation: a
// list of what is held.
func TestSlotsModel(t *testing.T) {
	t.Parallel()
	for seed := range schedules.Seeds(t, 30) {
		rng := rand.New(rand.NewPCG(seed, 0))
		slots := 1 + rng.Int64N(5)
		type hold struct {
			entity string
			until  time.Duration
			n      int64
		}
		var held []hold
		trace, wanted, at := "t,d,n,who\n", []bool{}, time.Duration(0)
		for range 200 {
			at += time.Duration(rng.Int64N(3)) * time.Second
			d, n, entity := time.Duration(rng.Int64N(12))*time.Second, rng.Int64N(4), fmt.Sprintf("e%d", rng.IntN(3))
			trace += fmt.Sprintf("%d,%v,%d,%s\n", at/time.Second, d, n, entity)
			sum := n
			for _, h := range held {
				if h.entity == entity && h.until > at {
					sum += h.n
				}
			}
			if wanted = append(wanted, sum <= slots); sum <= slots {
				held = append(held, hold{entity, at + d, n})
			}
		}
		o := replay.Options{
			Limits: limits(t, fmt.Sprintf("par=%d at once", slots)), DurationColumn: "d", EntityColumn: "who",
			Consume: exprs(t, "par=n"), Sort: rng.IntN(2) == 0,
		}
		var got []bool
		o.Decided = func(d *replay.Decided) error {
			got = append(got, d.Admitted)
			return nil
		}
		report := run(t, strings.NewReader(trace), &o)
		if fmt.Sprint(got) != fmt.Sprint(wanted) {
			t.Errorf("%d slots:\ngot  %v\nwant %v", slots, got, wanted)
		}
		for _, n := range []int64{*report.LeastBurst["par"], *report.LeastBurst["par"] - 1} {
			if n == 0 {
				continue
			}
			o.Limits = limits(t, fmt.Sprintf("par=%d at once", n))
			if denied := run(t, strings.NewReader(trace), &o).Denied; (denied == 0) != (n == *report.LeastBurst["par"]) {
				t.Errorf("the least number is %d, but %d refuses %d", *report.LeastBurst["par"], n, denied)
			}
		}
	}
}
