package redisstore

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/engineclock"
	"github.com/zeroae/zael/internal/inflight"
	"github.com/zeroae/zael/internal/storearg"
	"github.com/zeroae/zael/internal/trial"
	"github.com/zeroae/zael/internal/within"
)

// A Config tunes a Store. A nil Config and the zero Config are the same.
type Config struct {
	// Namespace keeps apart tenants of one server: up to 64 characters of
	// A-Z a-z 0-9 _ . -. Empty is one of its own.
	Namespace string

	// CallTimeout bounds one call of the server, within the operation's own deadline: a write
	// whose answer is lost is repeated after it. 0 is 400 ms. It is at most half of what
	// is left.
	CallTimeout time.Duration

	// CachedBuckets is how many buckets are remembered as they were last seen, at most
	// twice as many; without one an operation may take a second call. 0 is 50,000 (some
	// 700 bytes each).
	CachedBuckets int

	// Retention is how long usage and audit events are kept. 0 is 90 days.
	Retention time.Duration

	// Replicas is how many replicas a write waits for, by WAIT, so that it outlives the loss of
	// the primary; 0 is none, and 9 the most. A write that fewer have in time stands all the
	// same: see Stats.Unreplicated.
	Replicas int

	// Usage counts usage, by hour. Without it reading usage gives errors.ErrUnsupported.
	Usage bool
}

const (
	defaultCallTimeout = 400 * time.Millisecond
	maxLimits          = 100 // that a batch names
	maxReplicas        = 9
)

// Validate returns an error, a *zael.ValidationError, for a Config that New would refuse.
func (c *Config) Validate() error {
	common := storearg.Config{
		Namespace: c.Namespace, CallTimeout: c.CallTimeout, DefaultCallTimeout: defaultCallTimeout, CachedBuckets: c.CachedBuckets, Retention: c.Retention,
	}
	if err := common.Validate(); err != nil {
		return err
	}
	if c.Replicas < 0 || c.Replicas > maxReplicas {
		return storearg.Invalid("Config.Replicas", c.Replicas, fmt.Sprintf("is not in 0 to %d", maxReplicas))
	}
	return nil
}

// A Store is a zael.Store in Redis or Valkey. Its methods may be called concurrently, by any
// number of Stores and processes on one server.
type Store struct {
	connection connection
	where      string // the server is, for people
	cluster    bool   // keys are on several servers
	keys       keys
	config     Config
	trial      trial.Options
	cache      *cache
	limits     *limitShelf
	clock      *engineclock.Server
	stats      counters
	callLimit  *within.Timeout // of a call

	coalescer *coalesce.Coalescer
	inflight  inflight.Group

	closed atomic.Bool
	lane   chan struct{} // holds one while administration is changed

	resources  resources
	registered atomic.Bool // the namespace, or that was tried
}

var (
	_ zael.Store          = (*Store)(nil)
	_ zael.LocalStore     = (*Store)(nil)
	_ zael.SlotStore      = (*Store)(nil)
	_ zael.EntityStore    = (*Store)(nil)
	_ zael.LimitStore     = (*Store)(nil)
	_ zael.AdminStore     = (*Store)(nil)
	_ zael.NamespaceStore = (*Store)(nil)
	_ zael.OnceStore      = (*Store)(nil)
	_ zael.Applier        = (*Store)(nil)
	_ zael.CapacityReader = (*Store)(nil)
	_ zael.ListStore      = (*Store)(nil)
	_ zael.UsageStore     = (*Store)(nil)
	_ zael.AuditStore     = (*Store)(nil)
)

// New makes a store on a server. The client stays the caller's; it should be made without
// retries and client-side caching, as what to repeat is decided here. Errors are
// *zael.ValidationErrors: nothing is asked of the server.
func New(client rueidis.Client, config *Config) (*Store, error) {
	return NewTrial(client, config, trial.Options{})
}

// NewTrial is New with options for benchmarks, replays and tests of this module. Others
// cannot use it.
func NewTrial(client rueidis.Client, config *Config, options trial.Options) (*Store, error) {
	if client == nil {
		return nil, storearg.Invalid("client", nil, "is nil: make one with rueidis.NewClient")
	}
	s, err := newStore(config, options)
	if err != nil {
		return nil, err
	}
	s.connection.client.Store(&client)
	return s, nil
}

// newStore makes a store without a connection.
func newStore(config *Config, options trial.Options) (*Store, error) {
	var c Config
	if config != nil {
		c = *config
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.CallTimeout = cmp.Or(c.CallTimeout, defaultCallTimeout)
	c.CachedBuckets = cmp.Or(c.CachedBuckets, storearg.DefaultBuckets)
	c.Retention = cmp.Or(c.Retention, storearg.DefaultRetention)
	s := &Store{
		where: "Redis", keys: newKeys(c.Namespace), config: c, trial: options,
		callLimit: within.New(c.CallTimeout), cache: newCache(c.CachedBuckets), limits: newLimitShelf(), lane: make(chan struct{}, 1),
	}
	s.clock = &engineclock.Server{
		Read: engineclock.Machine(), Virtual: options.VirtualTime, Ask: s.askTime, What: "redisstore: " + askingTime, Every: askEvery, Go: s.inflight.Go,
	}
	s.coalescer = coalesce.New(engine{s}, coalesce.Config{
		MaxLimits: maxLimits, Remembered: c.CachedBuckets, Tries: maxRetries, AdvanceWhileQueued: !options.VirtualTime, Direct: options.Direct,
		Go: s.inflight.Go, GaveBack: s.gaveBack,
	})
	return s, nil
}

// String returns where the server is, without a password.
func (s *Store) String() string { return s.where }

// Close waits for what is on its way, give-backs too, as long as ctx lets it. Later calls give
// errors that match zael.ErrClosed.
func (s *Store) Close(ctx context.Context) error {
	s.closed.Store(true)
	defer s.coalescer.Close()
	if err := s.inflight.Close(ctx); err != nil {
		return fmt.Errorf("redisstore: %w", err)
	}
	s.closeConnection()
	return nil
}

var errClosed = fmt.Errorf("redisstore: %w", zael.ErrClosed)

// usable returns an error if the store is closed, or ctx is done.
func (s *Store) usable(ctx context.Context) error {
	if s.closed.Load() {
		return errClosed
	}
	if ctx.Err() != nil {
		return s.translate(ctx, "not tried", ctx.Err())
	}
	return nil
}

// newID returns the id of a write: 8 random bytes.
func newID() string {
	var b [idLength]byte
	binary.NativeEndian.PutUint64(b[:], rand.Uint64())
	return string(b[:])
}

// newGeneration returns the first generation of a limit: random, and at most 9 characters of a hash.
func newGeneration() uint64 { return rand.Uint64N(1 << 46) }
