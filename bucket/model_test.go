package bucket_test

import (
	"math"
	"math/big"

	"pgregory.net/rapid"

	"github.com/zeroae/zael/bucket"
)

// A model is a bucket in a second formulation: in tokens, as rational numbers
// of any size, from the formulas of the package comment. It shares no
// arithmetic with the package.
type model struct {
	def        bucket.Definition
	mark       *big.Rat // in tokens; nil if the limit was never charged
	generation uint64
}

func whole(n int64) *big.Rat     { return new(big.Rat).SetInt64(n) }
func add(a, b *big.Rat) *big.Rat { return new(big.Rat).Add(a, b) }
func sub(a, b *big.Rat) *big.Rat { return new(big.Rat).Sub(a, b) }
func mul(a, b *big.Rat) *big.Rat { return new(big.Rat).Mul(a, b) }
func quo(a, b *big.Rat) *big.Rat { return new(big.Rat).Quo(a, b) }
func atMost(a, b *big.Rat) bool  { return a.Cmp(b) <= 0 }
func least(a, b *big.Rat) *big.Rat {
	if atMost(a, b) {
		return a
	}
	return b
}

func greatest(a, b *big.Rat) *big.Rat {
	if atMost(a, b) {
		return b
	}
	return a
}

// floor is the greatest whole number that is at most x. (The denominator of a
// Rat is positive, and Div then rounds towards −∞.)
func floor(x *big.Rat) *big.Rat {
	return new(big.Rat).SetInt(new(big.Int).Div(x.Num(), x.Denom()))
}

func ceil(x *big.Rat) *big.Rat {
	return new(big.Rat).Neg(floor(new(big.Rat).Neg(x)))
}

// clamp is the whole number x as an int64, at its end if it is beyond.
func clamp(x *big.Rat) int64 {
	switch {
	case !atMost(x, whole(math.MaxInt64)):
		return math.MaxInt64
	case !atMost(whole(math.MinInt64), x):
		return math.MinInt64
	}
	return x.Num().Int64()
}

// tokensPerSecond is the rate.
func tokensPerSecond(d bucket.Definition) *big.Rat {
	return quo(mul(whole(d.Amount), whole(1e9)), whole(int64(d.Period)))
}

// unitOf is the number of units in a token.
func unitOf(d bucket.Definition) *big.Rat {
	if atMost(tokensPerSecond(d), whole(1e6)) {
		return whole(1000)
	}
	return whole(1)
}

// refill is what refills in a time, in tokens, not rounded.
func refill(d bucket.Definition, nanoseconds *big.Rat) *big.Rat {
	return mul(quo(whole(d.Amount), whole(int64(d.Period))), nanoseconds)
}

// dripOf is drip in tokens, rounded down to a unit.
func dripOf(d bucket.Definition, at *big.Rat) *big.Rat {
	return quo(floor(mul(refill(d, at), unitOf(d))), unitOf(d))
}

func modelOf(s bucket.State) model {
	m := model{def: s.Definition, generation: s.Generation}
	if s.Definition != (bucket.Definition{}) {
		m.mark = quo(whole(s.Mark), unitOf(s.Definition))
	}
	return m
}

// markOf is the model's mark in units, and whether it is one that an int64
// holds.
func (m model) markOf() (mark int64, ok bool) {
	units := mul(m.mark, unitOf(m.def))
	return clamp(units), units.IsInt() && atMost(units, whole(math.MaxInt64)) && atMost(whole(math.MinInt64), units)
}

func (m model) level(at *big.Rat) *big.Rat {
	return greatest(whole(0), sub(m.mark, dripOf(m.def, at)))
}

func (m model) full(at bucket.Instant) bool {
	return m.mark == nil || m.level(whole(int64(at))).Sign() == 0
}

func (m model) available(at bucket.Instant) int64 {
	return clamp(floor(sub(whole(m.def.Burst), m.level(whole(int64(at))))))
}

// fits tells whether n tokens could be taken at an instant, which may be any.
func (m model) fits(at *big.Rat, n int64) bool {
	return atMost(add(m.level(at), whole(n)), whole(m.def.Burst))
}

// pushed is the model after n tokens at an instant, whether they fit or not.
func (m model) pushed(at bucket.Instant, n int64) model {
	if n != 0 {
		m.mark = add(greatest(m.mark, dripOf(m.def, whole(int64(at)))), whole(n))
	}
	return m
}

func (m model) take(at bucket.Instant, n, ahead int64) (model, bool) {
	then := least(add(whole(int64(at)), whole(ahead)), whole(int64(bucket.MaxInstant)))
	if n < 0 || ahead < 0 || !m.fits(then, n) {
		return m, false
	}
	return m.pushed(at, n), true
}

func (m model) charge(at bucket.Instant, n int64) (model, bool) {
	if n < 0 || n > 1e15 {
		return m, false
	}
	after := m.pushed(at, n)
	if _, ok := after.markOf(); !ok && n > 0 {
		return m, false
	}
	return after, true
}

func (m model) give(at bucket.Instant, n int64, r bucket.Receipt) model {
	if n <= 0 || n > 1e15 || m.mark == nil || m.generation != r.Generation || m.full(at) {
		return m
	}
	drip := dripOf(m.def, whole(int64(at)))
	owned := quo(whole(r.Mark), unitOf(m.def))
	left := sub(owned, drip)
	if left.Sign() <= 0 || left.Cmp(whole(m.def.Burst)) > 0 && owned.Cmp(m.mark) != 0 {
		return m
	}
	m.mark = greatest(drip, sub(m.mark, least(whole(n), left)))
	return m
}

// waited checks a wait against its definition: n fit after it and not a
// nanosecond earlier, or never before the end of int64.
func (m model) waited(t *rapid.T, at bucket.Instant, n, wait int64) {
	fits := func(wait int64) bool { return m.fits(add(whole(int64(at)), whole(wait)), n) }
	switch {
	case wait == math.MaxInt64:
		// The last instant and the last wait that are not the end of int64.
		last := min(math.MaxInt64-1, math.MaxInt64-1-int64(max(at, 0)))
		if fits(last) {
			t.Fatalf("wait: got Never, want a time: %d tokens fit after %d ns", n, last)
		}
	case wait < 0:
		t.Fatalf("wait: got %d ns, want none below 0", wait)
	case !fits(wait):
		t.Fatalf("wait: got %d ns, want more: %d tokens do not fit then", wait, n)
	case wait > 0 && fits(wait-1):
		t.Fatalf("wait: got %d ns, want less: %d tokens fit 1 ns earlier", wait, n)
	}
}

func (m model) under(d bucket.Definition, at bucket.Instant, birth uint64) model {
	drip := dripOf(d, whole(int64(at)))
	if m.mark == nil {
		return model{def: d, mark: drip, generation: birth}
	}
	if d.Rev == 0 {
		d.Rev = m.def.Rev
	}
	if d.Burst == m.def.Burst && d.Amount == m.def.Amount && d.Period == m.def.Period {
		m.def = d // another capacity or revision only
		return m
	}
	level := m.level(whole(int64(at)))
	if m.def.Rev > 0 && d.Rev > m.def.Rev {
		debt := greatest(whole(0), sub(level, whole(max(m.def.Burst, d.Burst))))
		level = add(least(level, whole(d.Burst)), debt)
	}
	level = quo(ceil(mul(level, unitOf(d))), unitOf(d))
	end := quo(whole(math.MaxInt64), unitOf(d))
	return model{def: d, mark: least(add(drip, level), end), generation: m.generation + 1}
}

// same fails unless the state is what the model says.
func (m model) same(t *rapid.T, what string, got bucket.State) {
	want := bucket.State{Definition: m.def, Generation: m.generation}
	if m.mark != nil {
		mark, ok := m.markOf()
		if !ok {
			t.Fatalf("%s: the model's mark, %s tokens, is none", what, m.mark)
		}
		want.Mark = mark
	}
	if got != want {
		t.Fatalf("%s: got %+v, want %+v", what, got, want)
	}
}
