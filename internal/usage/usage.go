// Package usage counts what is taken from buckets in a DynamoDB table: it turns
// the changes in the table's stream into items of usage, by entity, resource and
// window, each change once.
//
// A bucket's item has counters of all that was ever taken of it, net of what was
// given back, and of acquires. What a change adds to them is exact, whatever
// refilled. It counts in the windows of the time at which the stream had the
// change, whenever it is read.
//
// An item of usage says itself which changes it has in it (type counted): the
// sequence numbers of the first and the last, and of the holes between, where
// something may be missing. So it does not matter who brings a change, how often and in which
// order: a retry, a longer one, half of a batch, two workers at once, or a
// redrive of dead letters whose batch had partly succeeded. A hole is found
// without looking for it: each change tells the counters before it, and if these
// are not those that the last counted one left, something lies between.
//
// An item remembers holes for two days, and so many. Of a change that lies where
// they are forgotten it is not known whether it is counted: it is reported, with
// ErrUncountable, never dropped, and never counted twice.
package usage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/schema"
)

// A Config tunes a Counter. A nil Config and the zero Config are the same.
type Config struct {
	Windows   []zael.Window // that are counted; nil: hourly and daily
	Retention time.Duration // how long usage is kept after its window; 0: 90 days. 1 to 3650 days
	Parallel  int           // calls at a time; 0: 16
	Log       *slog.Logger  // told what must not happen; nil: nobody
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

// A Counter counts usage in a table. Its methods may be called concurrently, by
// any number of Counters and processes on one table.
type Counter struct {
	client client
	table  string
	config Config

	mostHoles int // of an item
}

// New makes a Counter of a table. The client, a *dynamodb.Client, should retry:
// what is written twice counts once.
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
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case client == nil || table == "":
		return nil, errors.New("usage: no client or no table")
	case len(c.Windows) == 0:
		return nil, errors.New("usage: no windows: name hourly, daily or monthly")
	case c.Retention < day || c.Retention > maxRetention:
		return nil, fmt.Errorf("usage: a retention of %v is not 1 to %d days", c.Retention, maxRetention/day)
	case c.Parallel < 0:
		return nil, fmt.Errorf("usage: %d calls at a time: use 0 for the default of %d", c.Parallel, defaultParallel)
	}
	return &Counter{client: client, table: table, config: c, mostHoles: mostHoles}, nil
}

// A Failure is a record that was not counted in all its windows.
type Failure struct {
	Sequence string // as the record has it
	Err      error  // matches ErrUncountable if it never will be
}

// A Result is what came of a batch of records.
type Result struct {
	Buckets  int       // records of buckets that are there: the others are nobody's usage
	Updates  int       // writes of usage
	Failures []Failure // in the order of the batch
}

// Count counts a batch of records, in the order of their shard. A failure of one
// does not keep back those of other buckets. What has failed may be counted
// again with the whole batch, with more or with less.
func (c *Counter) Count(ctx context.Context, records []Record) Result {
	var result Result
	failed := make([]error, len(records))
	groups := map[place][]member{}
	for i := range records {
		ch, ok, err := read(&records[i])
		if !ok {
			continue
		}
		result.Buckets++
		if failed[i] = err; err != nil {
			continue
		}
		for _, w := range c.config.Windows {
			start, end := w.Bounds(ch.created)
			p := place{ch.keys, ch.key, w, start, end}
			groups[p] = append(groups[p], member{ch, i})
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, c.config.Parallel)
	for p, members := range groups {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			updates := c.group(ctx, &p, members, func(members []member, err error) {
				mu.Lock()
				defer mu.Unlock()
				for _, m := range members { // one will do, of which trying again may help
					if failed[m.index] == nil || errors.Is(failed[m.index], ErrUncountable) {
						failed[m.index] = err
					}
				}
			})
			mu.Lock()
			defer mu.Unlock()
			result.Updates += updates
		})
	}
	wg.Wait()
	for i, err := range failed {
		if err != nil {
			result.Failures = append(result.Failures, Failure{records[i].Sequence, err})
		}
	}
	return result
}

// A place is where an item of usage is.
type place struct {
	keys       schema.Keys
	key        zael.Key
	window     zael.Window
	start, end time.Time
}

// A member is a change and its place in the batch.
type member struct {
	change
	index int
}

// A failing is told which members were not counted, and why.
type failing func([]member, error)

// group counts the changes of one item of usage. One that cannot be counted keeps
// back none after it; any other error ends it.
func (c *Counter) group(ctx context.Context, p *place, members []member, fail failing) (updates int) {
	slices.SortStableFunc(members, func(a, b member) int { return cmp.Compare(a.sequence, b.sequence) })
	members = slices.CompactFunc(members, func(a, b member) bool { return a.sequence == b.sequence })
	for len(members) > 0 {
		chain := chainOf(members)
		n, err := c.chain(ctx, p, chain, fail)
		updates += n
		if err != nil {
			fail(members, err)
			return updates
		}
		members = members[len(chain):]
	}
	return updates
}

// chainOf is the longest beginning of members in which each change begins where
// the one before ended, so that nothing is missing between, and that one update
// can write.
func chainOf(members []member) []member {
	sum := members[0].delta
	for i := 1; i < len(members); i++ {
		if members[i].before != members[i-1].after || !sum.add(&members[i].delta) {
			return members[:i]
		}
	}
	return members
}

// sum adds up a part of a chain. nothing tells whether no change of it counts;
// a sum of 0 of changes that do has to be written too, as one of them alone may
// come again.
func sum(run []member) (d delta, nothing bool) {
	nothing = true
	for i := range run {
		d.add(&run[i].delta) // fits: chainOf has tried
		nothing = nothing && run[i].none()
	}
	return d, nothing
}
