package postgresstore

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/oncekey"
	"github.com/zeroae/zael/internal/sqladmin"
	"github.com/zeroae/zael/internal/storearg"
	"github.com/zeroae/zael/internal/storedlimits"
)

// storable says what can be kept: no text has a zero byte, and three of an index fit into a page.
//
//nolint:gochecknoglobals // a constant
var storable = storearg.Names{NoZero: true, Longest: 800}

// administration is what a namespace has beside buckets and usage.
type administration = sqladmin.Administration

func newAdministration(s *Store, namespace string) administration {
	return sqladmin.New(database{s}, sqladmin.Tables{Prefix: defaultSchema + ".", Namespace: &namespace, Cascade: "cascades"}, storable)
}

// Prefixes of keys in the table once, which keep those of administration apart from others.
const (
	adminKeys = "!"
	takeKeys  = "/"
)

// A database is a Store as package sqladmin sees it.
type database struct{ store *Store }

// Query implements sqladmin.Database.
func (d database) Query(ctx context.Context, what string, q *sqladmin.Query, read func(sqladmin.Rows) error) error {
	return d.store.retryRead(ctx, what, func(ctx context.Context) error { return d.store.query(ctx, d.store.pool, q, read) })
}

// Change implements sqladmin.Database.
func (d database) Change(ctx context.Context, what string, change sqladmin.Change) error {
	t := adminTx{store: d.store}
	err := d.store.change(ctx, what, func(ctx context.Context, tx pgx.Tx) error {
		t.tx, t.changed = tx, nil
		return change(ctx, &t)
	})
	if err != nil {
		return err
	}
	for _, key := range t.changed {
		if key.Resource == "" {
			d.store.queue.forgetAll()
		}
		d.store.queue.forget(key)
	}
	return nil
}

// Instant implements sqladmin.Database.
func (d database) Instant(ctx context.Context, now time.Time) (bucket.Instant, error) {
	_, at, err := d.store.clock.Instant(ctx, now)
	return at, err
}

// An asker is a pool or a transaction.
type asker interface {
	Query(ctx context.Context, text string, args ...any) (pgx.Rows, error)
}

// query passes the rows of a query to read.
func (s *Store) query(ctx context.Context, in asker, q *sqladmin.Query, read func(sqladmin.Rows) error) error {
	rows, err := in.Query(ctx, s.sql(numbered(q.String())), q.Args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	if err := read(rows); err != nil {
		return err
	}
	rows.Close()
	return rows.Err()
}

// numbered returns a text in which $1, $2 and so on stand for its question marks.
func numbered(text string) string {
	parts := strings.Split(text, "?")
	var b strings.Builder
	b.WriteString(parts[0])
	for i, part := range parts[1:] {
		fmt.Fprintf(&b, "$%d%s", i+1, part)
	}
	return b.String()
}

// An adminTx is a transaction of administration.
type adminTx struct {
	store   *Store
	tx      pgx.Tx
	changed []zael.Key // of buckets; without a resource, all of an entity
}

// Query implements sqladmin.Tx.
func (t *adminTx) Query(ctx context.Context, q *sqladmin.Query, read func(sqladmin.Rows) error) error {
	return t.store.query(ctx, t.tx, q, read)
}

// Exec implements sqladmin.Tx.
func (t *adminTx) Exec(ctx context.Context, q *sqladmin.Query) (int64, error) {
	tag, err := t.tx.Exec(ctx, t.store.sql(numbered(q.String())), q.Args...)
	return tag.RowsAffected(), err
}

// TellSettings implements sqladmin.Tx: no write under older settings is made then. Buckets of other
// scopes than an entity's are told within Config.ConfigTTL.
func (t *adminTx) TellSettings(ctx context.Context, scope zael.Scope, rev int64) error {
	if scope.Entity == "" {
		return nil
	}
	t.changed = append(t.changed, zael.Key(scope))
	namespace := t.store.config.Namespace
	q := new(sqladmin.Query).Add("WITH locked AS MATERIALIZED (SELECT resource FROM zael.buckets WHERE namespace = ? AND entity = ?", namespace, scope.Entity)
	if scope.Resource != "" {
		q.Add(" AND resource = ?", scope.Resource)
	}
	q.Add(` ORDER BY resource FOR NO KEY UPDATE)
		UPDATE zael.buckets b SET settings = ?, ids = ?::bigint || b.ids[1:3] FROM locked l WHERE b.namespace = ? AND b.entity = ? AND b.resource = l.resource`,
		rev, t.store.random(), namespace, scope.Entity)
	_, err := t.Exec(ctx, q)
	return err
}

// Fill implements sqladmin.Tx.
func (t *adminTx) Fill(ctx context.Context, edit *zael.Edit, at bucket.Instant) (zael.Amounts, error) {
	s, key := t.store, zael.Key(edit.Scope())
	t.changed = append(t.changed, key)
	rows, err := t.tx.Query(ctx, s.sql(lockText), s.config.Namespace, []string{key.Entity}, []string{key.Resource})
	if err != nil {
		return nil, err
	}
	found := map[zael.Key]*row{}
	if err := scanRows(rows, found); err != nil {
		return nil, err
	}
	r := found[key]
	if r == nil {
		r = missing(key)
	}
	available, err := edit.Fill(&r.Record, at, rand.Uint64())
	if err != nil || len(r.Limits) == 0 {
		return available, err
	}
	if r.birth == 0 {
		r.birth = r.Limits[0].State.Generation
	}
	r.expire(at)
	var a arrays
	a.add(r, r.version(), math.MaxInt64)
	if rows, err = t.tx.Query(ctx, s.sql(writeCall), a.values(s, s.random(), untilDone(ctx), true)...); err != nil {
		return nil, err
	}
	rows.Close()
	return available, rows.Err()
}

// DeleteBuckets implements sqladmin.Tx.
func (t *adminTx) DeleteBuckets(ctx context.Context, entity string) (found int64, err error) {
	t.changed = append(t.changed, zael.Key{Entity: entity})
	for _, text := range []string{
		"SELECT 1 FROM zael.buckets WHERE namespace = ? AND entity = ? ORDER BY resource FOR UPDATE", // in the order in which acquires lock them
		"DELETE FROM zael.usage WHERE namespace = ? AND entity = ?",
		"DELETE FROM zael.buckets WHERE namespace = ? AND entity = ?",
	} {
		n, err := t.Exec(ctx, new(sqladmin.Query).Add(text, t.store.config.Namespace, entity))
		if err != nil {
			return found, err
		}
		found += n
	}
	return found, nil
}

// Kept implements sqladmin.Tx.
func (t *adminTx) Kept(ctx context.Context, key, now string) (*oncekey.Kept, error) {
	var k oncekey.Kept
	known := false
	err := t.Query(ctx, new(sqladmin.Query).Add("SELECT hash, until, answer FROM zael.once WHERE namespace = ? AND key = ? AND until > ?",
		t.store.config.Namespace, adminKeys+key, now), sqladmin.One(&known, &k.Hash, &k.Until, &k.Answer))
	if err != nil || !known {
		return nil, err
	}
	return &k, nil
}

// Keep implements sqladmin.Tx.
func (t *adminTx) Keep(ctx context.Context, key, _ string, k oncekey.Kept) error {
	_, err := t.tx.Exec(ctx, t.store.sql(keepText), t.store.config.Namespace, adminKeys+key, k.Hash, k.Until, k.Answer)
	return err
}

// State implements zael.AdminStore.
func (s *Store) State(ctx context.Context) (state zael.StoreState, err error) {
	found := false
	q := new(sqladmin.Query).Add(`SELECT (SELECT coalesce(max(rev), 0) FROM zael.settings WHERE namespace = ?),
		EXISTS (SELECT 1 FROM zael.namespaces WHERE name = ? AND state <> 'active')`, s.config.Namespace, s.config.Namespace)
	err = database{s}.Query(ctx, "reading the state", q, sqladmin.One(&found, &state.SettingsRev, &state.Deleted))
	return state, err
}

// ListResources implements zael.ListStore. It looks for each resource of the buckets in the
// index, so that the number of buckets does not matter.
func (s *Store) ListResources(ctx context.Context, l zael.ListQuery) ([]string, error) {
	if err := storable.List(l); err != nil {
		return nil, err
	}
	name := s.config.Namespace
	q := new(sqladmin.Query).Add("WITH RECURSIVE used (name) AS ((SELECT resource FROM zael.buckets WHERE namespace = ?", name).Named("resource", l.Prefix, l.After)
	q.Add(" ORDER BY resource LIMIT 1) UNION ALL SELECT (SELECT b.resource FROM zael.buckets b WHERE b.namespace = ? AND b.resource > used.name", name).Named("b.resource", l.Prefix, "")
	q.Add(` ORDER BY b.resource LIMIT 1) FROM used WHERE used.name IS NOT NULL), first AS (SELECT name FROM used WHERE name IS NOT NULL LIMIT ?)
		SELECT name FROM first UNION SELECT resource FROM zael.limits WHERE namespace = ? AND entity = '' AND resource <> '' AND limits <> ?`, l.Max, name, storedlimits.None).Named("resource", l.Prefix, l.After)
	return sqladmin.Collect(ctx, database{s}, "listing resources", q.Add(" ORDER BY 1 LIMIT ?", l.Max), sqladmin.Text)
}
