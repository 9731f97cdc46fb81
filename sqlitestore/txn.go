package sqlitestore

import (
	"database/sql/driver"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/hourly"
)

// cachedRows is the size of each of the two generations of the cache, in buckets.
const cachedRows = 1 << 15

// A txn is the writer's transaction, and its cache: rows of earlier transactions stay
// valid until another connection commits.
type txn struct {
	conn      *conn
	retention time.Duration

	wrote   bool  // has changed the file
	version int64 // data_version of the engine, which counts commits of other connections

	rows, older  map[zael.Key]*row // the cache: the younger and the older generation
	dirty        []*row
	pendingUsage map[usageKey]*hourly.Usage // usage to be added to its table
	file         instants

	latestSettings int64          // the greatest revision of settings; 0: there are none
	forgets        bool           // file.forgotten is to be written
	latest         *latestInstant // of the Store
	buf            []byte

	onces int // keys that were kept, of takes and adjusts
	calls int // since the last sweep
	owed  int // rows that sweeps have to look at
}

func (t *txn) init(c *conn, retention time.Duration, latest *latestInstant) {
	t.conn, t.retention, t.latest = c, retention, latest
	t.version = -1
	t.pendingUsage = map[usageKey]*hourly.Usage{}
	t.dropCache()
}

// dropCache empties the cache.
func (t *txn) dropCache() {
	t.rows, t.older = map[zael.Key]*row{}, nil
	t.dirty = t.dirty[:0]
	t.forgets = false
	clear(t.pendingUsage)
}

// refresh drops the cache if another connection has written since the last
// transaction, which it reports. The file must be locked.
func (t *txn) refresh() (foreign bool, err error) {
	t.wrote = false
	if len(t.rows) >= cachedRows {
		t.rows, t.older = map[zael.Key]*row{}, t.rows
	}
	version, err := t.conn.queryInt("PRAGMA data_version")
	if err != nil || version == t.version {
		return false, err
	}
	foreign = t.version >= 0
	t.dropCache()
	if t.file, err = readInstants(t.conn); err != nil {
		return foreign, err
	}
	if err := t.readSettings(); err != nil {
		return foreign, err
	}
	t.latest.note(t.file.latest)
	t.version = version
	return foreign, nil
}

// commit commits the transaction.
func (t *txn) commit() error {
	_, err := t.conn.exec(commit)
	return err
}

// abort rolls the transaction back and drops the cache.
func (t *txn) abort() {
	_, _ = t.conn.exec(rollback) // the engine may have done it already
	t.dropCache()
	t.version = -1
}

// exec runs a query that changes the file.
func (t *txn) exec(query string, args ...any) (driver.Result, error) {
	t.wrote = true
	return t.conn.exec(query, args...)
}

// row returns a bucket. One that is not in the file has neither id nor limits.
func (t *txn) row(key zael.Key) (*row, error) {
	if r := t.rows[key]; r != nil {
		return r, nil
	}
	r := t.older[key]
	if r == nil {
		r = &row{key: key, hour: hourly.None, fileHour: hourly.None}
		err := t.conn.query("SELECT id, hour, state FROM buckets WHERE entity = ? AND resource = ?", r.scan, key.Entity, key.Resource)
		if err != nil {
			return nil, err
		}
		if r.settingsRev, err = t.settingsRev(key); err != nil {
			return nil, err
		}
	}
	t.rows[key] = r
	return r, nil
}

// touch marks r to be written.
func (t *txn) touch(r *row) {
	if !r.dirty {
		r.dirty = true
		t.dirty = append(t.dirty, r)
	}
}

// flush writes the marked rows and the pending usage.
func (t *txn) flush() error {
	for _, r := range t.dirty {
		if err := t.writeRow(r); err != nil {
			return err
		}
		r.dirty, r.fileHour = false, r.hour
	}
	t.dirty = t.dirty[:0]
	if t.forgets {
		if err := t.keepInstants(); err != nil {
			return err
		}
		t.forgets = false
	}
	for k, n := range t.pendingUsage {
		if err := t.writeUsage(k, n); err != nil {
			return err
		}
	}
	clear(t.pendingUsage)
	return nil
}

func (t *txn) writeRow(r *row) error {
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
	if r.hour == r.fileHour { // no index changes
		_, err := t.exec("UPDATE buckets SET state = ? WHERE id = ?", t.buf, r.id)
		return err
	}
	_, err := t.exec("UPDATE buckets SET state = ?, hour = ?, full_at = NULL WHERE id = ?", t.buf, hourValue(r.hour), r.id)
	return err
}

func hourValue(hour int64) any {
	if hour == hourly.None {
		return nil
	}
	return hour
}
