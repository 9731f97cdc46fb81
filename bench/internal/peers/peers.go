// Package peers has zael and other limiters behind one interface, with one limit for
// each key and with two.
package peers

import "time"

// A Limiter limits by key.
type Limiter interface {
	// Allow takes what a request needs from the limits of a key, and reports whether the
	// request was admitted.
	Allow(key string) bool
}

// A Limit is a token bucket in terms that all peers share.
type Limit struct {
	Name   string        // for limiters that name limits
	Every  time.Duration // refill time of one token
	Burst  int64
	Amount int64 // tokens that a request takes
}

// A Contender is one use of one limiter.
type Contender struct {
	Name   string
	Zael   bool // not a peer
	Limits int  // that a request takes from
	// AllOrNothing says that a request takes from all its limits or from none.
	AllOrNothing bool
	// SingleTokens says that a request takes one token, whatever Limit.Amount is.
	SingleTokens bool
	// Lease says that a request holds a lease, and ends it.
	Lease bool
	// New returns a limiter with the given limits. It may have a method Close().
	New func(limits []Limit) (Limiter, error)
}

// Contenders returns all contenders, in the order of the table.
func Contenders() []Contender {
	return []Contender{
		{Name: "zael Allow", Zael: true, Limits: 1, AllOrNothing: true, New: newZaelAllow},
		{Name: "zael Decide", Zael: true, Limits: 1, AllOrNothing: true, New: newZaelDecide},
		{Name: "zael Acquire+Commit", Zael: true, Lease: true, Limits: 1, AllOrNothing: true, New: newZaelAcquire},
		{Name: "x/time/rate, sync.Map", Limits: 1, AllOrNothing: true, New: newXTime},
		{Name: "x/time/rate, map+RWMutex", Limits: 1, AllOrNothing: true, New: newXTimeLocked},
		{Name: "go-limiter", Limits: 1, AllOrNothing: true, SingleTokens: true, New: newGoLimiter},
		{Name: "throttled", Limits: 1, AllOrNothing: true, New: newThrottled},
		{Name: "juju/ratelimit, sync.Map", Limits: 1, AllOrNothing: true, New: newJuju},

		{Name: "zael Allow", Zael: true, Limits: 2, AllOrNothing: true, New: newZaelAllow},
		{Name: "zael Decide", Zael: true, Limits: 2, AllOrNothing: true, New: newZaelDecide},
		{Name: "zael Acquire+Commit", Zael: true, Lease: true, Limits: 2, AllOrNothing: true, New: newZaelAcquire},
		{Name: "zael Acquire+Settle+Commit", Zael: true, Lease: true, Limits: 2, AllOrNothing: true, New: newZaelSettle},
		{Name: "x/time/rate, locked: check+take", Limits: 2, AllOrNothing: true, New: newXTimeCheck},
		{Name: "x/time/rate, locked: reserve+cancel", Limits: 2, AllOrNothing: true, New: newXTimeReserve},
		{Name: "x/time/rate, in sequence", Limits: 2, New: newXTimeSequence},
		{Name: "go-limiter, in sequence", Limits: 2, SingleTokens: true, New: newGoLimiterSequence},
		{Name: "throttled, locked: peek+take", Limits: 2, AllOrNothing: true, New: newThrottledPeek},
		{Name: "throttled, in sequence", Limits: 2, New: newThrottledSequence},
		{Name: "juju/ratelimit, locked: check+take", Limits: 2, AllOrNothing: true, New: newJujuCheck},
		{Name: "juju/ratelimit, in sequence", Limits: 2, New: newJujuSequence},
	}
}
