package sqlitestore

import (
	"database/sql/driver"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/hourly"
)

const (
	// idle is how long a bucket or a limit must have been full to be forgotten.
	// Callers whose clocks differ by less do not notice.
	idle = bucket.Instant(time.Second)

	// fewLimits is how many limits of a bucket are not searched for those that can
	// be forgotten: each time that some are costs a row of usage.
	fewLimits = 32

	sweepEvery   = 256 // calls
	sweepRows    = 64  // looked at every sweepEvery calls
	rowsForNew   = 4   // looked at for each new row: more than one, so that sweeping keeps up
	maxSweepRows = 128 // looked at in one transaction, plus two for each of its calls
)

// sweep looks at some rows after a number of calls, the earliest of them at an
// instant. It moves usage of past hours to its table, forgets buckets that have been
// full for idle, and deletes usage older than the retention.
func (t *txn) sweep(calls int, at bucket.Instant) error {
	if t.calls += calls; t.calls >= sweepEvery {
		t.calls %= sweepEvery
		t.owed += sweepRows
	}
	if !t.wrote || t.owed < sweepRows/4 {
		return nil
	}
	n := min(t.owed, maxSweepRows+2*calls)
	t.owed = min(t.owed-n, 8*maxSweepRows)
	full := at - idle
	used, err := t.sweepRows("SELECT id, hour, state, entity, resource FROM buckets WHERE hour < ? ORDER BY hour LIMIT ?",
		hourly.Of(full.Time()), n, full)
	if err != nil {
		return err
	}
	waited, err := t.sweepRows("SELECT id, hour, state, entity, resource FROM buckets WHERE full_at <= ? ORDER BY full_at LIMIT ?",
		int64(full), n, full)
	if err != nil {
		return err
	}
	result, err := t.conn.exec("DELETE FROM usage WHERE id IN (SELECT id FROM usage WHERE hour < ? ORDER BY hour LIMIT ?)",
		hourly.Of(at.Time().Add(-t.retention)), int64(n))
	if err != nil {
		return err
	}
	old, err := result.RowsAffected()
	if used+waited+int(old) == 0 {
		t.owed = 0 // nothing is due
	}
	return err
}

// sweepRows looks at up to n rows of a query and returns how many there were.
func (t *txn) sweepRows(query string, bound int64, n int, full bucket.Instant) (int, error) {
	var rows []*row
	err := t.conn.query(query, func(v []driver.Value) error {
		r := &row{hour: hourly.None}
		r.damaged = r.scan(v[:3]) != nil
		r.key.Entity, _ = v[3].(string)
		r.key.Resource, _ = v[4].(string)
		rows = append(rows, r)
		return nil
	}, bound, int64(n))
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	for _, r := range rows {
		delete(t.rows, r.key)
		delete(t.older, r.key)
		if err := t.sweepRow(r, full); err != nil {
			return 0, err
		}
	}
	return len(rows), t.flush() // the usage
}

// sweepRow forgets the bucket if it is idle, and otherwise those of its limits that
// are. It leaves a damaged one to the caller that uses it, and takes it out of what
// sweeps look at.
func (t *txn) sweepRow(r *row, full bucket.Instant) error {
	if r.damaged {
		_, err := t.exec("UPDATE buckets SET hour = NULL, full_at = NULL WHERE id = ?", r.id)
		return err
	}
	t.endHour(r)
	if idleAt := r.idleAt(full); idleAt > full {
		if r.Forget(full, nil) > 0 {
			t.forgot(full)
		}
		t.buf = r.encode(t.buf[:0])
		_, err := t.exec("UPDATE buckets SET state = ?, hour = NULL, full_at = ? WHERE id = ?", t.buf, int64(idleAt), r.id)
		return err
	}
	t.forgot(full)
	_, err := t.exec("DELETE FROM buckets WHERE id = ?", r.id)
	return err
}

// forgetLimits forgets the limits of a bucket that have been full since an instant
// and that no charge names, if they are half of many. Their usage becomes pending.
func (t *txn) forgetLimits(r *row, charges []zael.Charge, full bucket.Instant) {
	if len(r.Limits) < fewLimits {
		return
	}
	n := 0
	for i := range r.Limits {
		if r.Limits[i].State.Forgettable(full) {
			n++
		}
	}
	if n < len(r.Limits)/2 {
		return
	}
	hour := r.hour
	t.endHour(r)
	r.hour = hour
	if r.Forget(full, charges) > 0 {
		t.forgot(full)
		t.touch(r)
	}
}

// forgot notes that something was forgotten that had been full since an instant.
func (t *txn) forgot(full bucket.Instant) {
	if at := bucket.Latest(t.file.forgotten, full); at != t.file.forgotten {
		t.file.forgotten, t.forgets = at, true
	}
}
