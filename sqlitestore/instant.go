package sqlitestore

import (
	"database/sql/driver"
	"sync/atomic"
	"time"

	"github.com/zeroae/zael/bucket"
)

// latestEvery is how far the latest instant in the file may lag behind.
const latestEvery = bucket.Instant(time.Second)

// A latest is the latest instant that a Store has seen; 0 if there is none.
type latest struct{ at atomic.Int64 }

// see notes an instant, if it is the latest. 0 is none.
func (l *latest) see(at bucket.Instant) {
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

// instants are the instants that the file keeps (see schema); 0 if there are
// none.
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

// keepInstants writes the instants into the file.
func (t *txn) keepInstants() error {
	_, err := t.exec("INSERT INTO instants VALUES (1, ?, ?) ON CONFLICT (id) DO UPDATE SET latest = excluded.latest, forgotten = excluded.forgotten",
		int64(t.file.latest), int64(t.file.forgotten))
	return err
}

// keepLatest writes the latest instant of the transaction's calls into the file,
// at most once in latestEvery, if the transaction writes anyway.
func (t *txn) keepLatest(at bucket.Instant) error {
	if known := t.file.latest; !t.wrote || known != 0 && at-latestEvery < known {
		return nil
	}
	t.file.latest = bucket.Latest(t.file.latest, at)
	return t.keepInstants()
}

// seeBuckets notes the latest instants of the buckets of an op that was done.
func (t *txn) seeBuckets(o *op) {
	for i := range o.debits {
		if r := t.rows[o.debits[i].Key]; r != nil && len(r.Limits) > 0 {
			t.seen.see(r.Latest)
		}
	}
}
