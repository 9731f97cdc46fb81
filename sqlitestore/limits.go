package sqlitestore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"slices"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/storedlimits"
)

// limitsText returns limits as text, if their names can be kept.
func limitsText(limits []zael.Limit) (string, error) {
	for _, l := range limits {
		if err := checkText("limit", l.Name); err != nil {
			return "", err
		}
	}
	return storedlimits.Text(limits)
}

// SetLimits implements zael.LimitStore.
func (s *Store) SetLimits(ctx context.Context, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (int64, error) {
	return s.setLimits(ctx, scope, limits, event)
}

// DeleteLimits implements zael.LimitStore.
func (s *Store) DeleteLimits(ctx context.Context, scope zael.Scope, event zael.AuditEvent) (int64, error) {
	return s.setLimits(ctx, scope, nil, event)
}

func (s *Store) setLimits(ctx context.Context, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (int64, error) {
	result := new(int64) // the writer may set it after this call has ended
	set, err := limitsChange(scope, limits, event, result)
	if err != nil {
		return 0, err
	}
	if err := s.change(ctx, set); err != nil {
		return 0, err
	}
	return *result, nil
}

// limitsChange returns the change that sets the limits of a scope, or deletes them
// if limits is empty. It writes their revision into result.
func limitsChange(scope zael.Scope, limits []zael.Limit, event zael.AuditEvent, result *int64) (func(*txn) error, error) {
	if err := checkKey(zael.Key(scope)); err != nil {
		return nil, err
	}
	text, err := limitsText(limits)
	if err != nil {
		return nil, err
	}
	audit, err := auditChange(event)
	if err != nil {
		return nil, err
	}
	return func(t *txn) error {
		rev, kept := int64(0), storedlimits.None
		err := t.conn.query("SELECT rev, limits FROM limits WHERE entity = ? AND resource = ?", func(v []driver.Value) error {
			rev, _ = v[0].(int64)
			kept, _ = v[1].(string)
			return nil
		}, scope.Entity, scope.Resource)
		if err != nil {
			return err
		}
		if text == storedlimits.None && kept == storedlimits.None {
			*result = rev
			return nil
		}
		*result = max(event.Time.UnixMicro(), rev+1)
		_, err = t.exec("INSERT INTO limits (entity, resource, rev, limits) VALUES (?, ?, ?, ?) "+
			"ON CONFLICT (entity, resource) DO UPDATE SET rev = excluded.rev, limits = excluded.limits",
			scope.Entity, scope.Resource, *result, text)
		if err != nil {
			return err
		}
		return audit(t)
	}, nil
}

// Apply implements zael.Applier.
func (s *Store) Apply(ctx context.Context, edits []zael.Edit) error {
	var ids []string
	var changes []func(*txn) error
	for _, e := range edits {
		var change func(*txn) error
		var err error
		switch {
		case !e.Applies():
			err = notAnEdit(&e)
		case e.Event.Action == zael.EntityCreated:
			if slices.Contains(ids, e.Entity.ID) {
				return fmt.Errorf("%w: %s", zael.ErrEntityExists, e.Entity.ID)
			}
			ids = append(ids, e.Entity.ID)
			change, err = entityChange(e.Entity, e.Event)
		case e.Event.Action == zael.LimitsSet || e.Event.Action == zael.LimitsDeleted:
			change, err = limitsChange(e.Scope(), e.Limits, e.Event, new(int64))
		default:
			change, err = adminChange(e.Event.Time, &e, new(adminResult))
		}
		if err != nil {
			return err
		}
		changes = append(changes, change)
	}
	return s.change(ctx, func(t *txn) error {
		for _, id := range ids { // before anything is changed: the error of an answer, not of the transaction
			if err := isFree(t, id); err != nil {
				return fmt.Errorf("%w: %s", err, id)
			}
		}
		for _, change := range changes {
			if err := change(t); err != nil {
				return err
			}
		}
		return nil
	})
}

// Limits implements zael.LimitStore.
func (s *Store) Limits(ctx context.Context, scopes []zael.Scope) ([]zael.LimitSet, error) {
	sets := make([]zael.LimitSet, len(scopes))
	err := s.readTx(ctx, func(tx *sql.Tx) error {
		for i, scope := range scopes {
			set := &sets[i]
			err := queryRows(ctx, tx, func(rows *sql.Rows) error {
				var text string
				err := rows.Scan(&set.Rev, &text)
				if err == nil {
					set.Limits, err = storedlimits.Parse(text)
				}
				return err
			}, "SELECT rev, limits FROM limits WHERE entity = ? AND resource = ?", scope.Entity, scope.Resource)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return sets, nil
}
