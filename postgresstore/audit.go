package postgresstore

import (
	"cmp"
	"context"
	"fmt"
	"iter"

	"github.com/jackc/pgx/v5"

	"github.com/zeroae/zael"
)

// auditChange returns a change that records event. It belongs in the transaction of the change
// that the event is about.
func (s *Store) auditChange(event zael.AuditEvent) (change, error) {
	return s.auditChangeIn(s.config.Namespace, event)
}

func (s *Store) auditChangeIn(namespace string, event zael.AuditEvent) (change, error) {
	details, err := mapText(event.Details)
	if err != nil {
		return nil, fmt.Errorf("postgresstore: details: %w", err)
	}
	at, err := checkedTimeText("AuditEvent.Time", event.Time)
	if err != nil {
		return nil, err
	}
	if err := checkText("principal", event.Principal); err != nil {
		return nil, err
	}
	if err := checkKey(zael.Key{Entity: event.Entity, Resource: event.Resource}); err != nil {
		return nil, err
	}
	return func(ctx context.Context, tx pgx.Tx) error {
		_, err := s.exec(ctx, tx, new(query).add("INSERT INTO zael.audit (namespace, time, action, principal, entity, resource, details) VALUES (?, ?, ?, ?, ?, ?, ?)",
			namespace, at, string(event.Action), event.Principal, event.Entity, event.Resource, details))
		return err
	}, nil
}

// An auditRow is an event with its number, which gives the order of events that have the same
// time.
type auditRow struct {
	event zael.AuditEvent
	at    string
	id    int64
}

// Audit implements zael.AuditStore.
func (s *Store) Audit(ctx context.Context, a zael.AuditQuery) iter.Seq2[zael.AuditEvent, error] {
	if err := checkText("entity", a.Entity); err != nil {
		return errorSeq[zael.AuditEvent](err)
	}
	page := func(ctx context.Context, tx pgx.Tx, last *auditRow) ([]auditRow, error) {
		q := new(query).add("SELECT id, time, action, principal, entity, resource, details FROM zael.audit WHERE namespace = ?", s.config.Namespace)
		if a.Entity != "" {
			q.add(" AND entity = ?", a.Entity)
		}
		if !a.From.IsZero() {
			q.add(" AND time >= ?", timeText(a.From))
		}
		if !a.To.IsZero() {
			q.add(" AND time < ?", timeText(a.To))
		}
		if last != nil {
			q.add(" AND (time, id) < (?, ?)", last.at, last.id)
		}
		return collect(ctx, s, tx, q.add(" ORDER BY time DESC, id DESC LIMIT ?", pageRows), scanAudit)
	}
	return func(yield func(zael.AuditEvent, error) bool) {
		left := cmp.Or(a.Max, 100)
		for r, err := range pages(ctx, s, page) {
			if left <= 0 && err == nil || !yield(r.event, err) {
				return
			}
			left--
		}
	}
}

func scanAudit(row pgx.CollectableRow) (r auditRow, err error) {
	var details *string
	e := &r.event
	if err := row.Scan(&r.id, &r.at, (*string)(&e.Action), &e.Principal, &e.Entity, &e.Resource, &details); err != nil {
		return r, err
	}
	if e.Details, err = parseMap(details); err != nil {
		return r, err
	}
	e.Time, err = parseTime(r.at)
	return r, err
}
