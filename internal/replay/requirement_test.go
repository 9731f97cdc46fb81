package replay_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/replay"
	"github.com/zeroae/zael/internal/testrig/schedules"
)

// maxRate returns the greatest RefillAmount that a period allows.
func maxRate(period time.Duration) int64 { return min(bucket.MaxAmount, 9*int64(period)) }

// checkRequirements replays a trace with one limit at a time, with the least burst or
// rate of a report: it must refuse nothing, neither must more, and one less must
// refuse something.
func checkRequirements(t *testing.T, trace []byte, o *replay.Options, report *replay.Report, rng *rand.Rand) {
	t.Helper()
	for _, l := range o.Limits {
		if l.Burst == 0 {
			l.Burst = l.RefillAmount
		}
		if l.Burst == 0 {
			t.Fatalf("%s has no burst", l)
		}
		l.Capacity = 0
		denied := func(l zael.Limit) int64 {
			alone := *o
			alone.Limits = []zael.Limit{l}
			return run(t, bytes.NewReader(trace), &alone).Denied
		}
		check := func(what string, least *int64, most int64, with func(int64) zael.Limit) {
			t.Helper()
			if least == nil {
				if denied(with(most)) == 0 {
					t.Errorf("%s: the least %s is none, but %d refuses nothing", l, what, most)
				}
				return
			}
			for _, n := range []int64{*least, min(most, *least+1+rng.Int64N(3)), *least + rng.Int64N(most-*least+1)} {
				if got := denied(with(n)); got != 0 {
					t.Errorf("%s: the least %s is %d, but %d refuses %d", l, what, *least, n, got)
				}
			}
			if *least > 1 && denied(with(*least-1)) == 0 {
				t.Errorf("%s: the least %s is %d, but one less refuses nothing", l, what, *least)
			}
		}
		check("burst", report.LeastBurst[l.Name], bucket.MaxAmount, func(n int64) zael.Limit {
			l := l
			l.Burst = n
			return l
		})
		if _, isRate := report.LeastRate[l.Name]; !isRate {
			continue
		}
		check("rate", report.LeastRate[l.Name], maxRate(l.RefillPeriod), func(n int64) zael.Limit {
			l := l
			l.RefillAmount = n
			return l
		})
	}
}

// A traffic describes random traces.
type traffic struct {
	gap    time.Duration // between requests, on average
	grid   time.Duration // times are multiples of it
	tokens int64         // maximum of a request
	limit  string
	wait   time.Duration
	settle bool
	users  int
}

// write returns a trace of n requests that begins at start.
func (tr traffic) write(rng *rand.Rand, start time.Time, n int) []byte {
	var b bytes.Buffer
	b.WriteString("t,user,take,used\n")
	at := start
	for range n {
		switch rng.IntN(8) {
		case 0: // at the same instant
		case 1: // after a pause
			at = at.Add(time.Duration(20 * float64(tr.gap) * rng.Float64()))
		default:
			at = at.Add(time.Duration(float64(tr.gap) * rng.ExpFloat64()))
		}
		at = at.Truncate(tr.grid)
		fmt.Fprintf(&b, "%s,u%d,%d,%d\n", at.Format("2006-01-02 15:04:05.000000000"), rng.IntN(tr.users), rng.Int64N(tr.tokens+1), rng.Int64N(tr.tokens+1))
	}
	return b.Bytes()
}

func TestRequirementsOfRandomTraces(t *testing.T) {
	t.Parallel()
	starts := []time.Time{
		bucket.Epoch().AddDate(-2, 0, 0), bucket.Epoch(), bucket.Epoch().Add(-time.Minute), bucket.Epoch().AddDate(3, 0, 1),
	}
	kinds := []traffic{
		{gap: time.Second, grid: time.Microsecond, tokens: 5, limit: "n=100/min burst 20"},
		{gap: time.Second, grid: time.Second, tokens: 3, limit: "n=100/h burst 9"},
		{gap: 10 * time.Millisecond, grid: time.Millisecond, tokens: 1, limit: "n=20/s burst 1"},
		{gap: 300 * time.Millisecond, grid: time.Millisecond, tokens: 1, limit: "n=100000/d burst 2"},
		{gap: time.Minute, grid: 100 * time.Nanosecond, tokens: 5000, limit: "n=400000/h burst 50000"},
		{gap: time.Minute, grid: time.Nanosecond, tokens: 1e11, limit: "n=200000000000/min"},              // counted in whole tokens
		{gap: time.Second, grid: time.Nanosecond, tokens: 2e6, limit: "n=1000000/s burst 3000000"},        // near the largest mark
		{gap: 5 * time.Microsecond, grid: 100 * time.Nanosecond, tokens: 9, limit: "n=1000000/s burst 9"}, // counted in whole and in thousandths of tokens, depending on the rate
		{gap: 24 * time.Hour, grid: time.Second, tokens: 40, limit: "n=7/13d burst 30"},
		{gap: time.Second, grid: time.Millisecond, tokens: 9, limit: "n=40 each minute"},
		{gap: time.Hour, grid: time.Minute, tokens: 9, limit: "n=40 each day at 02:30 Europe/Berlin"},
		{gap: 20 * time.Second, grid: time.Second, tokens: 9, limit: "n=12 each minute carry debt"},
		{gap: time.Hour, grid: time.Minute, tokens: 9, limit: "n=40 per 5h from first use"},
	}
	rounds, none, raised := 0, 0, 0
	for seed := range schedules.Seeds(t, 195) {
		rng := rand.New(rand.NewPCG(seed, 0))
		rounds++
		tr := kinds[seed%uint64(len(kinds))]
		tr.users = 1 + rng.IntN(2)*rng.IntN(4)
		tr.settle = rng.IntN(2) == 0
		if rng.IntN(2) == 0 {
			tr.wait = time.Duration(rng.Int64N(int64(10 * tr.gap)))
		}
		trace := tr.write(rng, starts[rng.IntN(len(starts))], 2+rng.IntN(60))
		o := replay.Options{
			Limits: limits(t, tr.limit), Consume: exprs(t, "n=take"), MaxWait: tr.wait, EntityColumn: "user",
		}
		if tr.settle {
			o.Settle = exprs(t, "n=used")
		}
		report := run(t, bytes.NewReader(trace), &o)
		checkRequirements(t, trace, &o, report, rng)
		if t.Failed() {
			t.Fatalf("seed %d: %+v\n%s", seed, tr, trace)
		}
		if rate, isRate := report.LeastRate["n"]; !isRate {
			continue
		} else if rate == nil {
			none++
		} else if *rate > 1 {
			raised++
		}
	}
	if rounds > 1 && (none == rounds || raised == 0) {
		t.Errorf("of %d traces %d have no sufficient rate and %d need a rate above 1: they test nothing", rounds, none, raised)
	}
}

func TestRequirementsOfAzure(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("replays a fifth of the trace dozens of times: a part of make check")
	}
	trace := readAzure(t)
	if !schedules.Long(t) { // each row is replayed 68 times
		trace = trace[:bytes.IndexByte(trace[len(trace)/5:], '\n')+len(trace)/5+1]
	}
	const total = "tpm=ContextTokens+GeneratedTokens"
	for name, o := range map[string]replay.Options{
		"plain":    {Consume: exprs(t, total)},
		"waiting":  {Consume: exprs(t, total), MaxWait: 30 * time.Second},
		"settling": {Consume: exprs(t, "tpm=ContextTokens"), Settle: exprs(t, total)},
		"both":     {Consume: exprs(t, "tpm=ContextTokens"), Settle: exprs(t, total), MaxWait: 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(1, 1))
			o.Limits = limits(t, "rpm=200/min", "tpm=400000/min")
			checkRequirements(t, trace, &o, run(t, bytes.NewReader(trace), &o), rng)
		})
	}
}

// TestRequirements has cases whose results are obvious.
func TestRequirements(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, rows, limit string
		wait              time.Duration
		burst, rate       int64 // 0: none
	}{
		{"no tokens", "2024-01-01,0\n", "n=9/s", 0, 1, 1},
		{"one request", "2024-01-01,5\n", "n=9/s", 0, 5, 1},
		{"more than the burst", "2024-01-01,10\n", "n=9/s", 0, 10, 0},
		{"twice at once", "2024-01-01,5\n2024-01-01,5\n", "n=9/s", 0, 10, 0},
		{"twice at once, with a wait", "2024-01-01,5\n2024-01-01,5\n", "n=9/s", time.Second, 5, 1},
		// 1 of 10 is left at first; 9 must refill within 4 s.
		{"after a pause", "2024-01-01,9\n2024-01-01 00:00:04,10\n", "n=1/min burst 10", 0, 19, 135},
		{"just refilled", "2024-01-01,1\n2024-01-01 00:00:06,1\n", "n=10/min burst 1", 0, 1, 10},
		// 1 ns too early.
		{"nearly refilled", "2024-01-01,1\n2024-01-01 00:00:05.999999999,1\n", "n=10/min burst 1", 0, 2, 11},
		{"too much for a bucket", strings.Repeat("2024-01-01,1000000000000000\n", 2), "n=1000/s burst 1000000000000000", 0, 0, 0},
		{"too fast", "2024-01-01,1000000000\n2024-01-01 00:00:00.000000001,1000000000\n", "n=9000000000/s burst 1000000000", 0, 2_000_000_000 - 9, 0},
	} {
		o := replay.Options{Limits: limits(t, c.limit), Consume: exprs(t, "n=n"), MaxWait: c.wait}
		r := run(t, strings.NewReader("t,n\n"+c.rows), &o)
		for what, pair := range map[string][2]int64{"burst": {orZero(r.LeastBurst["n"]), c.burst}, "rate": {orZero(r.LeastRate["n"]), c.rate}} {
			if pair[0] != pair[1] {
				t.Errorf("%s: least %s: got %d, want %d", c.name, what, pair[0], pair[1])
			}
		}
	}
}

// orZero returns *n, or 0 if n is nil.
func orZero(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}
