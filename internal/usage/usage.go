// Package usage counts what is taken from the buckets of a DynamoDB table: it turns the
// changes in the table's stream into items of usage, by entity, resource and window.
//
// A bucket's item has cumulative counters of the tokens taken of each limit, net of what
// was given back, and of acquires, and a version that each write increments. An item of
// usage has the first and the last change of its window, with the counters before the one
// and after the other (type coverage); the difference is what was taken. So it does not
// matter who brings a change, how often and in which order: a retry, a longer retry, half
// of a batch, two workers at once, or dead letters that are redriven. A change that is
// never brought counts too, if one before it and one after it are.
//
// Counters are cumulative during one life of a bucket: until it expires or is deleted, or
// a write removes counters. Each life has items of its own, and readers add them up.
//
// A change belongs to the windows of the time at which the stream got it. See
// docs/usage-counting.md for what this rests on.
package usage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/zeroae/zael"
)

// A Config configures a Counter. A nil Config is the zero Config.
type Config struct {
	Windows   []zael.Window // to count; nil means hourly and daily
	Retention time.Duration // how long usage is kept after its window: 1 to 3650 days; 0 means 90
	Parallel  int           // concurrent calls of the table; 0 means 16
}

const (
	day              = 24 * time.Hour
	defaultRetention = 90 * day
	maxRetention     = 3650 * day
	defaultParallel  = 16
)

// client is what a Counter uses of *dynamodb.Client.
type client interface {
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
}

// A Counter counts the usage of a table. Its methods may be called concurrently, and any
// number of Counters may count one table.
type Counter struct {
	client client
	table  string
	config Config
}

// New returns a Counter for a table. The client, a *dynamodb.Client, should retry: a
// change that is written twice counts once.
func New(client client, table string, config *Config) (*Counter, error) {
	var c Config
	if config != nil {
		c = *config
	}
	if c.Windows == nil {
		c.Windows = []zael.Window{zael.Hourly, zael.Daily}
	}
	c.Retention = cmp.Or(c.Retention, defaultRetention)
	c.Parallel = cmp.Or(c.Parallel, defaultParallel)
	switch {
	case client == nil || table == "":
		return nil, errors.New("usage: no client or no table")
	case len(c.Windows) == 0:
		return nil, errors.New("usage: no windows: name hourly, daily or monthly")
	case c.Retention < day || c.Retention > maxRetention:
		return nil, fmt.Errorf("usage: a retention of %v is not 1 to %d days", c.Retention, maxRetention/day)
	case c.Parallel < 0:
		return nil, fmt.Errorf("usage: %d parallel calls: use 0 for the default of %d", c.Parallel, defaultParallel)
	}
	return &Counter{client: client, table: table, config: c}, nil
}

// A Failure is a record that was not counted in all its windows.
type Failure struct {
	Sequence string // as the record has it
	Err      error  // matches ErrUncountable if it never will be counted
}

// A Result is the outcome of a batch of records.
type Result struct {
	Buckets  int       // records of changed buckets; the others are not usage
	Updates  int       // calls of the table
	Failures []Failure // in the order of the batch
}

// Count counts a batch of records. A failure of one does not affect records of other
// buckets. Records that failed may be counted again, with the whole batch or without.
func (c *Counter) Count(ctx context.Context, records []Record) Result {
	b := batch{counter: c, failed: make([]error, len(records))}
	groups := map[itemKey][]member{}
	for i := range records {
		ch, ok, err := decode(&records[i])
		if !ok {
			continue
		}
		b.buckets++
		if err != nil || ch.empty() {
			b.failed[i] = err
			continue
		}
		for _, w := range c.config.Windows {
			start, end := w.Bounds(ch.created)
			k := itemKey{ch.keys, ch.key, w, start, end, ch.life}
			groups[k] = append(groups[k], member{&ch.coverage, i})
		}
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, c.config.Parallel)
	for k, members := range groups {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			b.write(ctx, &k, members)
		})
	}
	wg.Wait()
	result := Result{Buckets: b.buckets, Updates: b.updates}
	for i, err := range b.failed {
		if err != nil {
			result.Failures = append(result.Failures, Failure{records[i].Sequence, err})
		}
	}
	return result
}

// A batch is what Count is counting.
type batch struct {
	counter *Counter
	buckets int

	mu      sync.Mutex
	updates int
	failed  []error // by record
}

// A member is a change of a batch that belongs to one item.
type member struct {
	*coverage
	record int // its index in the batch
}

// write merges the changes of a batch that belong to one item into it.
func (b *batch) write(ctx context.Context, k *itemKey, members []member) {
	covered := *members[0].coverage
	for _, m := range members[1:] {
		covered = covered.merge(m.coverage)
	}
	calls, err := b.counter.write(ctx, k, &covered)
	if err != nil {
		err = fmt.Errorf("usage: writing %s %s: %w", k.partition(), k.sort(), err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.updates += calls
	for _, m := range members {
		// Of errors in several windows keep one that may pass: the record is worth another try.
		if err != nil && (b.failed[m.record] == nil || errors.Is(b.failed[m.record], ErrUncountable)) {
			b.failed[m.record] = err
		}
	}
}
