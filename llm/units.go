package llm

import (
	"fmt"
	"maps"
	"math/bits"

	"github.com/zeroae/zael"
)

// A Unit is what a limit counts. The name of a limit tells it, or Config.Units.
type Unit uint8

const (
	_ Unit = iota
	// Requests are calls: limits named rpm, rps, rpd, rph or requests.
	Requests
	// Tokens are those of input and output: limits named tpm, tps, tpd, tph or tokens.
	Tokens
	// InputTokens are those of the prompt: itpm, itpd, input_tokens or input-tokens.
	InputTokens
	// OutputTokens are those of the answer: otpm, otpd, output_tokens or output-tokens.
	OutputTokens
	// MicroDollars are millionths of a dollar, by Config.Prices: usd. A budget is a limit
	// such as zael.EachMonth("usd", 50*llm.Dollar).
	MicroDollars
	// InFlight are calls that have not ended, for limits of zael.AtOnce: inflight,
	// in_flight, concurrent, calls or slots.
	InFlight

	unitsEnd
)

// Dollar is a dollar in MicroDollars. A constant such as 0.15*llm.Dollar is exact.
const Dollar = 1_000_000

// A Price is what a model costs, in MicroDollars for a million tokens:
//
//	llm.Price{Input: 2.50 * llm.Dollar, CachedInput: 1.25 * llm.Dollar, Output: 10 * llm.Dollar}
type Price struct {
	Input       int64
	CachedInput int64 // of input read from the provider's cache; 0 means Input
	CacheWrite  int64 // of input written to the provider's cache; 0 means Input
	Output      int64
}

const (
	maxTokens = 1_000_000_000_000
	maxPrice  = 1000 * Dollar * Dollar
)

func (p Price) valid() bool {
	for _, n := range []int64{p.Input, p.CachedInput, p.CacheWrite, p.Output} {
		if n < 0 || n > maxPrice {
			return false
		}
	}
	return true
}

// of returns the price of usage, rounded up, at most the largest amount of a limit.
func (p Price) of(u Usage) int64 {
	cached, write := p.CachedInput, p.CacheWrite
	if cached == 0 {
		cached = p.Input
	}
	if write == 0 {
		write = p.Input
	}
	var hi, lo uint64 // of a 128-bit sum
	for _, part := range [][2]int64{{u.Input - u.CachedInput - u.CacheWrite, p.Input}, {u.CachedInput, cached}, {u.CacheWrite, write}, {u.Output, p.Output}} {
		h, l := bits.Mul64(uint64(max(0, part[0])), uint64(part[1]))
		var carry uint64
		lo, carry = bits.Add64(lo, l, 0)
		hi, _ = bits.Add64(hi, h, carry)
	}
	lo, carry := bits.Add64(lo, Dollar-1, 0)
	hi += carry
	if hi >= Dollar {
		return maxAmount
	}
	sum, _ := bits.Div64(hi, lo, Dollar)
	return int64(min(sum, maxAmount))
}

// maxAmount is the largest amount of a limit.
const maxAmount = 1_000_000_000_000_000

// A limitUnit is a limit's name and what it counts.
type limitUnit struct {
	name string
	unit Unit
}

// UnitOf returns what a limit counts by its name, and whether the name tells.
func UnitOf(limit string) (unit Unit, ok bool) {
	unit = unitNamed(limit)
	return unit, unit != 0
}

// unitNamed returns what a limit's name tells that it counts, or 0.
func unitNamed(name string) Unit {
	switch name {
	case "rpm", "rps", "rpd", "rph", "requests":
		return Requests
	case "tpm", "tps", "tpd", "tph", "tokens":
		return Tokens
	case "itpm", "itpd", "input_tokens", "input-tokens":
		return InputTokens
	case "otpm", "otpd", "output_tokens", "output-tokens":
		return OutputTokens
	case "usd":
		return MicroDollars
	case "inflight", "in_flight", "concurrent", "calls", "slots":
		return InFlight
	}
	return 0
}

// unitsOf returns what the limits of a policy count.
func (l *Limits) unitsOf(policy *zael.Policy) ([]limitUnit, error) {
	names := policy.Names()
	if len(names) == 0 {
		return nil, &zael.ValidationError{Field: "policy", Value: policy.Resource(), Reason: "names no limits: name those of a StoredPolicy"}
	}
	units := make([]limitUnit, len(names))
	for i, name := range names {
		unit := l.config.Units[name]
		if unit == 0 {
			unit = unitNamed(name)
		}
		if unit == 0 {
			return nil, &zael.ValidationError{
				Field: "policy", Value: name,
				Reason: fmt.Sprintf("is a limit of %s whose name does not tell what it counts: set Config.Units", policy.Resource()),
			}
		}
		units[i] = limitUnit{name, unit}
	}
	return units, nil
}

// estimated reports whether a limit takes an estimate.
func estimated(units []limitUnit, name string) bool {
	for _, u := range units {
		if u.name == name {
			return u.unit != Requests && u.unit != InFlight
		}
	}
	return false
}

// amounts returns what usage takes of each limit, and requests of those that count them.
func (x *exchange) amounts(u Usage, requests int64) (zael.Amounts, error) {
	all := make(zael.Amounts, len(x.units))
	input := max(0, u.Input-u.CachedInput)
	for _, l := range x.units {
		switch l.unit {
		case Requests, InFlight:
			all[l.name] = requests
		case Tokens:
			all[l.name] = input + u.Output
		case InputTokens:
			all[l.name] = input
		case OutputTokens:
			all[l.name] = u.Output
		case MicroDollars:
			if x.call.API == Listing {
				all[l.name] = 0
				continue
			}
			price, err := x.limits.priceOf(x.call, l.name)
			if err != nil {
				return nil, err
			}
			all[l.name] = price.of(u)
		}
	}
	if x.limits.config.Amounts != nil {
		maps.Copy(all, x.limits.config.Amounts(x.call, u))
	}
	return all, nil
}

// priceOf returns the price of a call's model.
func (l *Limits) priceOf(call *Call, limit string) (Price, error) {
	price, ok := l.config.Prices[call.Model]
	if !ok && l.config.Price != nil {
		price, err := l.config.Price(call)
		if err == nil && !price.valid() {
			err = fmt.Errorf("Config.Price returned a price of %q that is negative or more than 1,000 dollars a token", call.Model)
		}
		return price, err
	}
	if !ok {
		price, ok = l.config.Prices[""]
	}
	if !ok {
		return price, fmt.Errorf("the limit %s counts money, and the model %q has no price: add it to Config.Prices", limit, call.Model)
	}
	return price, nil
}

// settled is amounts for Lease.Settle, which is not for what is in flight.
func (x *exchange) settled(u Usage) (zael.Amounts, error) {
	all, err := x.amounts(u, 1)
	for _, l := range x.units {
		if l.unit == InFlight {
			delete(all, l.name)
		}
	}
	return all, err
}
