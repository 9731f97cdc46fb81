package protocol_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/testrig/schedules"
)

var definitions = []bucket.Definition{
	{Burst: 10, Amount: 10, Period: time.Minute, Capacity: 10},
	{Burst: 20, Amount: 10, Period: time.Minute, Capacity: 10},
	{Burst: 10, Amount: 7, Period: 3 * time.Second, Capacity: 5},
	{Burst: 3, Amount: 100, Period: time.Second, Capacity: 3, Rev: 5},
	{Burst: 100, Amount: 100, Period: time.Second, Capacity: 3, Rev: 7},
	{Burst: 2, Amount: 1, Period: time.Second, Capacity: 1, Rev: 9},
	{Burst: 3_000_000, Amount: 2_000_000, Period: time.Second, Capacity: 1},
	{Burst: 3_000_000, Amount: 500_000, Period: time.Second, Capacity: 1},
	{Burst: bucket.MaxAmount, Amount: 1, Period: bucket.MaxPeriod, Capacity: 1},
	{Burst: 1, Amount: bucket.MaxRate, Period: time.Second, Capacity: 1},
}

// A path must say what package bucket says, for every mark of its stretch.
func TestPieceIsBucket(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	n, inside := schedules.Count(t, 200_000), 0
	for i := range n {
		d := definitions[rng.IntN(len(definitions))]
		at := bucket.Instant(rng.Int64N(int64(2*365*24*time.Hour))) - bucket.Instant(30*24*time.Hour)
		guess := markNear(rng, d, at)
		p := protocol.NewGuess(bucket.State{Definition: d, Mark: guess})
		type apply func(bucket.State) (bucket.State, bool)
		var ops []apply
		said := []any{"from", d, "mark", guess} // texts of all would take most of the time
		fits := true
		for range 1 + rng.IntN(3) {
			n := amount(rng, d)
			switch rng.IntN(4) {
			case 0:
				ahead := time.Duration(rng.Int64N(int64(20 * time.Second)))
				if !p.Take(at, n, ahead, 0) {
					fits = false
				}
				ops = append(ops, func(s bucket.State) (bucket.State, bool) { return s.Take(at, n, ahead) })
				said = append(said, "take", n, "within", ahead)
			case 1:
				if p.Charge(at, n) != nil {
					fits = false
				}
				ops = append(ops, func(s bucket.State) (bucket.State, bool) {
					next, err := s.Charge(at, n)
					return next, err == nil
				})
				said = append(said, "charge", n)
			case 2:
				receipt := markNear(rng, p.Definition(), at)
				if rng.IntN(3) == 0 {
					receipt = p.Mark()
				}
				p.Give(at, n, receipt)
				generation := p.Turns()
				ops = append(ops, func(s bucket.State) (bucket.State, bool) {
					return s.Give(at, n, bucket.Receipt{Mark: receipt, Generation: generation}), true
				})
				said = append(said, "give", n, "of", receipt)
			case 3:
				next := definitions[rng.IntN(len(definitions))]
				p.Redefine(next, at)
				ops = append(ops, func(s bucket.State) (bucket.State, bool) { return s.Redefine(next, at, 0), true })
				said = append(said, "under", next)
			}
			if !fits {
				break
			}
		}
		lo, hi := p.Range()
		marks := []int64{guess, lo, hi, lo + 1, hi - 1}
		for range 4 {
			marks = append(marks, markNear(rng, d, at))
		}
		for _, mark := range marks {
			if mark < lo || mark > hi {
				if mark == guess && fits {
					t.Fatalf("%d: %+v at %d: the guess is not in its own stretch %d to %d", i, said, at, lo, hi)
				}
				continue
			}
			if mark < math.MinInt64/2 || mark > math.MaxInt64/8*7 {
				continue // the ends of no bound
			}
			s, ok := bucket.State{Definition: d, Mark: mark}, true
			for _, op := range ops {
				if s, ok = op(s); !ok {
					break
				}
			}
			if !ok {
				t.Fatalf("%d: %+v at %d: of mark %d, in %d to %d: package bucket refuses", i, said, at, mark, lo, hi)
			}
			inside++
			got := bucket.State{Definition: p.Definition(), Mark: p.Of(mark), Generation: p.Turns()}
			if got != s {
				t.Fatalf("%d: %+v at %d: of mark %d, in %d to %d: got %+v, want %+v", i, said, at, mark, lo, hi, got, s)
			}
		}
	}
	if inside < n*3/2 {
		t.Errorf("got %d marks of %d schedules compared, want half more at least", inside, n)
	}
}

// markNear is a mark somewhere about the drip.
func markNear(rng *rand.Rand, d bucket.Definition, at bucket.Instant) int64 {
	drip, burst := d.Drip(at), d.Burst*d.Unit()
	switch rng.IntN(7) {
	case 0:
		return drip
	case 1:
		return drip - rng.Int64N(burst+1)
	case 2:
		return drip + burst
	case 3:
		return drip + burst + rng.Int64N(burst+1)
	}
	return drip + rng.Int64N(burst+1)
}

func amount(rng *rand.Rand, d bucket.Definition) int64 {
	switch rng.IntN(6) {
	case 0:
		return 0
	case 1:
		return d.Burst
	case 2:
		return min(d.Burst+1, bucket.MaxAmount)
	}
	return 1 + rng.Int64N(d.Burst)
}

// With pad a take never admits what would not fit, and never leaves less.
func TestPadNeverAdmitsMore(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	padded := 0
	for range 100_000 {
		d := definitions[rng.IntN(len(definitions))]
		at := bucket.Instant(rng.Int64N(int64(365 * 24 * time.Hour)))
		n := amount(rng, d)
		pad := protocol.PadFor(d, n)
		if n > d.Burst {
			continue
		}
		guess := d.Drip(at) + rng.Int64N(2*pad+2) - pad // at most pad above it, and refused beyond
		p := protocol.NewGuess(bucket.State{Definition: d, Mark: guess})
		if !p.Take(at, n, 0, pad) {
			continue
		}
		lo, hi := p.Range()
		for _, mark := range []int64{max(lo, d.Drip(at)-5), guess, min(hi, d.Drip(at)+pad)} {
			want, ok := bucket.TakePlain(&d, mark, at, n, 0)
			if got := p.Of(mark); mark >= lo && mark <= hi && (!ok || got < want) {
				t.Fatalf("take %d of %+v at mark %d with pad %d: got %d, want at least %d (fits: %v)", n, d, mark, pad, got, want, ok)
			} else if got > want {
				padded++
			}
		}
	}
	if padded == 0 {
		t.Error("got no take that aimed higher, want some")
	}
}
