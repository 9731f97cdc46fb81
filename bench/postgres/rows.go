package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bench/internal/crowd"
	"github.com/zeroae/zael/postgresstore"
)

type bench struct {
	url      string
	rounds   int
	d        time.Duration
	pool     int
	buckets  int
	bare     *pgxpool.Pool
	prefixes atomic.Int64
}

// mostKeys is how many rows the bare table has.
const mostKeys = 64

// begin makes the tables, and returns the server's version.
func (b *bench) begin(ctx context.Context) (version string, err error) {
	config, err := pgxpool.ParseConfig(b.url)
	if err != nil {
		return "", err
	}
	s, err := postgresstore.New(config, nil)
	if err != nil {
		return "", err
	}
	defer s.Close(context.WithoutCancel(ctx))
	if err := s.CreateTables(ctx, postgresstore.CreateOptions{}); err != nil {
		return "", err
	}
	config.MaxConns = int32(b.pool)                                // as many as zael has
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // as zael's
	if b.bare, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return "", err
	}
	for _, statement := range []string{
		"DROP TABLE IF EXISTS bare",
		"CREATE TABLE bare (id bigint PRIMARY KEY, v bigint NOT NULL)",
		fmt.Sprintf("INSERT INTO bare SELECT n, 0 FROM generate_series(0, %d) AS n", mostKeys),
	} {
		if _, err := b.bare.Exec(ctx, statement); err != nil {
			return "", err
		}
	}
	return version, b.bare.QueryRow(ctx, "SHOW server_version").Scan(&version)
}

// limiter returns a limiter on a store of its own.
func (b *bench) limiter(config postgresstore.Config) (*zael.Limiter, *postgresstore.Store, error) {
	config.Pool = b.pool
	pool, err := pgxpool.ParseConfig(b.url)
	if err != nil {
		return nil, nil, err
	}
	s, err := postgresstore.New(pool, &config)
	if err != nil {
		return nil, nil, err
	}
	l, err := zael.New(s, &zael.Config{Timeout: 30 * time.Second})
	return l, s, err
}

// prefix returns what the entities of a row begin with.
func (b *bench) prefix() string { return fmt.Sprintf("r%d-", b.prefixes.Add(1)) }

// plenty are limits that no row reaches.
func plenty() []zael.Limit {
	return []zael.Limit{zael.PerSecond("rpm", 1_000_000_000), zael.PerSecond("tpm", 1_000_000_000)}
}

func request(prefix string, caller, keys int, limits []zael.Limit) zael.Request {
	return zael.Request{Entity: fmt.Sprintf("%s%d", prefix, caller%keys), Resource: "bench", Limits: limits}
}

// update is the bare side: one row, one statement.
func (b *bench) update(keys int, durability postgresstore.Durability) func(context.Context, int, int) error {
	text := "UPDATE bare SET v = v + 1 WHERE id = $1"
	if durability == postgresstore.DurabilityOff {
		text = "WITH s AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)) UPDATE bare SET v = v + 1 FROM s WHERE id = $1"
	}
	return func(ctx context.Context, caller, _ int) error {
		_, err := b.bare.Exec(ctx, text, int64(caller%keys))
		return err
	}
}

// A row compares zael with the bare side, by medians of rounds that take turns.
type row struct {
	name          string
	callers, keys int
	usage         bool
	parent        bool
}

func rows() []row {
	return []row{
		{name: "one caller", callers: 1, keys: 1},
		{name: "64 callers, 64 keys", callers: 64, keys: 64},
		{name: "64 callers, 64 keys, usage counted", callers: 64, keys: 64, usage: true},
		{name: "64 callers, one key", callers: 64, keys: 1},
		{name: "1000 callers, one key", callers: 1000, keys: 1},
		{name: "64 callers, 64 keys, one parent", callers: 64, keys: 64, parent: true},
	}
}

func (b *bench) write(ctx context.Context, out io.Writer, durability postgresstore.Durability) error {
	counted := b.updates(ctx)
	for _, r := range rows() {
		if err := b.pair(ctx, out, r, durability); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	if err := b.shared(ctx, out, durability); err != nil {
		return fmt.Errorf("processes: %w", err)
	}
	if err := b.exhausted(ctx, out, durability); err != nil {
		return err
	}
	fmt.Fprintf(out, "updates of buckets that touched no index (HOT): %.1f %%\n", 100*b.updates(ctx).share(counted))
	return nil
}

func (b *bench) pair(ctx context.Context, out io.Writer, r row, durability postgresstore.Durability) error {
	l, s, err := b.limiter(postgresstore.Config{Durability: durability, Usage: r.usage})
	if err != nil {
		return err
	}
	defer s.Close(context.WithoutCancel(ctx))
	requests, err := b.requests(ctx, l, r)
	if err != nil {
		return err
	}
	update := b.update(r.keys, durability)
	acquire := func(ctx context.Context, caller, _ int) error { return l.Allow(ctx, requests[caller]) }
	var bares, zaels []*crowd.Measurement
	var calls, ops uint64
	for round := range b.rounds + 1 {
		m1, err := crowd.Run(ctx, r.callers, b.d, 0, update)
		if err != nil {
			return err
		}
		before := s.Stats()
		m2, err := crowd.Run(ctx, r.callers, b.d, 0, acquire)
		if err != nil {
			return err
		}
		if round == 0 {
			continue // it opens connections and creates buckets
		}
		calls, ops = calls+s.Stats().Calls-before.Calls, ops+uint64(m2.Ops)
		bares, zaels = append(bares, m1), append(zaels, m2)
	}
	bare, z := crowd.Median(bares), crowd.Median(zaels)
	fmt.Fprintf(out, "%-38s %9.0f %9.0f %6.2fx %9s %9s %7.3f %9s %9s\n", r.name, bare.Rate(), z.Rate(), z.Rate()/bare.Rate(),
		bare.CPUPerOp().Round(100*time.Nanosecond), z.CPUPerOp().Round(100*time.Nanosecond), float64(calls)/float64(ops),
		z.Quantile(0.5).Round(10*time.Microsecond), z.Quantile(0.99).Round(10*time.Microsecond))
	return nil
}

// requests returns the request of each caller.
func (b *bench) requests(ctx context.Context, l *zael.Limiter, r row) ([]zael.Request, error) {
	prefix := b.prefix()
	requests := make([]zael.Request, r.callers)
	if r.parent {
		if _, err := l.CreateEntity(ctx, zael.Entity{ID: prefix + "parent"}); err != nil {
			return nil, err
		}
	}
	for i := range requests {
		requests[i] = request(prefix, i, r.keys, plenty())
		if r.parent {
			requests[i].Cascade = true
			if _, err := l.CreateEntity(ctx, zael.Entity{ID: requests[i].Entity, ParentID: prefix + "parent"}); err != nil {
				return nil, err
			}
		}
	}
	return requests, nil
}

// updates are the updates of buckets, and how many of them touched no index.
type updates struct{ all, hot int64 }

func (u updates) share(before updates) float64 {
	if u.all == before.all {
		return 1
	}
	return float64(u.hot-before.hot) / float64(u.all-before.all)
}

func (b *bench) updates(ctx context.Context) (u updates) {
	c, err := pgx.Connect(ctx, b.url) // a session that has counted nothing yet
	if err != nil {
		return u
	}
	defer c.Close(ctx)
	crowd.Nap(ctx, min(1100*time.Millisecond, 2*b.d)) // sessions report once a second
	_ = c.QueryRow(ctx, "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE schemaname = 'zael' AND relname = 'buckets'").Scan(&u.all, &u.hot)
	return u
}

// shared has several stores, as of so many processes, take from one bucket, and from one each
// of 64 at random.
func (b *bench) shared(ctx context.Context, out io.Writer, durability postgresstore.Durability) error {
	const processes = 8
	for _, keys := range []int{1, mostKeys} {
		limiters, stores := make([]*zael.Limiter, processes), make([]*postgresstore.Store, processes)
		for i := range limiters {
			var err error
			if limiters[i], stores[i], err = b.limiter(postgresstore.Config{Durability: durability}); err != nil {
				return err
			}
		}
		prefix := b.prefix()
		acquire := func(ctx context.Context, caller, n int) error {
			return limiters[caller%processes].Allow(ctx, request(prefix, caller/processes+n*7, keys, plenty()))
		}
		if _, err := crowd.Run(ctx, mostKeys, b.d, 0, acquire); err != nil {
			return err
		}
		calls := func() (n uint64) {
			for _, s := range stores {
				n += s.Stats().Calls
			}
			return n
		}
		before := calls()
		m, err := crowd.Run(ctx, mostKeys, b.d, 0, acquire)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%-38s %9s %9.0f %7s %9s %9s %7.3f %9s %9s\n", fmt.Sprintf("%d processes, 64 callers, %d keys", processes, keys), "", m.Rate(), "", "", m.CPUPerOp().Round(100*time.Nanosecond),
			float64(calls()-before)/float64(m.Ops), m.Quantile(0.5).Round(10*time.Microsecond), m.Quantile(0.99).Round(10*time.Microsecond))
		var wg sync.WaitGroup
		for _, s := range stores {
			wg.Go(func() { _ = s.Close(context.WithoutCancel(ctx)) })
		}
		wg.Wait()
	}
	return nil
}

// exhausted asks an empty bucket of 60/min.
func (b *bench) exhausted(ctx context.Context, out io.Writer, durability postgresstore.Durability) error {
	l, s, err := b.limiter(postgresstore.Config{Durability: durability})
	if err != nil {
		return err
	}
	defer s.Close(context.WithoutCancel(ctx))
	req := request(b.prefix(), 0, 1, []zael.Limit{zael.PerMinute("rpm", 60)})
	for err == nil {
		err = l.Allow(ctx, req)
	}
	if !errors.Is(err, zael.ErrExceeded) {
		return err
	}
	before := s.Stats().Calls
	m, err := crowd.Run(ctx, 8, 3*b.d, 0, func(ctx context.Context, _, _ int) error {
		if err := l.Allow(ctx, req); err != nil && !errors.Is(err, zael.ErrExceeded) {
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "exhausted bucket of 60/min, 8 callers: %.0f refusals a second, %.1f calls a second, %v of CPU each\n",
		m.Rate(), float64(s.Stats().Calls-before)/m.Elapsed.Seconds(), m.CPUPerOp().Round(10*time.Nanosecond))
	return nil
}

// weigh makes buckets and says what each takes of the disk.
func (b *bench) weigh(ctx context.Context, out io.Writer) error {
	l, s, err := b.limiter(postgresstore.Config{Durability: postgresstore.DurabilityOff})
	if err != nil {
		return err
	}
	defer s.Close(context.WithoutCancel(ctx))
	size := func() (table, all int64, err error) {
		err = b.bare.QueryRow(ctx, "SELECT pg_relation_size('zael.buckets'), pg_total_relation_size('zael.buckets')").Scan(&table, &all)
		return table, all, err
	}
	table, all, err := size()
	if err != nil {
		return err
	}
	prefix := b.prefix()
	var next atomic.Int64
	begin := time.Now()
	var wg sync.WaitGroup
	errs := make(chan error, 64)
	for range cap(errs) {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(b.buckets); n = next.Add(1) {
				if err := l.Allow(ctx, request(prefix+"entity-", int(n), b.buckets+1, plenty())); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	if len(errs) > 0 {
		return <-errs
	}
	took := time.Since(begin)
	table2, all2, err := size()
	fmt.Fprintf(out, "\n%d buckets made in %v (%.0f/s): %d bytes each in the table, %d with indexes\n", b.buckets, took.Round(time.Millisecond),
		float64(b.buckets)/took.Seconds(), (table2-table)/int64(b.buckets), (all2-all)/int64(b.buckets))
	return err
}
