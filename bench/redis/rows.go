package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/trial"
	"github.com/zeroae/zael/redisstore"
)

// A bench measures rows on one server.
type bench struct {
	rounds  int
	d       time.Duration
	only    string
	address string

	bare   rueidis.Client
	direct *redisstore.Store // each acquire a call of its own
	joined *redisstore.Store
	counts *redisstore.Store // usage too
	goredi *redis.Client
	rate   *redis_rate.Limiter
}

// A row is a load: callers who call do one after the other.
type row struct {
	name    string
	callers int
	do      func(ctx context.Context, caller int) error
	command string // whose time on the server counts
	calls   func() uint64
}

// A measure is what came of a round.
type measure struct {
	rate     float64
	server   time.Duration // of a call
	client   time.Duration // of an operation
	p50, p99 time.Duration
	note     string
}

func (b *bench) picks(name string) bool { return strings.Contains(name, b.only) }

func (b *bench) open(ctx context.Context) error {
	var err error
	b.bare, err = rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{b.address}, ForceSingleClient: true, DisableCache: true, DisableRetry: true, AlwaysPipelining: true})
	if err != nil {
		return err
	}
	if b.joined, err = redisstore.New(b.bare, &redisstore.Config{Namespace: "joined"}); err != nil {
		return err
	}
	if b.counts, err = redisstore.New(b.bare, &redisstore.Config{Namespace: "counts", Usage: true}); err != nil {
		return err
	}
	if b.direct, err = redisstore.NewTrial(b.bare, &redisstore.Config{Namespace: "direct"}, trial.Options{Direct: true}); err != nil {
		return err
	}
	b.goredi = redis.NewClient(&redis.Options{Addr: b.address, MaxRetries: -1, PoolSize: 64})
	b.rate = redis_rate.NewLimiter(b.goredi)
	return b.goredi.Ping(ctx).Err()
}

func (b *bench) close(ctx context.Context) {
	_ = b.joined.Close(ctx)
	_ = b.direct.Close(ctx)
	_ = b.counts.Close(ctx)
	_ = b.goredi.Close()
	b.bare.Close()
}

func define(amount int64) bucket.Definition {
	return bucket.Definition{Burst: amount, Amount: amount, Period: time.Minute, Capacity: amount}
}

// take takes from two limits, which never refuse here.
func take(s *redisstore.Store, entity string) func(context.Context) error {
	rpm, tpm := define(1e9), define(1e11)
	spare := sync.Pool{New: func() any {
		return &[1]zael.Debit{{Key: zael.Key{Entity: entity, Resource: "gpt-4"}, Charges: []zael.Charge{
			{Name: "rpm", Definition: rpm, Amount: 1}, {Name: "tpm", Definition: tpm, Amount: 500},
		}}}
	}}
	return func(ctx context.Context) error {
		debits, _ := spare.Get().(*[1]zael.Debit) // as a Limiter's
		defer spare.Put(debits)
		_, err := s.Take(ctx, time.Now(), 0, debits[:])
		return err
	}
}

func keys(format string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(format, i)
	}
	return all
}

func (b *bench) groups() [][]row {
	entities := keys("entity-%02d", 64)
	hincrby := func(ctx context.Context, key string) error {
		return b.bare.Do(ctx, b.bare.B().Hincrby().Key(key).Field("n").Increment(1).Build()).Error()
	}
	takes, counted := make([]func(context.Context) error, len(entities)), make([]func(context.Context) error, len(entities))
	parents := make([]func(context.Context) error, len(entities))
	for i, e := range entities {
		takes[i], counted[i] = take(b.joined, e), take(b.counts, e)
		rpm, tpm := define(1e9), define(1e11)
		parents[i] = func(ctx context.Context) error {
			charges := func() []zael.Charge {
				return []zael.Charge{{Name: "rpm", Definition: rpm, Amount: 1}, {Name: "tpm", Definition: tpm, Amount: 500}}
			}
			_, err := b.joined.Take(ctx, time.Now(), 0, []zael.Debit{
				{Key: zael.Key{Entity: e, Resource: "child"}, Charges: charges()}, {Key: zael.Key{Entity: "parent", Resource: "child"}, Charges: charges()},
			})
			return err
		}
	}
	allow := func(ctx context.Context, key string) error {
		r, err := b.rate.Allow(ctx, key, redis_rate.PerMinute(1e9))
		if err == nil && r.Allowed == 0 {
			err = errors.New("refused")
		}
		return err
	}
	oneDirect, oneJoined, used := take(b.direct, "one"), take(b.joined, "one"), b.exhausted()
	group := func(callers int, where string, rows ...row) []row {
		for i := range rows {
			rows[i].callers = callers
			rows[i].name = fmt.Sprintf("%s: %s", where, rows[i].name)
		}
		return rows
	}
	calls := func(s *redisstore.Store) func() uint64 { return func() uint64 { return s.Stats().Calls } }
	return [][]row{
		group(64, "64 callers, 64 keys",
			row{name: "HINCRBY", command: "hincrby", do: func(ctx context.Context, i int) error { return hincrby(ctx, entities[i]) }},
			row{name: "zael, 2 limits", command: "evalsha", do: func(ctx context.Context, i int) error { return takes[i](ctx) }, calls: calls(b.joined)},
			row{name: "zael, 2 limits and usage", command: "evalsha", do: func(ctx context.Context, i int) error { return counted[i](ctx) }, calls: calls(b.counts)},
			row{name: "redis_rate, 1 limit", command: "evalsha", do: func(ctx context.Context, i int) error { return allow(ctx, entities[i]) }},
			row{name: "redis_rate, 2 limits", command: "evalsha", do: func(ctx context.Context, i int) error {
				return errors.Join(allow(ctx, entities[i]), allow(ctx, entities[i]+"tpm"))
			}},
			row{name: "zael, child and one parent", command: "evalsha", do: func(ctx context.Context, i int) error { return parents[i](ctx) }, calls: calls(b.joined)},
		),
		group(1, "1 caller",
			row{name: "HINCRBY", command: "hincrby", do: func(ctx context.Context, _ int) error { return hincrby(ctx, "one") }},
			row{name: "zael, 2 limits", command: "evalsha", do: func(ctx context.Context, _ int) error { return oneJoined(ctx) }, calls: calls(b.joined)},
			row{name: "zael, child and parent", command: "evalsha", do: func(ctx context.Context, i int) error { return parents[i](ctx) }, calls: calls(b.joined)},
			row{name: "redis_rate, 2 limits", command: "evalsha", do: func(ctx context.Context, _ int) error {
				return errors.Join(allow(ctx, "one"), allow(ctx, "onetpm"))
			}},
		),
		group(64, "64 callers, one key",
			row{name: "HINCRBY", command: "hincrby", do: func(ctx context.Context, _ int) error { return hincrby(ctx, "one") }},
			row{name: "zael, each by itself", command: "evalsha", do: func(ctx context.Context, _ int) error { return oneDirect(ctx) }, calls: calls(b.direct)},
			row{name: "zael", command: "evalsha", do: func(ctx context.Context, _ int) error { return oneJoined(ctx) }, calls: calls(b.joined)},
		),
		group(1000, "1000 callers, one key",
			row{name: "HINCRBY", command: "hincrby", do: func(ctx context.Context, _ int) error { return hincrby(ctx, "one") }},
			row{name: "zael, each by itself", command: "evalsha", do: func(ctx context.Context, _ int) error { return oneDirect(ctx) }, calls: calls(b.direct)},
			row{name: "zael", command: "evalsha", do: func(ctx context.Context, _ int) error { return oneJoined(ctx) }, calls: calls(b.joined)},
			row{name: "zael, refused", command: "evalsha", do: func(ctx context.Context, _ int) error { return used(ctx) }, calls: calls(b.joined)},
		),
	}
}

// exhausted returns the take of a Limiter from a bucket that has nothing left.
func (b *bench) exhausted() func(context.Context) error {
	l, err := zael.New(b.joined, &zael.Config{Timeout: time.Minute})
	if err != nil {
		return func(context.Context) error { return err }
	}
	r := zael.Request{Entity: "exhausted", Resource: "gpt-4", Limits: []zael.Limit{zael.PerDay("day", 10)}, Consume: zael.Amounts{"day": 1}}
	return func(ctx context.Context) error {
		if err := l.Allow(ctx, r); err != nil && !errors.Is(err, zael.ErrExceeded) {
			return err
		}
		return nil
	}
}

// measure makes one round of a row.
func (b *bench) measure(ctx context.Context, r row) (m measure, err error) {
	for i := range r.callers { // so that buckets are there, and scripts are loaded
		if err := r.do(ctx, i); err != nil {
			return m, err
		}
	}
	if err := b.bare.Do(ctx, b.bare.B().ConfigResetstat().Build()).Error(); err != nil {
		return m, err
	}
	before := uint64(0)
	if r.calls != nil {
		before = r.calls()
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	times := make([][]time.Duration, r.callers)
	errs := make([]error, r.callers)
	cpu, begun := processorTime(), time.Now()
	timer := time.AfterFunc(b.d, func() { stop.Store(true) })
	defer timer.Stop()
	for i := range r.callers {
		wg.Go(func() {
			for n := 0; !stop.Load(); n++ {
				at := time.Now()
				if err := r.do(ctx, i); err != nil {
					errs[i] = err
					return
				}
				times[i] = append(times[i], time.Since(at))
			}
		})
	}
	wg.Wait()
	took, spent := time.Since(begun), processorTime()-cpu
	if err := cmp.Or(errs...); err != nil {
		return m, err
	}
	all := slices.Concat(times...)
	slices.Sort(all)
	m.rate = float64(len(all)) / took.Seconds()
	m.client = spent / time.Duration(len(all))
	m.p50, m.p99 = all[len(all)/2], all[len(all)*99/100]
	if m.server, err = b.serverTime(ctx, r.command); err != nil {
		return m, err
	}
	if r.calls != nil {
		n := r.calls() - before
		m.note = fmt.Sprintf("%.3f calls each, %.1f/s", float64(n)/float64(len(all)), float64(n)/took.Seconds())
	}
	return m, nil
}

// serverTime returns how long a command took on the server, on average.
func (b *bench) serverTime(ctx context.Context, command string) (time.Duration, error) {
	info, err := b.bare.Do(ctx, b.bare.B().Info().Section("commandstats").Build()).ToString()
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(info, "cmdstat_"+command+":")
	if !ok {
		return 0, nil
	}
	_, rest, _ = strings.Cut(rest, "usec_per_call=")
	text, _, _ := strings.Cut(rest, ",")
	d, err := time.ParseDuration(text + "us")
	return d, err
}

// sizes prints how large buckets are.
func (b *bench) sizes(ctx context.Context, out io.Writer, n int) error {
	memory := func() (float64, error) {
		info, err := b.bare.Do(ctx, b.bare.B().Info().Section("memory").Build()).ToString()
		if err != nil {
			return 0, err
		}
		var used float64
		_, rest, _ := strings.Cut(info, "used_memory:")
		_, err = fmt.Sscan(rest, &used)
		return used, err
	}
	if err := b.bare.Do(ctx, b.bare.B().Flushall().Sync().Build()).Error(); err != nil {
		return err
	}
	before, err := memory()
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	var next atomic.Int64
	errs := make([]error, 64)
	for w := range errs {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n) && errs[w] == nil; i = next.Add(1) {
				one := take(b.joined, fmt.Sprintf("entity-%08d", i))
				errs[w] = errors.Join(one(ctx), one(ctx))
			}
		})
	}
	wg.Wait()
	if err := cmp.Or(errs...); err != nil {
		return err
	}
	after, err := memory()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%d buckets of two limits, each of an entity of its own: %.0f bytes each\n", n, (after-before)/float64(n))
	return err
}

// processorTime returns what this process has used.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
