// Package zael limits the rates of many callers, across any number of
// processes, without a server of its own.
//
// A caller is an entity, what it asks for a resource, and each pair of the two
// has a bucket with any number of named limits, such as 100 requests and 40,000
// tokens a minute. A [Limiter] takes from all of them at once or from none:
//
//	l, err := zael.New(memstore.New(nil), nil)
//	…
//	err = l.Do(ctx, zael.Request{
//		Entity:   "key-1",
//		Resource: "gpt-4",
//		Limits:   []zael.Limit{zael.PerMinute("rpm", 100), zael.PerMinute("tpm", 40_000)},
//		Consume:  zael.Amounts{"rpm": 1, "tpm": 500}, // an estimate
//	}, func(ctx context.Context, lease *zael.Lease) error {
//		reply, err := call(ctx)
//		if err != nil {
//			return err // everything is given back
//		}
//		return lease.Settle(zael.Amounts{"tpm": reply.Tokens}) // the truth
//	})
//
// Limits are token buckets that refill evenly, kept by a [Store]: in memory
// (package memstore), a SQLite file (sqlitestore), a DynamoDB table (dynamostore)
// or by any other that passes package storetest. Package stores opens one by its
// URL. The arithmetic is in package bucket; what is promised is in
// docs/semantics.md.
package zael

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/line"
)

// A Config tunes a Limiter. A nil Config and the zero Config are the same.
type Config struct {
	// FailureMode decides what happens when the store cannot answer; zero is
	// FailClosed. A Request can say otherwise.
	FailureMode FailureMode

	// Timeout bounds what one operation may spend on the store, all its calls
	// together, from the first of them on; a wait in line (Request.MaxWait)
	// comes on top. Zero is 1 s. A context with an earlier deadline wins.
	Timeout time.Duration

	// ConfigTTL is how long stored limits, and the parents of entities, may be
	// answered from this process's memory; that there are none as well. Zero
	// is 60 s. Changes made through this Limiter count at once; so do, in a
	// bucket in use, changes of an entity's limits made anywhere.
	ConfigTTL time.Duration

	// Principal is who changes entities and limits, for the audit log.
	Principal string

	// Clock is the time, for tests and replays. It decides about tokens and
	// about ConfigTTL; Timeout and the sleep of Acquire run in real time. It is
	// called concurrently.
	//
	// Nil is the wall clock. Where that is behind the latest instant that the
	// store has seen, as after it was set back, the Limiter goes on from there
	// at nine tenths of the pace until the wall clock has caught up; see
	// InstantStore.
	//
	// A Clock is taken as it is. A process whose Clock is ahead starves the
	// others for the difference: they find the buckets that it uses emptier by
	// what refills in that time. Only Limiters without a Clock follow it, by a
	// day at most, on stores that are an InstantStore.
	Clock func() time.Time

	// CloseStore has the Limiter's Close close the store too, if that has a
	// method Close(context.Context) error: for who makes a store for one Limiter.
	CloseStore bool
}

const (
	defaultTimeout   = time.Second
	defaultConfigTTL = time.Minute
	cachedConfigs    = 20_000 // entities and limit sets remembered, at most twice as many

	// How far ahead places in line are taken in any case: see package line.
	nearMemory    = 2 * time.Millisecond
	nearElsewhere = 15 * time.Millisecond
)

func (c *Config) validate() error {
	if c.FailureMode > FailOpen {
		return invalid("Config.FailureMode", uint8(c.FailureMode), "is neither FailClosed nor FailOpen: use one of them, or 0 for FailClosed")
	}
	if c.Timeout < 0 {
		return invalid("Config.Timeout", c.Timeout, "is negative: use 0 for the default of "+defaultTimeout.String())
	}
	if c.ConfigTTL < 0 {
		return invalid("Config.ConfigTTL", c.ConfigTTL, "is negative: use 0 for the default of "+defaultConfigTTL.String())
	}
	return nil
}

// A Limiter takes amounts from the buckets of a Store. Its methods may be
// called concurrently.
type Limiter struct {
	store    Store
	local    LocalStore  // nil if the store has not the role
	values   ValueStore  // likewise
	entities EntityStore // likewise
	limits   LimitStore  // likewise

	mode      FailureMode
	timeout   time.Duration
	ttl       time.Duration
	principal string
	now       func() time.Time
	clock     *clock // behind now; nil if that is Config.Clock, or the store has a clock of its own

	line      *line.Line[waitKey]
	breaker   *gobreaker.CircuitBreaker[struct{}]
	lastCause atomic.Pointer[error] // of the failure that the breaker saw last

	closed   atomic.Bool
	closer   closer    // nil: the store stays open
	attempts sync.Pool // of *attempt
	sets     *cache[Key, limitSet]
	parents  *cache[string, Entity]
	stats    counters
}

// A closer is a store that can be closed.
type closer interface {
	Close(ctx context.Context) error
}

// New makes a Limiter on a store. The store stays the caller's to close, unless
// config has CloseStore. Errors are *ValidationErrors; without a Config.Clock one
// of them says that the wall clock is more than a day behind an instant that the
// store has seen.
func New(store Store, config *Config) (*Limiter, error) {
	return newLimiter(store, config, &machine{time.Now()})
}

func newLimiter(store Store, config *Config, source timeSource) (*Limiter, error) {
	if store == nil {
		return nil, invalid("store", nil, "is nil: use memstore.New(nil) or another store")
	}
	var c Config
	if config != nil {
		c = *config
	}
	if err := c.validate(); err != nil {
		return nil, err
	}
	l := &Limiter{
		store:     store,
		mode:      cmp.Or(c.FailureMode, FailClosed),
		timeout:   cmp.Or(c.Timeout, defaultTimeout),
		ttl:       cmp.Or(c.ConfigTTL, defaultConfigTTL),
		principal: c.Principal,
		now:       c.Clock,
		attempts:  sync.Pool{New: func() any { return new(attempt) }},
		sets:      newCache[Key, limitSet](cachedConfigs),
		parents:   newCache[string, Entity](cachedConfigs),
	}
	if l.now == nil {
		l.now = time.Now
		if instants, ok := store.(InstantStore); ok {
			var err error
			if l.clock, err = newClock(source, instants); err != nil {
				return nil, err
			}
			l.now = l.clock.now
		}
	}
	l.local, _ = store.(LocalStore)
	l.values, _ = store.(ValueStore)
	l.entities, _ = store.(EntityStore)
	l.limits, _ = store.(LimitStore)
	if c.CloseStore {
		l.closer, _ = store.(closer)
	}
	l.breaker = newBreaker(func() { l.stats.breaks.Add(1) })
	near := nearMemory
	if l.local == nil {
		near = nearElsewhere
	}
	l.line = line.New(lineStore{l}, line.Config{Near: near, Now: func() bucket.Instant {
		at, _ := l.instant() // one out of range is an error of the first call
		return at
	}})
	return l, nil
}

// Close makes every later call and all who wait in line fail with ErrClosed.
// Leases can still be committed or rolled back. Close does not close the store,
// unless Config.CloseStore says so; leases are then at their end as well.
func (l *Limiter) Close(ctx context.Context) error {
	if l.closed.Swap(true) {
		return ErrClosed
	}
	l.line.Close()
	if l.closer != nil {
		return l.closer.Close(ctx)
	}
	return nil
}

// Stats counts what callers are not told as errors, since New.
type Stats struct {
	Degraded     uint64 // admitted uncharged by FailOpen, or what a lease asked while the store was unavailable
	UnknownNames uint64 // names in Consume that are not among the stored limits, once a request
	StaleLimits  uint64 // acquires that met a bucket under newer stored limits than this process knew
	LostGives    uint64 // give-backs that the store did not take: they refill by themselves
	Breaks       uint64 // times that the breaker opened
}

type counters struct {
	degraded, unknownNames, staleLimits, lostGives, breaks atomic.Uint64
}

// Stats reads the counters.
func (l *Limiter) Stats() Stats {
	return Stats{
		Degraded:     l.stats.degraded.Load(),
		UnknownNames: l.stats.unknownNames.Load(),
		StaleLimits:  l.stats.staleLimits.Load(),
		LostGives:    l.stats.lostGives.Load(),
		Breaks:       l.stats.breaks.Load(),
	}
}

func (l *Limiter) checkOpen() error {
	if l.closed.Load() {
		return ErrClosed
	}
	return nil
}

// unsupported is what a call says whose role the store lacks.
func (l *Limiter) unsupported(role string) error {
	return fmt.Errorf("zael: %T is no %s: %w", l.store, role, errUnsupported)
}
