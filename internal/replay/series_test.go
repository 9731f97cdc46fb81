package replay_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/replay"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/memstore"
)

// A recorder is a store that records the level of each limit after each call. It has
// no role but that of a BucketStore, so that all calls go through it.
type recorder struct {
	zael.BucketStore
	levels []level
}

type level struct {
	at bucket.Instant
	n  int64 // in units
}

func (r *recorder) record(at time.Time, debits []zael.Debit, state func(*zael.Charge) bucket.State) {
	now, err := bucket.At(at)
	if err != nil {
		panic(err)
	}
	for _, d := range debits {
		for i := range d.Charges {
			s := state(&d.Charges[i])
			r.levels = append(r.levels, level{now, max(0, s.Mark-s.Definition.Drip(now))})
		}
	}
}

func (r *recorder) Take(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
	at, err := r.BucketStore.Take(ctx, now, maxWait, debits)
	if err == nil {
		r.record(at, debits, (*zael.Charge).Taken)
	}
	return at, err
}

func (r *recorder) Adjust(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
	at, err := r.BucketStore.Adjust(ctx, now, debits)
	if err == nil { // the settled level replaces that of the take
		r.levels = r.levels[:len(r.levels)-1]
		r.record(at, debits, func(ch *zael.Charge) bucket.State { return ch.State })
	}
	return at, err
}

// TestLevels compares reported levels with those in the store: after each request,
// and falling in between.
func TestLevels(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(11, 12))
	for i := range max(8, schedules.Count(t, 40)) {
		tr := traffic{gap: time.Second, grid: time.Microsecond, tokens: 10 * int64(1+i%3), users: 1 + i%3}
		trace := tr.write(rng, bucket.Epoch().AddDate(i%2-1, 0, 0), 500)
		o := replay.Options{Limits: limits(t, "n=200/min burst 40"), Consume: exprs(t, "n=take"), EntityColumn: "user"}
		if i%4 >= 2 {
			o.Settle = exprs(t, "n=used")
		}
		if i%8 >= 4 {
			o.MaxWait = 3 * time.Second
		}
		store := &recorder{BucketStore: memstore.New(nil)}
		r, err := replay.Run(context.Background(), store, bytes.NewReader(trace), &o)
		if err != nil {
			t.Fatal(err)
		}
		if r.Denied == 0 || r.Admitted == 0 {
			t.Fatalf("%d: got %d denied and %d admitted, want some of both", i, r.Denied, r.Admitted)
		}
		const perNano = 200 * 1000 / 60e9 // units
		bins, width := r.Bins()
		highest := int64(0)
		for b, bin := range bins {
			// The highest level in a bin is at its start, or just after a request.
			end := bin.Start + bucket.Instant(width)
			want := int64(0)
			for _, l := range store.levels {
				switch {
				case l.at < bin.Start && b > 0:
					want = max(want, l.n-int64(float64(bin.Start-l.at)*perNano))
				case l.at >= bin.Start && l.at < end:
					want = max(want, l.n)
				}
			}
			if got := bin.Limits[0].Level; got < want-1 || got > want+1 {
				t.Fatalf("%d, bin %d: got level %d, want %d", i, b, got, want)
			}
			highest = max(highest, bin.Limits[0].Level)
		}
		if got, want := r.Limits[0].PeakUtilization, float64(highest)/400; math.Abs(got-want) > 1e-6 {
			t.Errorf("%d: got a peak of %v %%, want %v %%", i, got, want)
		}
	}
}

// TestSeries checks that each request is counted in the bin of its time, however
// often bins are merged.
func TestSeries(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 6))
	for _, gap := range []time.Duration{time.Microsecond, time.Millisecond, time.Second, time.Hour, 10 * 24 * time.Hour} {
		const rows = 800
		var trace strings.Builder
		trace.WriteString("t,n\n")
		at := bucket.Epoch().Add(-gap * rows / 2)
		var times []time.Time
		var tokens []int64
		for range rows {
			at = at.Add(time.Duration(float64(gap) * rng.ExpFloat64() * rng.ExpFloat64()))
			if _, err := bucket.At(at); err != nil {
				break
			}
			times, tokens = append(times, at), append(tokens, rng.Int64N(9))
			fmt.Fprintf(&trace, "%s,%d\n", at.Format(time.RFC3339Nano), tokens[len(tokens)-1])
		}
		o := replay.Options{Limits: limits(t, "n=5/min burst 10"), Consume: exprs(t, "n=n")}
		r := run(t, strings.NewReader(trace.String()), &o)
		bins, width := r.Bins()
		if len(bins) > replay.MaxBins || len(bins) < replay.MaxBins/6 && gap > time.Millisecond {
			t.Errorf("%v: got %d bins of %v, want up to %d and not much less", gap, len(bins), width, replay.MaxBins)
		}
		var admitted, refused, admittedTokens int64
		next := 0
		for i, b := range bins {
			end := b.Start + bucket.Instant(width)
			if int64(b.Start)%int64(width) != 0 || i > 0 && b.Start != bins[i-1].Start+bucket.Instant(width) {
				t.Fatalf("%v: bin %d begins at %d, not a multiple of %v after the one before", gap, i, b.Start, width)
			}
			var requests, demand int64
			for ; next < len(times) && times[next].Before(end.Time()); next++ {
				requests++
				demand += tokens[next]
			}
			if b.Requests != requests || b.Limits[0].Demand != demand {
				t.Errorf("%v: bin %d: got %d requests for %d, want %d for %d", gap, i, b.Requests, b.Limits[0].Demand, requests, demand)
			}
			admitted += b.Admitted
			refused += b.Limits[0].Refused
			admittedTokens += b.Limits[0].Admitted
		}
		want(t, "requests in bins", int64(next), int64(len(times)))
		want(t, "admitted in bins", admitted, r.Admitted)
		want(t, "refused in bins", refused, r.DeniedBy["n"])
		want(t, "tokens in bins", admittedTokens, r.AdmittedAmounts["n"])
	}
}

func TestBinWidths(t *testing.T) {
	t.Parallel()
	widths := replay.BinWidths()
	for i := 1; i < len(widths); i++ {
		if widths[i]%widths[i-1] != 0 || widths[i] > 6*widths[i-1] {
			t.Errorf("%v is not 2 to 6 times %v", widths[i], widths[i-1])
		}
	}
	if all := 2 * time.Duration(bucket.MaxInstant) / replay.MaxBins; widths[len(widths)-1] <= all {
		t.Errorf("the widest bins, of %v, are too narrow for 58 years", widths[len(widths)-1])
	}
}

// TestWaits compares quantiles with those of all waits.
func TestWaits(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(8, 9))
	trace := traffic{gap: time.Second, grid: time.Microsecond, tokens: 9, users: 1}.write(rng, bucket.Epoch(), 5000)
	o := replay.Options{Limits: limits(t, "n=200/min burst 40"), Consume: exprs(t, "n=take"), MaxWait: 20 * time.Second}
	store := &recorder{BucketStore: memstore.New(nil)}
	r, err := replay.Run(context.Background(), store, bytes.NewReader(trace), &o)
	if err != nil {
		t.Fatal(err)
	}
	// An admitted request waits until the level is down to the burst.
	var waits []float64 // ms
	var waited []float64
	for _, l := range store.levels {
		w := math.Ceil(float64(max(0, l.n-40_000))*60e9/200_000) / 1e6
		waits = append(waits, w)
		if w > 0 {
			waited = append(waited, w)
		}
	}
	slices.Sort(waits)
	slices.Sort(waited)
	want(t, "waited", r.Waited, int64(len(waited)))
	if len(waited) < 500 || len(waited) == len(waits) {
		t.Fatalf("%d of %d waited: want some of both", len(waited), len(waits))
	}
	quantile := func(sorted []float64, q float64) float64 { return sorted[int(math.Ceil(q*float64(len(sorted))))-1] }
	for what, pair := range map[string][2]float64{
		"p50":     {r.WaitsMS.P50, quantile(waited, 0.5)},
		"p99":     {r.WaitsMS.P99, quantile(waited, 0.99)},
		"max":     {r.WaitsMS.Max, waited[len(waited)-1]},
		"p50 all": {r.AllWaitsMS.P50, quantile(waits, 0.5)},
		"p99 all": {r.AllWaitsMS.P99, quantile(waits, 0.99)},
		"max all": {r.AllWaitsMS.Max, waits[len(waits)-1]},
	} {
		if got, want := pair[0], pair[1]; math.Abs(got-want) > 0.01*want+0.002 {
			t.Errorf("%s: got %v ms, want %v ms", what, got, want)
		}
	}
}
