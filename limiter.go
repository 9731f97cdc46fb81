// Package zael limits the rates of many callers, across any number of
// processes, without a server of its own.
//
// A caller is an entity, what it asks for a resource, and each pair of the two
// has a bucket with any number of named limits, such as 100 requests and 40,000
// tokens a minute. A [Limiter] takes from all of them at once or from none:
//
//	l, err := zael.New(memstore.New(nil), nil)
//	…
//	chat := zael.MustPolicy("gpt-4", zael.PerMinute("rpm", 100), zael.PerMinute("tpm", 40_000))
//	err = l.Do(ctx, chat.For("key-1", 1, 500), func(ctx context.Context, lease *zael.Lease) error {
//		reply, err := call(ctx)
//		if err != nil {
//			return err // everything is given back
//		}
//		return lease.Settle(zael.Amounts{"tpm": reply.Tokens}) // the truth, instead of 500
//	})
//
// Limits are rates, which are token buckets that refill evenly, quotas of a calendar,
// windows from the first use, and slots: see [Kind]. A [Store] keeps them: in memory
// (package memstore), in a SQLite file (sqlitestore), in PostgreSQL (postgresstore), in
// Redis or Valkey (redisstore), in a DynamoDB table (dynamostore), or any other that
// passes the checks of package storetest. Package stores opens a store by its URL. The
// arithmetic is in package bucket. The formulas and the promises are in
// docs/semantics.md, the words in docs/glossary.md.
package zael

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/line"
	"github.com/zeroae/zael/internal/within"
)

// A Config tunes a [Limiter]. A nil *Config is the same as the zero Config.
type Config struct {
	// FailureMode decides what happens when the store cannot answer. Zero means
	// FailClosed. Request.FailureMode overrides it.
	FailureMode FailureMode

	// Timeout is how long one operation may take for all its calls of the store
	// together, from the first of them on. A wait in line (Request.MaxWait) comes
	// on top. Zero means 1 s. An earlier deadline of the context holds.
	Timeout time.Duration

	// ConfigTTL is how long this process remembers stored limits and entities, or
	// that there are none. Zero means 60 s. Changes made through this Limiter bind
	// at once. So do changes that any process makes to an entity's limits, in
	// buckets that are in use.
	ConfigTTL time.Duration

	// Principal names who changes entities and limits, in audit events.
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

	// Observer is told of decisions, leases and calls of the store. Nil costs nothing.
	Observer Observer

	// CloseStore makes Limiter.Close close the store as well, if the store has a
	// method Close(context.Context) error.
	CloseStore bool
}

const (
	defaultTimeout   = time.Second
	defaultConfigTTL = time.Minute
	cachedConfigs    = 20_000 // size of each cache

	// How far ahead places in line are taken at least; see package line.
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

// A Limiter takes tokens from the buckets of a [Store]. Its methods may be called
// concurrently. Those of a nil Limiter, and of one that New has not made, fail.
type Limiter struct {
	store       Store
	localStore  LocalStore  // nil if the store lacks the role
	valueStore  ValueStore  // nil if the store lacks the role
	entityStore EntityStore // nil if the store lacks the role
	limitStore  LimitStore  // nil if the store lacks the role
	adminStore  AdminStore  // nil if the store lacks the role
	slotStore   SlotStore   // nil: slots need no renewal
	onceStore   OnceStore   // nil if the store lacks the role
	holder      string      // of slots of this process
	holdings    holdings
	tethers     sync.Pool // of *tether
	turns       turns

	mode      FailureMode
	timeout   time.Duration
	within    *within.Timeout // the same
	ttl       time.Duration
	principal string
	now       func() time.Time
	clock     *clock // what now reads; nil if that is Config.Clock or the wall clock

	line      *line.Line[waitKey]
	breaker   *gobreaker.CircuitBreaker[struct{}]
	probing   atomic.Bool           // the breaker is half open
	lastCause atomic.Pointer[error] // of the last failure that the breaker counted

	closed       atomic.Bool
	closer       closer    // what Close closes; nil if the store stays open
	attempts     sync.Pool // of *attempt
	observer     Observer  // nil if there is none
	observations sync.Pool // of *Observed
	limitCache   *cache[Key, effectiveLimits]
	entityCache  *cache[string, Entity]
	stats        counters

	settingsCache *cache[Key, effectiveSettings]
	state         atomic.Pointer[cacheEntry[StoreState]]
}

// A closer is a store that can be closed.
type closer interface {
	Close(ctx context.Context) error
}

// New returns a Limiter on a store. Closing the store is left to the caller, unless
// Config.CloseStore is set. The error is a [*ValidationError] if the config is not
// valid or, without a Config.Clock, if the wall clock is more than a day behind an
// instant that the store has seen.
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
		store:        store,
		mode:         cmp.Or(c.FailureMode, FailClosed),
		timeout:      cmp.Or(c.Timeout, defaultTimeout),
		within:       within.New(cmp.Or(c.Timeout, defaultTimeout)),
		ttl:          cmp.Or(c.ConfigTTL, defaultConfigTTL),
		principal:    c.Principal,
		now:          c.Clock,
		attempts:     sync.Pool{New: func() any { return new(attempt) }},
		observer:     c.Observer,
		observations: sync.Pool{New: func() any { return new(Observed) }},
		limitCache:   newCache[Key, effectiveLimits](cachedConfigs),
		entityCache:  newCache[string, Entity](cachedConfigs),

		settingsCache: newCache[Key, effectiveSettings](cachedConfigs),
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
	l.localStore, _ = store.(LocalStore)
	l.entityStore, _ = store.(EntityStore)
	l.limitStore, _ = store.(LimitStore)
	l.adminStore, _ = store.(AdminStore)
	l.onceStore, _ = store.(OnceStore)
	if l.slotStore, _ = store.(SlotStore); l.slotStore != nil {
		l.holder = newHolder()
	} else {
		l.valueStore, _ = store.(ValueStore)
	}
	l.state.Store(newCacheEntry[StoreState]())
	if c.CloseStore {
		l.closer, _ = store.(closer)
	}
	l.breaker = newBreaker(l.breakerChanged, &l.probing)
	near := nearMemory
	if l.localStore == nil {
		near = nearElsewhere
	}
	l.line = line.New(lineStore{l}, line.Config{Near: near, Now: func() bucket.Instant {
		at, _ := l.instant() // one out of range is an error of the first call
		return at
	}})
	return l, nil
}

// Close makes later calls, and callers that wait in line, fail with [ErrClosed]. Leases
// can still be committed and rolled back, unless Config.CloseStore makes Close close
// the store as well. Close returns the store's error, or ErrClosed if the Limiter was
// closed before.
func (l *Limiter) Close(ctx context.Context) error {
	if err := l.checkOpen(); err != nil {
		return err
	}
	if l.closed.Swap(true) {
		return ErrClosed
	}
	l.line.Close()
	l.turns.close()
	l.holdings.close()
	if l.closer != nil {
		return l.closer.Close(ctx)
	}
	return nil
}

// Stats counts, since New, what callers do not learn from errors.
type Stats struct {
	Degraded     uint64 // operations that FailOpen let pass, uncharged, as the store was unavailable
	UnknownNames uint64 // requests whose Consume has a name that is not among the stored limits
	StaleLimits  uint64 // acquires that found a bucket under newer stored limits than this process knew
	LostGives    uint64 // give-backs that failed; the tokens refill by themselves
	Breaks       uint64 // times that the breaker opened
	LeakedLeases uint64 // leases with slots that were never ended, whose slots were released when they could not be reached any more
}

type counters struct {
	degraded, unknownNames, staleLimits, lostGives, breaks, leakedLeases atomic.Uint64
}

// Stats returns the counters; all are 0 if New has not made the Limiter.
func (l *Limiter) Stats() Stats {
	if l == nil {
		return Stats{}
	}
	return Stats{
		Degraded:     l.stats.degraded.Load(),
		UnknownNames: l.stats.unknownNames.Load(),
		StaleLimits:  l.stats.staleLimits.Load(),
		LostGives:    l.stats.lostGives.Load(),
		Breaks:       l.stats.breaks.Load(),
		LeakedLeases: l.stats.leakedLeases.Load(),
	}
}

// checkOpen returns an error if the Limiter is closed, or was not made by New.
func (l *Limiter) checkOpen() error {
	if l == nil || l.store == nil {
		return invalid("Limiter", nil, "is nil or the zero value: make one with New")
	}
	if l.closed.Load() {
		return ErrClosed
	}
	return nil
}

// unsupported returns the error of a method that needs a role which the store lacks.
func (l *Limiter) unsupported(role string) error {
	return fmt.Errorf("zael: %T is not a zael.%s: %w", l.store, role, errors.ErrUnsupported)
}
