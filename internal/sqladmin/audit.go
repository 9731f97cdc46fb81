package sqladmin

import (
	"cmp"
	"context"
	"iter"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/pages"
	"github.com/zeroae/zael/internal/stamp"
)

// fewEvents is how many old events are deleted with each new one.
const fewEvents = 4

// record is Record.
func (a *Administration) record(event *zael.AuditEvent) (Change, error) {
	details, err := mapText("AuditEvent.Details", event.Details)
	if err != nil {
		return nil, err
	}
	at, err := stamp.Checked("AuditEvent.Time", event.Time)
	if err != nil {
		return nil, err
	}
	if err := a.names.Text("principal", event.Principal); err != nil {
		return nil, err
	}
	if err := a.names.Key(zael.Key{Entity: event.Entity, Resource: event.Resource}); err != nil {
		return nil, err
	}
	row := []any{at, string(event.Action), event.Principal, event.Entity, event.Resource, details}
	old := stamp.Text(event.Time.Add(-a.tables.AuditKept))
	return func(ctx context.Context, tx Tx) error {
		_, err := tx.Exec(ctx, a.tables.insert("audit", "time, action, principal, entity, resource, details", row...))
		if err != nil || a.tables.AuditKept == 0 {
			return err
		}
		oldest := a.tables.From("id", "audit").Add(" AND time < ? ORDER BY time LIMIT ?", old, fewEvents)
		_, err = tx.Exec(ctx, a.tables.Delete("audit").Add(" AND id IN ("+oldest.String()+")", oldest.Args...))
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
func (a *Administration) Audit(ctx context.Context, asked zael.AuditQuery) iter.Seq2[zael.AuditEvent, error] {
	if err := a.names.Text("entity", asked.Entity); err != nil {
		return pages.Failed[zael.AuditEvent](err)
	}
	all := pages.Of(func(last *auditRow) ([]auditRow, error) {
		q := a.tables.From("id, time, action, principal, entity, resource, details", "audit")
		if asked.Entity != "" {
			q.Add(" AND entity = ?", asked.Entity)
		}
		if !asked.From.IsZero() {
			q.Add(" AND time >= ?", stamp.Text(asked.From))
		}
		if !asked.To.IsZero() {
			q.Add(" AND time < ?", stamp.Text(asked.To))
		}
		if last != nil {
			q.Add(" AND (time, id) < (?, ?)", last.at, last.id)
		}
		return Collect(ctx, a.database, "reading audit events", q.Add(" ORDER BY time DESC, id DESC LIMIT ?", pages.Size), scanAudit)
	})
	return func(yield func(zael.AuditEvent, error) bool) {
		left := cmp.Or(asked.Max, 100)
		for r, err := range all {
			if left <= 0 && err == nil || !yield(r.event, err) {
				return
			}
			left--
		}
	}
}

func scanAudit(row Row) (r auditRow, err error) {
	var action string
	var details *string
	e := &r.event
	if err := row.Scan(&r.id, &r.at, &action, &e.Principal, &e.Entity, &e.Resource, &details); err != nil {
		return r, err
	}
	e.Action = zael.AuditAction(action)
	if e.Details, err = parseMap(details); err != nil {
		return r, err
	}
	e.Time, err = stamp.Parse(r.at)
	return r, err
}
