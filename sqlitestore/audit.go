package sqlitestore

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"iter"
	"slices"

	"github.com/zeroae/zael"
)

// auditChange returns a change that records event. It belongs in the transaction of
// the change that the event is about.
func auditChange(event zael.AuditEvent) (func(*txn) error, error) {
	details, err := mapText(event.Details)
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: details: %w", err)
	}
	at, err := checkedTimeText("AuditEvent.Time", event.Time)
	if err != nil {
		return nil, err
	}
	return func(t *txn) error {
		_, err := t.exec("INSERT INTO audit (time, action, principal, entity, resource, details) VALUES (?, ?, ?, ?, ?, ?)",
			at, string(event.Action), event.Principal, event.Entity, event.Resource, details)
		if err != nil {
			return err
		}
		_, err = t.exec("DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE time < ? ORDER BY time LIMIT ?)",
			timeText(event.Time.Add(-t.retention)), int64(rowsForNew))
		return err
	}, nil
}

// An auditRow is an event with its number, which gives the order of events that
// have the same time.
type auditRow struct {
	event zael.AuditEvent
	at    string
	id    int64
}

// Audit implements zael.AuditStore.
func (s *Store) Audit(ctx context.Context, q zael.AuditQuery) iter.Seq2[zael.AuditEvent, error] {
	query, args := "SELECT id, time, action, principal, entity, resource, details FROM audit WHERE true", []any{}
	with := func(condition string, values ...any) {
		query, args = query+" AND "+condition, append(args, values...)
	}
	if q.Entity != "" {
		with("entity = ?", q.Entity)
	}
	if !q.From.IsZero() {
		with("time >= ?", timeText(q.From))
	}
	if !q.To.IsZero() {
		with("time < ?", timeText(q.To))
	}
	return func(yield func(zael.AuditEvent, error) bool) {
		left := cmp.Or(q.Max, 100)
		for r, err := range pages(s, ctx, func(tx *sql.Tx, last *auditRow) (found []auditRow, err error) {
			query, args := query, slices.Clip(args)
			if last != nil {
				query, args = query+" AND (time, id) < (?, ?)", append(args, last.at, last.id)
			}
			err = queryRows(ctx, tx, func(rows *sql.Rows) error {
				r, err := scanAudit(rows)
				found = append(found, r)
				return err
			}, query+" ORDER BY time DESC, id DESC LIMIT ?", append(args, pageRows)...)
			return found, err
		}) {
			if left <= 0 && err == nil || !yield(r.event, err) {
				return
			}
			left--
		}
	}
}

func scanAudit(rows *sql.Rows) (r auditRow, err error) {
	var details sql.NullString
	e := &r.event
	if err := rows.Scan(&r.id, &r.at, &e.Action, &e.Principal, &e.Entity, &e.Resource, &details); err != nil {
		return r, err
	}
	if e.Details, err = parseMap(details); err != nil {
		return r, err
	}
	e.Time, err = parseTime(r.at)
	return r, err
}
