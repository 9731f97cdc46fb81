package sqlitestore_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sqlite "modernc.org/sqlite"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/sqlitestore"
)

// callers is the number of goroutines that ask at once, and batch the size of the
// largest transaction, both for the store and for the bare engine.
const (
	callers = 64
	batch   = 512
)

// BenchmarkAgainstBare compares the store with its engine: 64 callers acquire 1 of one
// limit and 500 of another, on one key or on one of 10,000. Bare is the most that the
// engine can do in transactions like the store's: one UPDATE for each acquire, of a row
// with nothing but two marks. The two take turns, because the speed of the disk changes
// from one second to the next.
func BenchmarkAgainstBare(b *testing.B) {
	for _, sync := range []sqlitestore.Synchronous{sqlitestore.SyncFull, sqlitestore.SyncNormal} {
		for _, keys := range []int{1, many()} {
			b.Run(fmt.Sprintf("%s/keys=%d", pragma(sync), keys), func(b *testing.B) {
				store := storeSide(b, sync)
				bare := openBare(b, newPath(b), pragma(sync), keys)
				fill(b, store, keys)
				var took [2]time.Duration
				for b.Loop() {
					took[0] += share(b, store, keys)
					took[1] += share(b, bare.side, keys)
				}
				n := float64(b.N * perTurn())
				b.ReportMetric(n/took[0].Seconds(), "store/s")
				b.ReportMetric(n/took[1].Seconds(), "bare/s")
				b.ReportMetric(100*took[1].Seconds()/took[0].Seconds(), "%")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// perTurn is the number of acquires of one side in a turn: with -short, which is to see that the
// benchmark runs, a few.
func perTurn() int {
	if testing.Short() {
		return 500
	}
	return 20_000
}

// many is the number of keys of the benchmarks on many.
func many() int { return perTurn() / 2 }

// A side returns the function that one caller calls.
type side func() func(key int) error

func storeSide(b *testing.B, sync sqlitestore.Synchronous) side {
	b.Helper()
	s := open(b, newPath(b), &sqlitestore.Config{Synchronous: sync})
	rpm := bucket.Definition{Burst: 1e9, Amount: 1e9, Period: time.Minute, Capacity: 1e9}
	tpm := bucket.Definition{Burst: 1e12, Amount: 1e11, Period: time.Minute, Capacity: 1e11}
	return func() func(key int) error {
		debits := []zael.Debit{{Charges: []zael.Charge{
			{Name: "rpm", Definition: rpm, Amount: 1},
			{Name: "tpm", Definition: tpm, Amount: 500},
		}}}
		return func(key int) error {
			debits[0].Key = zael.Key{Entity: keyName(key), Resource: "gpt-4"}
			_, err := s.Take(b.Context(), t0, 0, debits)
			return err
		}
	}
}

func pragma(sync sqlitestore.Synchronous) string {
	return map[sqlitestore.Synchronous]string{sqlitestore.SyncFull: "full", sqlitestore.SyncNormal: "normal"}[sync]
}

func keyName(key int) string { return fmt.Sprintf("key-%05d", key) }

// fill uses each key once, in order.
func fill(b *testing.B, s side, keys int) {
	b.Helper()
	f := s()
	for key := range keys {
		if err := f(key); err != nil {
			b.Fatal(err)
		}
	}
}

// share makes callers acquire for a turn, each time on a random key.
func share(b *testing.B, s side, keys int) time.Duration {
	b.Helper()
	var next, failed atomic.Int64
	most := int64(perTurn())
	var wg sync.WaitGroup
	begin := time.Now()
	for range callers {
		f := s()
		wg.Go(func() {
			for next.Add(1) <= most {
				if err := f(rand.IntN(keys)); err != nil && failed.Add(1) == 1 {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return time.Since(begin)
}

// A bare is the engine with group commit and a table of the marks of two limits.
type bare struct {
	conn          driver.Conn
	begin, commit driver.StmtExecContext
	set           driver.StmtExecContext

	mu      sync.Mutex
	waiting []update
	closed  bool
	wake    chan struct{}
	ended   chan struct{}
}

type update struct {
	key  string
	done chan error
}

const (
	unit = int64(1000)
	drip = int64(33_000_000_000_000_000)
	most = int64(1) << 62
)

func openBare(b *testing.B, path, sync string, keys int) *bare {
	b.Helper()
	conn, err := new(sqlite.Driver).Open((&url.URL{Scheme: "file", Path: path}).String())
	if err != nil {
		b.Fatal(err)
	}
	g := &bare{conn: conn, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	run := func(query string) {
		if _, err := conn.(driver.ExecerContext).ExecContext(b.Context(), query, nil); err != nil {
			b.Fatal(err)
		}
	}
	prepare := func(query string) driver.StmtExecContext {
		s, err := conn.Prepare(query)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { s.Close() })
		return s.(driver.StmtExecContext)
	}
	b.Cleanup(func() { conn.Close() })
	run("PRAGMA page_size = 1024")
	run("PRAGMA journal_mode = WAL")
	run("PRAGMA synchronous = " + sync)
	run("PRAGMA wal_autocheckpoint = 8192")
	run("PRAGMA journal_size_limit = 16777216")
	run("PRAGMA cache_size = -16384")
	run("CREATE TABLE marks (entity TEXT, resource TEXT, rpm INTEGER NOT NULL, tpm INTEGER NOT NULL, PRIMARY KEY (entity, resource)) STRICT, WITHOUT ROWID")
	run("BEGIN")
	insert := prepare("INSERT INTO marks VALUES (?, 'gpt-4', 0, 0)")
	for key := range keys {
		if _, err := insert.ExecContext(b.Context(), []driver.NamedValue{{Ordinal: 1, Value: keyName(key)}}); err != nil {
			b.Fatal(err)
		}
	}
	run("COMMIT")
	g.begin, g.commit = prepare("BEGIN IMMEDIATE"), prepare("COMMIT")
	g.set = prepare("UPDATE marks SET rpm = max(rpm, ?) + ?, tpm = max(tpm, ?) + ? WHERE entity = ? AND resource = ? AND rpm <= ? AND tpm <= ?")
	go g.run()
	b.Cleanup(func() {
		g.mu.Lock()
		g.closed = true
		g.mu.Unlock()
		g.signal()
		<-g.ended
	})
	return g
}

func (g *bare) signal() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

func (g *bare) side() func(key int) error {
	done := make(chan error, 1)
	return func(key int) error { return g.update(keyName(key), done) }
}

func (g *bare) update(key string, done chan error) error {
	g.mu.Lock()
	g.waiting = append(g.waiting, update{key, done})
	first := len(g.waiting) == 1
	g.mu.Unlock()
	if first {
		g.signal()
	}
	return <-done
}

func (g *bare) run() {
	defer close(g.ended)
	ctx := context.Background()
	var members []update
	var args []driver.NamedValue
	for i, v := range []any{drip, 1 * unit, drip, 500 * unit, nil, "gpt-4", most, most} {
		args = append(args, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	for {
		runtime.Gosched()
		g.mu.Lock()
		n := min(len(g.waiting), batch)
		members = append(members[:0], g.waiting[:n]...)
		g.waiting = append(g.waiting[:0], g.waiting[n:]...)
		closed := g.closed
		g.mu.Unlock()
		if n == 0 {
			if closed {
				return
			}
			<-g.wake
			continue
		}
		_, err := g.begin.ExecContext(ctx, nil)
		for _, m := range members {
			args[4].Value = m.key
			result, e := g.set.ExecContext(ctx, args)
			if e == nil {
				var changed int64
				if changed, e = result.RowsAffected(); e == nil && changed != 1 {
					e = errors.New("refused")
				}
			}
			err = errors.Join(err, e)
		}
		_, e := g.commit.ExecContext(ctx, nil)
		err = errors.Join(err, e)
		for _, m := range members {
			m.done <- err
		}
	}
}
