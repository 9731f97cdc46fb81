// Package peers has zael and other limiters behind one interface: every way to
// limit by key with one limit, and with two.
package peers

import "time"

// A Limiter asks for one request of a key what its limits take, and tells
// whether it was admitted.
type Limiter interface {
	Allow(key string) bool
}

// A Limit is a token bucket in the terms that all peers share.
type Limit struct {
	Name   string        // for those who name limits
	Every  time.Duration // a token
	Burst  int64
	Amount int64 // tokens that a request takes
}

// A Way is one way to limit.
type Way struct {
	Name   string
	Zael   bool // not a peer
	Limits int  // how many limits a request takes from
	// Whole tells that a request takes from all its limits or from none.
	Whole bool
	// Ones tells that each limit gives one token only, whatever Limit.Amount.
	Ones bool
	// Lease tells that a request holds a lease, and ends it.
	Lease bool
	// New makes the limiter for as many limits. It may have a method Close().
	New func(limits []Limit) (Limiter, error)
}

// Ways are all ways, in the order of the table.
func Ways() []Way {
	return []Way{
		{Name: "zael Allow", Zael: true, Limits: 1, Whole: true, New: newZaelAllow},
		{Name: "zael Acquire+Commit", Zael: true, Lease: true, Limits: 1, Whole: true, New: newZaelAcquire},
		{Name: "x/time/rate, sync.Map", Limits: 1, Whole: true, New: newXTime},
		{Name: "x/time/rate, map+RWMutex", Limits: 1, Whole: true, New: newXTimeLocked},
		{Name: "go-limiter", Limits: 1, Whole: true, Ones: true, New: newGoLimiter},
		{Name: "throttled", Limits: 1, Whole: true, New: newThrottled},
		{Name: "juju/ratelimit, sync.Map", Limits: 1, Whole: true, New: newJuju},

		{Name: "zael Allow", Zael: true, Limits: 2, Whole: true, New: newZaelAllow},
		{Name: "zael Acquire+Commit", Zael: true, Lease: true, Limits: 2, Whole: true, New: newZaelAcquire},
		{Name: "zael Acquire+Settle+Commit", Zael: true, Lease: true, Limits: 2, Whole: true, New: newZaelSettle},
		{Name: "x/time/rate, locked: check+take", Limits: 2, Whole: true, New: newXTimeCheck},
		{Name: "x/time/rate, locked: reserve+cancel", Limits: 2, Whole: true, New: newXTimeReserve},
		{Name: "x/time/rate, in sequence", Limits: 2, New: newXTimeSequence},
		{Name: "go-limiter, in sequence", Limits: 2, Ones: true, New: newGoLimiterSequence},
		{Name: "throttled, locked: peek+take", Limits: 2, Whole: true, New: newThrottledPeek},
		{Name: "throttled, in sequence", Limits: 2, New: newThrottledSequence},
		{Name: "juju/ratelimit, locked: check+take", Limits: 2, Whole: true, New: newJujuCheck},
		{Name: "juju/ratelimit, in sequence", Limits: 2, New: newJujuSequence},
	}
}
