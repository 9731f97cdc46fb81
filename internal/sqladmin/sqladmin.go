// Package sqladmin keeps what a store in SQL tables has beside buckets and usage: entities, stored
// limits, settings, and audit events, with the keys of changes that are made once. Its SQL is that
// which SQLite and PostgreSQL have in common.
package sqladmin

import (
	"context"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/edits"
	"github.com/zeroae/zael/internal/oncekey"
	"github.com/zeroae/zael/internal/storearg"
)

// An Administration has the methods of zael.EntityStore, zael.AdminStore, zael.Applier and
// zael.AuditStore, and those of zael.LimitStore and zael.ListStore that are not about buckets.
type Administration struct {
	database Database
	tables   Tables
	names    storearg.Names
}

// New returns the administration in a database. names says what can be kept.
func New(d Database, t Tables, names storearg.Names) Administration {
	return Administration{d, t, names}
}

// Record returns the change that records an event. It belongs in the transaction of the change that
// the event is about.
func Record(a *Administration, event *zael.AuditEvent) (Change, error) { return a.record(event) }

// Tables says how the tables are named.
type Tables struct {
	Prefix    string  // of their names, such as "zael."
	Namespace *string // what their column namespace has; nil: they have none
	Cascade   string  // the column with zael.Entity.Cascade

	// AuditKept is how long audit events are kept, from the times of later ones. 0: the store
	// deletes old ones by itself.
	AuditKept time.Duration
}

// A Database runs what is read and changed.
type Database interface {
	// Query passes the rows of a query to read, again if the query has to be made again. what
	// is for errors.
	Query(ctx context.Context, what string, q *Query, read func(Rows) error) error

	// Change runs a change in a transaction, one at a time, more than once if it has to be made
	// again. Errors of edits.IsAnswer, and *zael.ValidationErrors, come of a change that has
	// written nothing, and are returned as they are. The change may run when ctx is done, and
	// Change have returned.
	Change(ctx context.Context, what string, change Change) error

	// Instant returns the instant at which a change is made.
	Instant(ctx context.Context, now time.Time) (bucket.Instant, error)
}

// A Change is what is done in a transaction.
type Change func(ctx context.Context, tx Tx) error

// A Tx is a transaction that writes.
type Tx interface {
	Query(ctx context.Context, q *Query, read func(Rows) error) error
	Exec(ctx context.Context, q *Query) (rows int64, err error)
	Buckets
	OnceKeys
}

// Buckets are what changes of administration do to buckets.
type Buckets interface {
	// Fill makes an edit of a bucket, as zael.Edit.Fill says.
	Fill(ctx context.Context, edit *zael.Edit, at bucket.Instant) (zael.Amounts, error)
	// TellSettings has the buckets of a scope know the revision of its settings.
	TellSettings(ctx context.Context, scope zael.Scope, rev int64) error
	// DeleteBuckets deletes the buckets and the usage of an entity, the last of what it has,
	// and returns how many rows that were.
	DeleteBuckets(ctx context.Context, entity string) (int64, error)
}

// OnceKeys are the keys of changes that are made once.
type OnceKeys interface {
	// Kept returns what is kept with a key at a time, as text; nil if that is not known.
	Kept(ctx context.Context, key, now string) (*oncekey.Kept, error)
	Keep(ctx context.Context, key, now string, k oncekey.Kept) error
}

// Apply implements zael.Applier.
func (a *Administration) Apply(ctx context.Context, all []zael.Edit) error {
	var ids []string
	var changes []Change
	for i := range all {
		e := all[i]
		var c Change
		var err error
		switch kind := edits.KindOf(&e); {
		case !e.Applies():
			err = edits.Refused(&e)
		case kind == edits.Create:
			ids = append(ids, e.Entity.ID)
			c, err = a.creation(&e.Entity, &e.Event)
		case kind == edits.Limits:
			c, err = a.limitsChange(e.Scope(), e.Limits, &e.Event, new(int64))
		default:
			c, err = a.edit(&e, 0, new(zael.EditResult))
		}
		if err != nil {
			return err
		}
		changes = append(changes, c)
	}
	return a.database.Change(ctx, "applying changes", func(ctx context.Context, tx Tx) error {
		if err := a.checkFree(ctx, tx, ids); err != nil { // before anything is written
			return err
		}
		for _, c := range changes {
			if err := c(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
}
