package sqlitestore

import (
	"database/sql/driver"
	"sync/atomic"
	"time"

	"github.com/zeroae/zael/bucket"
)

// latestEvery is how far the latest instant in the file may lag behind, so that it is
// written at most once in that time.
const latestEvery = bucket.Instant(time.Second)

// A latestInstant is the latest instant that a Store has seen; 0 if there is none.
type latestInstant struct{ at atomic.Int64 }

// note raises the latest instant to at. It ignores 0.
func (l *latestInstant) note(at bucket.Instant) {
	for at != 0 {
		known := l.at.Load()
		next := int64(bucket.Latest(bucket.Instant(known), at))
		if next == known || l.at.CompareAndSwap(known, next) {
			return
		}
	}
}

// LatestInstant implements zael.InstantStore.
func (s *Store) LatestInstant() time.Time {
	at := s.latest.at.Load()
	if at == 0 {
		return time.Time{}
	}
	return bucket.Instant(at).Time()
}

// instants is the row of the table instants; its fields are 0 if there is none.
type instants struct{ latest, forgotten bucket.Instant }

func readInstants(c *conn) (in instants, err error) {
	err = c.query("SELECT latest, forgotten FROM instants", func(row []driver.Value) error {
		latest, _ := row[0].(int64)
		forgotten, _ := row[1].(int64)
		in = instants{bucket.Instant(latest), bucket.Instant(forgotten)}
		return nil
	})
	return in, err
}

// keepInstants writes t.file.
func (t *txn) keepInstants() error {
	_, err := t.exec("INSERT INTO instants VALUES (1, ?, ?) ON CONFLICT (id) DO UPDATE SET latest = excluded.latest, forgotten = excluded.forgotten",
		int64(t.file.latest), int64(t.file.forgotten))
	return err
}

// keepLatest writes at, the latest instant of the transaction's calls, if it is
// latestEvery after the one in the file and the transaction writes anyway.
func (t *txn) keepLatest(at bucket.Instant) error {
	if known := t.file.latest; !t.wrote || known != 0 && at-latestEvery < known {
		return nil
	}
	t.file.latest = bucket.Latest(t.file.latest, at)
	return t.keepInstants()
}

// noteBuckets notes the latest instants of the buckets of o, which was performed.
func (t *txn) noteBuckets(o *op) {
	for i := range o.debits {
		if r := t.rows[o.debits[i].Key]; r != nil && len(r.Limits) > 0 {
			t.latest.note(r.Latest)
		}
	}
}
