package postgresstore

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/engineclock"
	"github.com/zeroae/zael/internal/inflight"
	"github.com/zeroae/zael/internal/storearg"
	"github.com/zeroae/zael/internal/trial"
)

// Durability is what a loss of the server's memory may lose.
type Durability uint8

// The zero value is DurabilityOn.
const (
	DurabilityOn  Durability = iota // nothing: a charge is acknowledged when the disk has it, as synchronous_commit says
	DurabilityOff                   // the last charges, by default of less than a second; the rest is whole
)

// A Config tunes a Store. A nil Config and the zero Config are the same.
type Config struct {
	// Schema is that of the tables. The default is zael.
	Schema string

	// Namespace keeps apart tenants of one schema: up to 64 characters of
	// A-Z a-z 0-9 _ . -. Empty is one of its own.
	Namespace string

	// Usage has acquires counted, in the transaction that takes. Without it reading usage
	// gives errors.ErrUnsupported.
	Usage bool

	// Durability is what a loss of the server's memory may lose.
	Durability Durability

	// Pool is how many connections there are at most, 2 to 1000. 0 is 8.
	Pool int

	// Migrate has the first call make the tables where they are missing.
	Migrate bool

	// CachedBuckets is how many buckets' last states are remembered, at most twice as many;
	// without one an operation may take a second call. 0 is 50,000 (some 500 bytes each).
	CachedBuckets int

	// Retention is how long usage and audit events are kept. 0 is 90 days.
	Retention time.Duration
}

const (
	defaultPool = 8
	mostPool    = 1000
	mostSchema  = 63 // bytes of a name in PostgreSQL
)

// Validate returns an error, a *zael.ValidationError, for a Config that Open would refuse.
func (c *Config) Validate() error {
	common := storearg.Config{Namespace: c.Namespace, CachedBuckets: c.CachedBuckets, Retention: c.Retention}
	if err := common.Validate(); err != nil {
		return err
	}
	switch {
	case len(c.Schema) > mostSchema || strings.ContainsRune(c.Schema, 0):
		return storearg.Invalid("Config.Schema", c.Schema, fmt.Sprintf("is not the name of a schema: use up to %d bytes, or nothing for %s", mostSchema, defaultSchema))
	case c.Durability > DurabilityOff:
		return storearg.Invalid("Config.Durability", uint8(c.Durability), "is neither DurabilityOn nor DurabilityOff: use one of them, or 0 for DurabilityOn")
	case c.Pool != 0 && (c.Pool < 2 || c.Pool > mostPool):
		return storearg.Invalid("Config.Pool", c.Pool, fmt.Sprintf("is not in 2 to %d: use 0 for the default of %d", mostPool, defaultPool))
	}
	return nil
}

// A Store is a zael.Store with every role of stores that processes share, in a PostgreSQL
// database. Its methods may be called concurrently, by any number of Stores and processes.
type Store struct {
	administration

	config Config
	where  string
	trial  trial.Options
	pool   *pgxpool.Pool

	queue queue
	ops   sync.Pool // of *op
	stats counters

	clock *engineclock.Server

	inflight inflight.Group
	life     context.Context // of all that runs for nobody in particular; done when Close gives up
	end      context.CancelFunc
	lanes    sync.WaitGroup
	sweeping sync.WaitGroup
	sweepEnd context.CancelFunc

	ready  atomic.Bool // the tables are there, in this version
	random func() int64
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

// New returns a store whose connections are as a pgxpool.Config says, for programs that need more
// than a URL can say: tokens instead of passwords in BeforeConnect, for instance. It connects to
// nothing: see Open. Errors are *zael.ValidationErrors. The caller must call Close.
func New(pool *pgxpool.Config, config *Config) (*Store, error) {
	return NewTrial(pool, config, trial.Options{})
}

// NewTrial is New with options for benchmarks, replays and tests of this module. Others cannot
// use it.
func NewTrial(pool *pgxpool.Config, config *Config, options trial.Options) (*Store, error) {
	var c Config
	if config != nil {
		c = *config
	}
	if pool == nil {
		return nil, storearg.Invalid("pool", nil, "is nil: make one by pgxpool.ParseConfig, or use Open")
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.Schema = cmp.Or(c.Schema, defaultSchema)
	c.Pool = cmp.Or(c.Pool, defaultPool)
	c.CachedBuckets = cmp.Or(c.CachedBuckets, storearg.DefaultBuckets)
	c.Retention = cmp.Or(c.Retention, storearg.DefaultRetention)
	pc := pool.Copy()
	pc.MaxConns = int32(c.Pool)                                //nolint:gosec // at most mostPool
	pc.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // nothing stays in a session: poolers may pass it on after each transaction
	pc.ConnConfig.StatementCacheCapacity, pc.ConnConfig.DescriptionCacheCapacity = 0, 0
	connections, err := pgxpool.NewWithConfig(context.Background(), pc)
	if err != nil {
		return nil, storearg.Invalid("pool", nil, "cannot be used: "+parseReason(err))
	}
	s := &Store{
		config: c, where: location(pc.ConnConfig), trial: options, pool: connections,
		random: func() int64 { return 1 + rand.Int64N(1<<62) },
	}
	s.administration = newAdministration(s, c.Namespace)
	s.clock = &engineclock.Server{Read: engineclock.Machine(), Virtual: options.VirtualTime, Ask: s.askTime, What: "postgresstore: " + askingTime}
	s.life, s.end = context.WithCancel(context.Background())
	s.queue.init(c.CachedBuckets)
	for range c.Pool - max(1, c.Pool/4) { // the rest is for what is no acquire
		s.lanes.Go(s.lane)
	}
	sweepCtx, sweepEnd := context.WithCancel(s.life)
	s.sweepEnd = sweepEnd
	if !options.VirtualTime {
		s.sweeping.Go(func() { s.sweepForever(sweepCtx) })
	}
	return s, nil
}

// location names a database without user and password.
func location(c *pgx.ConnConfig) string {
	servers := []string{net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))}
	for _, f := range c.Fallbacks {
		if server := net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port))); !slices.Contains(servers, server) {
			servers = append(servers, server)
		}
	}
	return strings.Join(servers, ",") + "/" + c.Database
}

// String returns "PostgreSQL" and host, port and database.
func (s *Store) String() string { return "PostgreSQL " + s.where }

// Close answers all waiting callers, waits for what is on its way, give-backs too, and closes
// the connections. If ctx is done first, it returns an error at once, and what is on its way is
// cut off. Later calls of other methods return an error that matches zael.ErrClosed. Close may
// be called more than once.
func (s *Store) Close(ctx context.Context) error {
	s.queue.close()
	s.sweepEnd()
	err := s.inflight.Close(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.lanes.Wait()
		s.sweeping.Wait()
		s.pool.Close()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		err = fmt.Errorf("postgresstore: closing, with writes on their way: %w", ctx.Err())
		s.queue.reject()
	}
	s.end()
	<-done // what is cut off ends at once
	return err
}

// sql returns a text about the store's schema.
func (s *Store) sql(text string) string { return inSchema(s.config.Schema, text) }

// Stats are counts since the store was made.
type Stats struct {
	Calls      uint64 // statements and transactions that read or write buckets
	Written    uint64 // buckets written
	Offered    uint64 // of them, by takes made of a bucket as another process had left it
	Changed    uint64 // buckets that another process had changed: they were computed again
	Locked     uint64 // transactions that locked their buckets first
	Unanswered uint64 // calls whose answer was lost
	Undone     uint64 // takes given back because the caller left
	Stranded   uint64 // takes that nobody holds and that may stay charged until they refill
	Remembered uint64 // refusals from memory, without a call
}

type counters struct {
	calls, written, offered, changed, locked, unanswered, undone, stranded, remembered atomic.Uint64
}

// Stats returns the counts.
func (s *Store) Stats() Stats {
	c := &s.stats
	return Stats{
		Calls: c.calls.Load(), Written: c.written.Load(), Offered: c.offered.Load(), Changed: c.changed.Load(), Locked: c.locked.Load(),
		Unanswered: c.unanswered.Load(), Undone: c.undone.Load(), Stranded: c.stranded.Load(), Remembered: c.remembered.Load(),
	}
}
