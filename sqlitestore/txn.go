package sqlitestore

import (
	"database/sql/driver"
	"time"

	"github.com/zeroae/zael"
)

// cachedRows is how many buckets each of the two generations of the cache has.
const cachedRows = 1 << 15

// A txn is the writer's transaction, and what it knows from the ones before:
// rows stay known until another connection commits.
type txn struct {
	conn      *conn
	retention time.Duration

	wrote   bool  // something that must be committed
	version int64 // of the file, as the engine counts foreign commits

	rows, older map[zael.Key]*row // what is known: used lately, and before that
	dirty       []*row
	tallies     map[tallyKey]*tally // usage that no row carries
	file        instants
	seen        *latest // of the Store
	buf         []byte

	calls int // since the last sweep
	owed  int // rows that a sweep has to look at
}

func (t *txn) init(c *conn, retention time.Duration, seen *latest) {
	t.conn, t.retention, t.seen = c, retention, seen
	t.version = -1
	t.tallies = map[tallyKey]*tally{}
	t.forget()
}

// forget drops what is known.
func (t *txn) forget() {
	t.rows, t.older = map[zael.Key]*row{}, nil
	t.dirty = t.dirty[:0]
	clear(t.tallies)
}

// look checks what is known against the file, with the file locked. It tells
// whether another connection has written since.
func (t *txn) look() (foreign bool, err error) {
	t.wrote = false
	if len(t.rows) >= cachedRows {
		t.rows, t.older = map[zael.Key]*row{}, t.rows
	}
	version, err := t.conn.number("PRAGMA data_version")
	if err != nil || version == t.version {
		return false, err
	}
	foreign = t.version >= 0
	t.forget()
	if t.file, err = readInstants(t.conn); err != nil {
		return foreign, err
	}
	t.seen.see(t.file.latest)
	t.version = version
	return foreign, nil
}

// commit puts the transaction on the disk.
func (t *txn) commit() error {
	_, err := t.conn.exec(commit)
	return err
}

// abort undoes the transaction and all that is known of it.
func (t *txn) abort() {
	_, _ = t.conn.exec(rollback) // the engine may have done it by itself
	t.forget()
	t.version = -1
}

// exec changes the file.
func (t *txn) exec(query string, args ...any) (driver.Result, error) {
	t.wrote = true
	return t.conn.exec(query, args...)
}

// row finds a bucket. One that is not in the file has no id, and no limits.
func (t *txn) row(key zael.Key) (*row, error) {
	if r := t.rows[key]; r != nil {
		return r, nil
	}
	r := t.older[key]
	if r == nil {
		r = &row{key: key, hour: noHour, keptHour: noHour}
		err := t.conn.query("SELECT id, hour, state FROM buckets WHERE entity = ? AND resource = ?", r.scan, key.Entity, key.Resource)
		if err != nil {
			return nil, err
		}
	}
	t.rows[key] = r
	return r, nil
}

// touch notes that r has to be written.
func (t *txn) touch(r *row) {
	if !r.dirty {
		r.dirty = true
		t.dirty = append(t.dirty, r)
	}
}

// flush writes what was changed.
func (t *txn) flush() error {
	for _, r := range t.dirty {
		if err := t.write(r); err != nil {
			return err
		}
		r.dirty, r.keptHour = false, r.hour
	}
	t.dirty = t.dirty[:0]
	for k, n := range t.tallies {
		if err := t.book(k, n); err != nil {
			return err
		}
	}
	clear(t.tallies)
	return nil
}

func (t *txn) write(r *row) error {
	t.buf = r.encode(t.buf[:0])
	if r.id == 0 {
		result, err := t.exec("INSERT INTO buckets (entity, resource, hour, state) VALUES (?, ?, ?, ?)",
			r.key.Entity, r.key.Resource, hourValue(r.hour), t.buf)
		if err != nil {
			return err
		}
		r.id, err = result.LastInsertId()
		return err
	}
	if r.hour == r.keptHour { // which no index has to know
		_, err := t.exec("UPDATE buckets SET state = ? WHERE id = ?", t.buf, r.id)
		return err
	}
	_, err := t.exec("UPDATE buckets SET state = ?, hour = ?, full_at = NULL WHERE id = ?", t.buf, hourValue(r.hour), r.id)
	return err
}

func hourValue(hour int64) any {
	if hour == noHour {
		return nil
	}
	return hour
}
