// Package sqlitestore keeps zael's buckets in a SQLite file, for all processes
// of one machine, with no server.
//
// # Writing
//
// A Store has one goroutine that writes. What its callers ask for while a
// transaction is on its way to the disk goes into the next one, up to 512
// operations together; each of them is applied or refused on its own, and is
// answered when the transaction is on the disk. A bucket is read within the
// transaction that changes it, so that any number of processes may work on one
// file and none admits more than the limit. A process that dies at any moment
// loses nothing that it has answered.
//
// A caller waits as long as its context lets it. One that gives up before its
// turn has changed nothing. If a Take gives up while its transaction is being
// written, what it took is given back with the next one (and stays taken if
// the process dies or the disk fails before that). Another change may stand.
//
// While another process writes, the writer tries again until nobody waits for
// it any more: that the file is locked is no error that a caller sees.
//
// # The file
//
// The file is in write-ahead mode: beside PATH there are PATH-wal and PATH-shm,
// which belong to it; to copy it use "sqlite3 PATH .backup" or copy all three
// while no process has it open. Every user of the file needs to write all three
// and their directory; the umask decides their mode. It must be on a disk of this machine, not on
// a network file system. A program must not open the file by other means while
// it has a Store on it: on Unix, closing any other descriptor of the file drops
// the locks of the whole process (see "How To Corrupt An SQLite Database File",
// section 2.2). See schema.go for the tables.
//
// Buckets that are full are deleted in small steps as calls go, from the end of
// the hour in which they were last used; usage and audit events when they are
// older than Config.Retention. The file keeps its size and uses the room again.
package sqlitestore

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"

	"github.com/zeroae/zael"
)

// Synchronous says how far a charge must have come before it is acknowledged.
type Synchronous uint8

// The zero value is SyncFull.
const (
	SyncFull   Synchronous = iota // on the disk: survives a loss of power
	SyncNormal                    // with the operating system: survives the process, not a loss of power. Faster
)

// A Config tunes a Store. A nil Config and the zero Config are the same.
type Config struct {
	// Synchronous is SyncFull by default.
	Synchronous Synchronous

	// Retention is how long usage and audit events are kept: at least an hour,
	// 0 means 90 days. It is counted back from the instants of the calls.
	Retention time.Duration
}

const (
	defaultRetention = 90 * 24 * time.Hour
	leastRetention   = time.Hour
)

func (c *Config) withDefaults() (Config, error) {
	var out Config
	if c != nil {
		out = *c
	}
	if out.Synchronous > SyncNormal {
		return out, &zael.ValidationError{Field: "Config.Synchronous", Value: uint8(out.Synchronous), Reason: "is neither SyncFull nor SyncNormal: use one of them, or 0 for SyncFull"}
	}
	if out.Retention == 0 {
		out.Retention = defaultRetention
	}
	if out.Retention < leastRetention {
		return out, &zael.ValidationError{Field: "Config.Retention", Value: out.Retention, Reason: fmt.Sprintf("is less than %v: use 0 for the default of 90 days", leastRetention)}
	}
	return out, nil
}

// readers is how many connections read at once.
const readers = 4

// A Store is a zael.Store with every role but zael.LocalStore, in a SQLite
// file. Its methods may be called concurrently, by any number of Stores and
// processes on one file.
type Store struct {
	path   string
	queue  queue
	latest latest
	ops    sync.Pool // of *op
	writer *writer
	pool   *sql.DB
}

var (
	_ zael.Store          = (*Store)(nil)
	_ zael.InstantStore   = (*Store)(nil)
	_ zael.EntityStore    = (*Store)(nil)
	_ zael.LimitStore     = (*Store)(nil)
	_ zael.Applier        = (*Store)(nil)
	_ zael.CapacityReader = (*Store)(nil)
	_ zael.UsageStore     = (*Store)(nil)
	_ zael.AuditStore     = (*Store)(nil)
)

// Open opens the file at path, or makes it; its directory must exist. The path
// is taken as it is: no character in it is special, and ":memory:" is refused.
// ctx bounds the opening alone. Close must be called at the end.
//
// The error is a *zael.ValidationError if path or config is wrong in itself,
// matches ctx's if other processes keep the file locked for that long, and
// zael.ErrUnavailable if the disk is full or fails. Any other says what is
// wrong with the file and what to do about it.
func Open(ctx context.Context, path string, config *Config) (*Store, error) {
	cfg, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	name, err := dataSource(path)
	if err != nil {
		return nil, err
	}
	c, file, err := prepareFile(ctx, path, name, cfg.Synchronous)
	if err != nil {
		return nil, openError(path, err)
	}
	pool, err := openPool(name)
	if err != nil {
		c.close()
		return nil, openError(path, err)
	}
	s := &Store{path: path, pool: pool}
	s.queue.init()
	s.latest.see(file.latest)
	s.writer = newWriter(c, &s.queue, cfg.Retention, &s.latest)
	go func() {
		s.writer.run()
		_ = pool.Close() // of connections that only read
		s.writer.end()   // the last connection tidies the file up
	}()
	return s, nil
}

// String names the file.
func (s *Store) String() string { return "SQLite file " + s.path }

// Close answers the callers that wait, lets go of the file and returns when that
// is done. If ctx is done first, those that still wait get an error that matches
// zael.ErrClosed, as do all later calls, and the file is let go of as soon as
// the disk allows. Close may be called more than once.
func (s *Store) Close(ctx context.Context) error {
	s.queue.close()
	select {
	case <-s.writer.done:
	case <-ctx.Done():
		s.queue.abandon()
		return contextError(ctx, "closing before all were answered")
	}
	if err := s.writer.closeErr; err != nil {
		return fmt.Errorf("sqlitestore: closing: %w", err)
	}
	return nil
}
