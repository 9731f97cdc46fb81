// Package dynamostore keeps zael's buckets in a DynamoDB table, for any number
// of processes, with no server of their own.
//
// An acquire is one conditional UpdateItem: no read, one write unit. It writes
// what it guesses to be right from the last state that this process has seen,
// under the condition that the guess holds; the answer carries the item either
// way, so that a wrong guess costs a call and never a token. docs/dynamodb.md
// describes the protocol; package internal/protocol has the writes, without the SDK,
// run.go the calls, take.go and undo.go takes from several buckets.
//
// Marks are computed with the server's clock: see internal/engineclock.
package dynamostore

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/engineclock"
	"github.com/zeroae/zael/internal/inflight"
	"github.com/zeroae/zael/internal/storearg"
	"github.com/zeroae/zael/internal/trial"
)

// client is what a Store uses of *dynamodb.Client.
//
//nolint:interfacebloat // it names the calls of somebody else's type
type client interface {
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	BatchGetItem(context.Context, *dynamodb.BatchGetItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error)
	BatchWriteItem(context.Context, *dynamodb.BatchWriteItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchWriteItemOutput, error)
	TransactWriteItems(context.Context, *dynamodb.TransactWriteItemsInput, ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error)
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
}

// A Config tunes a Store. A nil Config and the zero Config are the same.
type Config struct {
	// Namespace keeps apart tenants of one table: up to 64 characters of
	// A-Z a-z 0-9 _ . -. Empty is one of its own.
	Namespace string

	// CallTimeout bounds one call of the table, within the operation's own
	// deadline: a charge whose answer is lost is repeated after it. 0 is
	// 400 ms. It is at most half of what is left.
	CallTimeout time.Duration

	// CachedBuckets is how many buckets' last states are remembered, at most
	// twice as many; without one an operation may take a second call. 0 is
	// 50,000 (some 400 bytes each).
	CachedBuckets int

	// Retention is how long audit events are kept. 0 is 90 days.
	Retention time.Duration

	// UsageCounted says that an aggregator turns the table's changes into
	// usage. Without it reading usage gives errors.ErrUnsupported.
	UsageCounted bool
}

const defaultCallTimeout = 400 * time.Millisecond

// Validate returns an error, a *zael.ValidationError, for a Config that New would refuse.
func (c *Config) Validate() error {
	common := storearg.Config{
		Namespace: c.Namespace, CallTimeout: c.CallTimeout, DefaultCallTimeout: defaultCallTimeout, CachedBuckets: c.CachedBuckets, Retention: c.Retention,
	}
	return common.Validate()
}

// A Store is a zael.Store with every role but zael.Applier, in a DynamoDB table.
// Its methods may be called concurrently, by any number of Stores and processes
// on one table.
type Store struct {
	client client
	table  string
	where  string // the table is, for errors
	keys   keys
	config Config
	trial  trial.Options
	cache  *cache
	held   holdings
	lanes  [onceLanes]lane // of takes with keys
	clock  *engineclock.Server
	stats  counters

	coalescer *coalesce.Coalescer
	inflight  inflight.Group

	random func() uint64
	closed atomic.Bool

	resources  *resourceRegistry
	registered atomic.Bool // the namespace, or that was tried
}

var (
	_ zael.Store          = (*Store)(nil)
	_ zael.LocalStore     = (*Store)(nil)
	_ zael.EntityStore    = (*Store)(nil)
	_ zael.LimitStore     = (*Store)(nil)
	_ zael.AdminStore     = (*Store)(nil)
	_ zael.NamespaceStore = (*Store)(nil)
	_ zael.CapacityReader = (*Store)(nil)
	_ zael.ListStore      = (*Store)(nil)
	_ zael.UsageStore     = (*Store)(nil)
	_ zael.AuditStore     = (*Store)(nil)
)

// New makes a store on a table that CreateTable or the stack has made. The
// client, a *dynamodb.Client, stays the caller's; its retries are not used for
// buckets. Errors are *zael.ValidationErrors: nothing is asked of the table.
func New(client client, table string, config *Config) (*Store, error) {
	return NewTrial(client, table, config, trial.Options{})
}

// NewTrial is New with options for benchmarks, replays and tests of this module. Others
// cannot use it.
func NewTrial(client client, table string, config *Config, options trial.Options) (*Store, error) {
	var c Config
	if config != nil {
		c = *config
	}
	if client == nil {
		return nil, storearg.Invalid("client", nil, "is nil: use NewClient")
	}
	if table == "" {
		return nil, storearg.Invalid("table", table, "is empty: name one, such as that of TableName")
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.CallTimeout = cmp.Or(c.CallTimeout, defaultCallTimeout)
	c.CachedBuckets = cmp.Or(c.CachedBuckets, storearg.DefaultBuckets)
	c.Retention = cmp.Or(c.Retention, storearg.DefaultRetention)
	s := &Store{
		client: client, table: table, where: located(client, table), config: c, trial: options, keys: newKeys(c.Namespace),
		cache: newCache(c.CachedBuckets), resources: newResourceRegistry(), random: rand.Uint64,
	}
	s.clock = &engineclock.Server{Read: engineclock.Machine(), Virtual: options.VirtualTime, Ask: s.askTime, What: "dynamostore: " + askingTime}
	s.lanes = newLanes()
	s.coalescer = coalesce.New(engine{s}, coalesce.Config{
		MaxLimits: protocol.MaxKindLimits, Remembered: c.CachedBuckets, Tries: maxRetries, AdvanceWhileQueued: !options.VirtualTime, Direct: options.Direct,
		Go: s.inflight.Go, GaveBack: s.gaveBack,
	})
	return s, nil
}

// String names the table.
func (s *Store) String() string { return "DynamoDB table " + s.table }

// Close waits for what is on its way, give-backs too, as long as ctx lets it.
// Later calls give errors that match zael.ErrClosed.
func (s *Store) Close(ctx context.Context) error {
	s.closed.Store(true)
	defer s.coalescer.Close()
	if err := s.inflight.Close(ctx); err != nil {
		return fmt.Errorf("dynamostore: %w", err)
	}
	return nil
}

// Stats are counts since the store was made.
type Stats struct {
	Writes      uint64 // calls that write a bucket
	Failed      uint64 // of them: the guess was wrong, or it was a refusal
	Reads       uint64 // calls that read a bucket
	Unanswered  uint64 // calls whose fate the answer did not tell
	Repeated    uint64 // operations repeated after an unanswered call: some may be charged more than once, or refused and charged
	Undone      uint64 // takes given back because the caller left, the other bucket refused, or the answer was lost
	Stranded    uint64 // takes that nobody holds and that may stay charged until they refill: an answer was lost, or giving back failed
	Conversions uint64 // writes that brought a bucket under another definition
	Contended   uint64 // operations given up with zael.ErrContention
	Throttled   uint64 // calls that the table throttled
	Shared      uint64 // operations that were one write with others
	Remembered  uint64 // refusals from memory, without a call

	WriteUnits, ReadUnits float64 // of table and index, of all calls for buckets; if the store's URL says count_units=true
}

type counters struct {
	mu sync.Mutex
	Stats
	remembered atomic.Uint64 // counted by itself, as it may be many
}

func (c *counters) count(f func(*Stats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.Stats)
}

// Stats returns the counts.
func (s *Store) Stats() Stats {
	s.stats.mu.Lock()
	defer s.stats.mu.Unlock()
	stats := s.stats.Stats
	stats.Remembered += s.stats.remembered.Load()
	return stats
}
