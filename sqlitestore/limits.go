package sqlitestore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/zeroae/zael"
)

// A limitText is a zael.Limit as it is stored: in numbers, or as zael.ParseLimit reads it
// if it is of another kind than a rate, or soft.
type limitText struct {
	Text     string        `json:"limit,omitempty"`
	Name     string        `json:"name"`
	Capacity int64         `json:"capacity,omitempty"`
	Burst    int64         `json:"burst,omitempty"`
	Amount   int64         `json:"refill_amount,omitempty"`
	Period   time.Duration `json:"refill_period_ns,omitempty"`
}

func limitsText(limits []zael.Limit) (string, error) {
	all := make([]limitText, len(limits))
	for i, l := range limits {
		if err := checkText("limit", l.Name); err != nil {
			return "", err
		}
		if plain := (zael.Limit{Name: l.Name, Capacity: l.Capacity, Burst: l.Burst, RefillAmount: l.RefillAmount, RefillPeriod: l.RefillPeriod}); l != plain {
			all[i] = limitText{Name: l.Name, Text: l.String()}
			continue
		}
		all[i] = limitText{"", l.Name, l.Capacity, l.Burst, l.RefillAmount, l.RefillPeriod}
	}
	text, err := json.Marshal(all)
	return string(text), err
}

func parseLimits(text string) ([]zael.Limit, error) {
	var all []limitText
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, err
	}
	var limits []zael.Limit
	for _, l := range all {
		if l.Text != "" {
			limit, err := zael.ParseLimit(l.Text)
			if err != nil {
				return nil, err
			}
			limits = append(limits, limit)
			continue
		}
		limits = append(limits, zael.Limit{Name: l.Name, Capacity: l.Capacity, Burst: l.Burst, RefillAmount: l.Amount, RefillPeriod: l.Period})
	}
	return limits, nil
}

// noLimits is limitsText(nil).
const noLimits = "[]"

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
		rev, kept := int64(0), noLimits
		err := t.conn.query("SELECT rev, limits FROM limits WHERE entity = ? AND resource = ?", func(v []driver.Value) error {
			rev, _ = v[0].(int64)
			kept, _ = v[1].(string)
			return nil
		}, scope.Entity, scope.Resource)
		if err != nil {
			return err
		}
		if text == noLimits && kept == noLimits {
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
					set.Limits, err = parseLimits(text)
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
