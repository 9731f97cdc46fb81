package postgresstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/engineclock"
	"github.com/zeroae/zael/internal/oncekey"
)

const (
	beginText = "BEGIN ISOLATION LEVEL READ COMMITTED"

	configText = `SELECT set_config('lock_timeout', $1, true), set_config('synchronous_commit', CASE WHEN $2 THEN 'off' ELSE current_setting('synchronous_commit') END, true), clock_timestamp()`

	// Locks are taken in the order of keys.
	lockText = `SELECT b.entity, b.resource, b.ids, b.settings, b.latest, b.expires, b.birth, b.limits, b.marks, b.more, b.hour, b.events, b.tokens
		FROM unnest($2::text[], $3::text[]) AS k (entity, resource) JOIN zael.buckets b ON b.namespace = $1 AND b.entity = k.entity COLLATE "C" AND b.resource = k.resource COLLATE "C"
		ORDER BY b.entity, b.resource FOR NO KEY UPDATE OF b`

	settingsText = `SELECT k.entity, k.resource, max(s.rev) FROM unnest($2::text[], $3::text[]) AS k (entity, resource)
		JOIN zael.settings s ON s.namespace = $1 AND s.entity IN (k.entity COLLATE "C", '') AND s.resource IN (k.resource COLLATE "C", '') GROUP BY 1, 2`

	onceText = `SELECT key, hash, until, answer FROM zael.once WHERE namespace = $1 AND key = ANY ($2)`

	usageText = `INSERT INTO zael.usage AS u (namespace, entity, hour, resource, name, n)
		SELECT $1, * FROM unnest($2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[])
		ON CONFLICT (namespace, entity, hour, resource, name) DO UPDATE
		SET n = least(greatest(u.n::numeric + excluded.n, -9223372036854775808), 9223372036854775807)::bigint`

	keepText = `INSERT INTO zael.once (namespace, key, hash, until, answer) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (namespace, key) DO UPDATE SET hash = excluded.hash, until = excluded.until, answer = excluded.answer`
)

// lockAndWrite performs a batch in a transaction that locks the buckets before it computes what
// to write: two calls.
func (w *writing) lockAndWrite(ctx context.Context) error {
	s := w.store
	s.stats.calls.Add(1)
	s.stats.locked.Add(1)
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	l := locking{writing: w, conn: conn, once: onceKeys{known: map[string]oncekey.Kept{}}}
	if err := l.lock(ctx); err != nil {
		l.rollback()
		return err
	}
	if w.unsure && l.applied() {
		l.rollback()
		return nil
	}
	t := newStep(s, l.rows)
	for _, o := range w.batch.ops {
		if slices.ContainsFunc(o.debits, func(d zael.Debit) bool { return w.spent(o, t.rows[d.Key]) }) {
			o.err = errLost
			continue
		}
		l.perform(t, o)
	}
	w.id, w.base = s.random(), bases(l.rows)
	if len(t.changed) == 0 && len(t.usage) == 0 && len(l.once.keeps) == 0 {
		l.rollback()
		l.learn(t)
		return nil
	}
	if err := l.write(ctx, t); err != nil {
		l.rollback()
		return err
	}
	l.learn(t)
	return nil
}

// A locking is a transaction that has locked the buckets of a batch.
type locking struct {
	*writing
	conn *pgxpool.Conn
	rows []*row // as they are
	once onceKeys
}

// rollback ends the transaction. If the connection is broken, so is the transaction.
func (l *locking) rollback() {
	if l.conn.Conn().IsClosed() || l.conn.Conn().PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), leastAttempt)
	defer cancel()
	_, _ = l.conn.Exec(ctx, "ROLLBACK") // else the pool closes the connection
}

// lock begins the transaction, locks what the batch changes, and reads it.
func (l *locking) lock(ctx context.Context) error {
	s := l.store
	var entities, resources []string
	for _, r := range l.batch.rows {
		entities, resources = append(entities, r.key.Entity), append(resources, r.key.Resource)
	}
	keys := l.batch.keys()
	var q pgx.Batch
	q.Queue(beginText)
	var config engineclock.Reading
	q.Queue(configText, fmt.Sprintf("%dms", max(1, l.lockWait(ctx).Milliseconds())), s.config.Durability == DurabilityOff).QueryRow(func(row pgx.Row) error {
		var lock, sync string
		var at time.Time
		err := row.Scan(&lock, &sync, &at)
		s.learnTime(at, config)
		return err
	})
	for _, n := range s.advisoryLocks(keys) {
		q.Queue("SELECT pg_advisory_xact_lock($1)", n)
	}
	found := map[zael.Key]*row{}
	q.Queue(s.sql(lockText), s.config.Namespace, entities, resources).Query(func(rows pgx.Rows) error { return scanRows(rows, found) })
	settings := map[zael.Key]int64{}
	q.Queue(s.sql(settingsText), s.config.Namespace, entities, resources).Query(func(rows pgx.Rows) error {
		var k zael.Key
		var rev int64
		_, err := pgx.ForEachRow(rows, []any{&k.Entity, &k.Resource, &rev}, func() error {
			settings[k] = rev
			return nil
		})
		return err
	})
	if len(keys) > 0 {
		q.Queue(s.sql(onceText), s.config.Namespace, keys).Query(func(rows pgx.Rows) error {
			var key string
			var k oncekey.Kept
			_, err := pgx.ForEachRow(rows, []any{&key, &k.Hash, &k.Until, &k.Answer}, func() error {
				k := k
				k.Answer = slices.Clone(k.Answer)
				l.once.known[key] = k
				return nil
			})
			return err
		})
	}
	config = s.clock.Read()
	if err := l.conn.SendBatch(ctx, &q).Close(); err != nil {
		return err
	}
	for _, r := range l.batch.rows {
		now := found[r.key]
		if now == nil {
			now = missing(r.key)
			now.settings = settings[r.key]
		}
		now.read = time.Now()
		l.rows = append(l.rows, now)
	}
	return nil
}

// scanRows reads entity, resource and storedColumns.
func scanRows(rows pgx.Rows, found map[zael.Key]*row) error {
	defer rows.Close()
	for rows.Next() {
		r, err := scanRow(rows)
		if err != nil {
			return err
		}
		found[r.key] = &r
	}
	return rows.Err()
}

// keys returns the once-keys of a batch, as they are in the table.
func (b *batch) keys() (keys []string) {
	for _, o := range b.ops {
		if o.once == nil {
			continue
		}
		for _, key := range []string{o.once.Key, o.once.Unless} {
			if key != "" {
				keys = append(keys, takeKeys+key)
			}
		}
	}
	return keys
}

// advisoryLocks returns the numbers of locks of once-keys, in their order: two transactions
// that are about a key that is not there have no row to wait at.
func (s *Store) advisoryLocks(keys []string) (numbers []int64) {
	for _, key := range keys {
		numbers = append(numbers, s.lockNumber(key))
	}
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

// lockNumber returns the number of the advisory lock of a name within the store's schema and
// namespace.
func (s *Store) lockNumber(name string) int64 {
	sum := sha256.Sum256([]byte(s.config.Schema + "\x00" + s.config.Namespace + "\x00" + name))
	return int64(binary.BigEndian.Uint64(sum[:])) //nolint:gosec // any number
}

// applied reports whether the write that was not answered was applied: the buckets have its id.
func (l *locking) applied() bool {
	return slices.ContainsFunc(l.rows, func(r *row) bool { return slices.Contains(r.ids, l.id) })
}

// perform performs an op, in one step with its key if it has one.
func (l *locking) perform(t *step, o *op) {
	if o.once == nil {
		t.perform(o)
		return
	}
	o.err, _ = o.once.Perform(&l.once, o.debits, func() (err, fatal error) { // of keys that were read, nothing is fatal
		t.perform(o)
		return o.err, nil
	})
}

// write writes what the ops have left, and commits.
func (l *locking) write(ctx context.Context, t *step) error {
	s := l.store
	var a arrays
	var asked []*row
	for _, r := range l.rows {
		if t.changed[r] {
			a.add(r, r.version(), bucket.MaxAmount)
			asked = append(asked, r)
		}
	}
	var q pgx.Batch
	if len(asked) > 0 {
		for i := range a.settings {
			a.settings[i] = asked[i].settings
		}
		q.Queue(s.sql(writeCall), a.values(s, l.id, l.lockWait(ctx), true)...).Query(func(rows pgx.Rows) error {
			rows.Close()
			return rows.Err()
		})
	}
	s.queueUsage(&q, t)
	for _, k := range l.once.keeps {
		q.Queue(s.sql(keepText), s.config.Namespace, k.key, k.Hash, k.Until, k.Answer)
	}
	q.Queue("COMMIT")
	l.sent = true
	s.stats.calls.Add(1)
	return l.conn.SendBatch(ctx, &q).Close()
}

// queueUsage queues what adds the usage of a step to the table.
func (s *Store) queueUsage(q *pgx.Batch, t *step) {
	keys := t.usageRows()
	if len(keys) == 0 {
		return
	}
	n := len(keys)
	entities, hours, resources, names, amounts := make([]string, n), make([]int64, n), make([]string, n), make([]string, n), make([]int64, n)
	for i, k := range keys {
		entities[i], hours[i], resources[i], names[i], amounts[i] = k.entity, k.hour, k.resource, k.name, t.usage[k]
	}
	q.Queue(s.sql(usageText), s.config.Namespace, entities, hours, resources, names, amounts)
}

// learn notes what the buckets are now.
func (l *locking) learn(t *step) {
	for _, r := range l.rows {
		if t.changed[r] {
			l.store.stats.written.Add(1)
			r.written(l.id)
		}
		l.store.queue.learn(r)
	}
}
