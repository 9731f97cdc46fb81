package protocol_test

import (
	"time"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
)

// A part is one caller's take in a batch.
type part struct {
	amounts []int64 // of the op's charges; below 0: does not name it
	wait    time.Duration
}

// coalesce makes a take one for several callers: what it asks for is parted among them, and
// they wait for different times.
func (w *world) coalesce(r *running) {
	charges := r.Charges
	left := make([]int64, len(charges))
	for i := range charges {
		charges[i].Amount = min(charges[i].Amount, charges[i].Definition.Burst)
		left[i] = charges[i].Amount
	}
	n := 2 + w.rng.IntN(3)
	stages := make([][]coalesce.Stage, len(charges))
	sums := make([]int64, len(charges))
	for i := range n {
		p := part{amounts: make([]int64, len(charges))}
		if w.rng.IntN(2) == 0 {
			p.wait = time.Duration(w.rng.Int64N(int64(10 * time.Second)))
		}
		for j := range charges {
			amount := left[j]
			if i < n-1 {
				if amount = w.rng.Int64N(amount + 1); amount == 0 && w.rng.IntN(2) == 0 {
					p.amounts[j] = -1
					continue
				}
			}
			left[j] -= amount
			p.amounts[j] = amount
			sums[j] += amount
			stages[j] = append(stages[j], coalesce.Stage{Sum: sums[j], Wait: p.wait})
		}
		r.parts = append(r.parts, p)
	}
	r.Stages, r.Events, r.Members = stages, int64(n), n
}

// takes is what the op makes of one charge, each part behind the other.
func (r *running) takes(s bucket.State, charge int) (after bucket.State, fits bool) {
	at := r.At
	if r.parts == nil {
		return s.Take(at, r.Charges[charge].Amount, r.MaxWait)
	}
	for _, p := range r.parts {
		if n := p.amounts[charge]; n >= 0 {
			if s, fits = s.Take(at, n, p.wait); !fits {
				return s, false
			}
		}
	}
	return s, true
}
