// Package sqlitestore keeps zael's buckets in a SQLite file, for all processes
// of one machine, with no server.
//
// # Writing
//
// A Store has one goroutine that writes. Operations that arrive while a
// transaction is being written are performed in the next one, up to 512 of
// them. Each is applied or refused on its own, and answered when the transaction
// is on the disk. A bucket is read in the transaction that changes it, so any
// number of processes may share a file without admitting more than the limit. A
// process that dies at any moment loses nothing that it has answered.
//
// A caller waits as long as its context allows. If it gives up before its
// operation is in a transaction, nothing has changed. If a Take gives up while
// its transaction is being written, what it took is given back by the next
// transaction (and stays taken if the process dies or the disk fails before
// that). Any other change may have been made.
//
// While another process writes, the writer tries again for as long as callers
// wait. That the file is locked is never an error by itself.
//
// # The file
//
// The file is in write-ahead mode: beside PATH there are PATH-wal and PATH-shm,
// which belong to it. To copy it, use "sqlite3 PATH .backup", or copy all three
// while no process has the file open. Its users must be able to write all three
// and their directory; the mode of new files follows the umask. The file must be
// on a disk of this machine, not on a network file system. A program that has a
// Store on a file must not open the file by other means: on Unix, closing any
// other descriptor of it drops the locks of the whole process (see "How To
// Corrupt An SQLite Database File", section 2.2). The tables are in schema.go.
//
// Full buckets are deleted gradually, as part of other calls, once the hour of
// their last use is over. Usage and audit events are deleted when they are older
// than Config.Retention. The file does not shrink; free space is used again.
//
// # Time
//
// The file keeps the latest instant of a call, so that a process which starts
// after the wall clock was set back goes on from there; see zael.InstantStore.
package sqlitestore

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/storearg"
)

// Synchronous is how durable a charge is when it is acknowledged.
type Synchronous uint8

// The zero value is SyncFull.
const (
	SyncFull   Synchronous = iota // on the disk: it survives a loss of power
	SyncNormal                    // with the operating system: faster, survives the end of the process, not a loss of power
)

// A Config tunes a Store. A nil Config and the zero Config are the same.
type Config struct {
	// Synchronous is how durable a charge is when it is acknowledged. The default is
	// SyncFull.
	Synchronous Synchronous

	// Retention is how long usage and audit events are kept, counted back from the
	// instants of calls. It is at least an hour; 0 means 90 days.
	Retention time.Duration
}

const leastRetention = time.Hour

func (c *Config) withDefaults() (Config, error) {
	var out Config
	if c != nil {
		out = *c
	}
	if out.Synchronous > SyncNormal {
		return out, storearg.Invalid("Config.Synchronous", uint8(out.Synchronous), "is neither SyncFull nor SyncNormal: use one of them, or 0 for SyncFull")
	}
	out.Retention = cmp.Or(out.Retention, storearg.DefaultRetention)
	if out.Retention < leastRetention {
		return out, storearg.Invalid("Config.Retention", out.Retention, fmt.Sprintf("is less than %v: use 0 for the default of 90 days", leastRetention))
	}
	return out, nil
}

// readers is the largest number of connections that read at once.
const readers = 4

// A Store is a zael.Store with every role but zael.LocalStore, in a SQLite
// file. Its methods may be called concurrently, by any number of Stores and
// processes on one file.
type Store struct {
	administration

	path   string
	queue  queue
	latest latestInstant
	ops    sync.Pool // of *op
	writer *writer
	pool   *sql.DB
}

var (
	_ zael.Store          = (*Store)(nil)
	_ zael.InstantStore   = (*Store)(nil)
	_ zael.SlotStore      = (*Store)(nil)
	_ zael.EntityStore    = (*Store)(nil)
	_ zael.LimitStore     = (*Store)(nil)
	_ zael.AdminStore     = (*Store)(nil)
	_ zael.OnceStore      = (*Store)(nil)
	_ zael.Applier        = (*Store)(nil)
	_ zael.CapacityReader = (*Store)(nil)
	_ zael.ListStore      = (*Store)(nil)
	_ zael.UsageStore     = (*Store)(nil)
	_ zael.AuditStore     = (*Store)(nil)
)

// Open opens the file at path, or creates it in an existing directory. No
// character of path is special; ":memory:" is an error. ctx applies to opening
// only. The caller must call Close.
//
// The error is a *zael.ValidationError if path or config is invalid. It matches
// the error of ctx if other processes keep the file locked until ctx is done, and
// zael.ErrUnavailable if the disk is full or fails. Any other error says what is
// wrong with the file, and the remedy.
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
	s.administration = newAdministration(s, cfg.Retention)
	s.queue.init()
	s.latest.note(file.latest)
	s.writer = newWriter(c, &s.queue, cfg.Retention, &s.latest)
	go func() {
		s.writer.run()
		_ = pool.Close() // its connections only read
		s.writer.end()   // the last connection removes -wal and -shm
	}()
	return s, nil
}

// String returns "SQLite file" and the path.
func (s *Store) String() string { return "SQLite file " + s.path }

// Close answers all waiting callers and closes the file. If ctx is done first, it
// returns at once; callers that still wait get an error that matches
// zael.ErrClosed, and the file is closed as soon as the disk allows. Later calls
// of other methods return an error that matches zael.ErrClosed. Close may be
// called more than once.
func (s *Store) Close(ctx context.Context) error {
	s.queue.close()
	select {
	case <-s.writer.done:
	case <-ctx.Done():
		s.queue.reject()
		return contextError(ctx, "closing before all callers were answered")
	}
	if err := s.writer.closeErr; err != nil {
		return fmt.Errorf("sqlitestore: closing: %w", err)
	}
	return nil
}
