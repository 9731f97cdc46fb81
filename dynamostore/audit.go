package dynamostore

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/pages"
	"github.com/zeroae/zael/internal/schema"
	"github.com/zeroae/zael/internal/stamp"
	"github.com/zeroae/zael/internal/storearg"
)

// auditPut returns the write of an event, which is made together with the write of its
// change. The sort key is the event's time, then the time of the write, which orders changes
// at one time.
func (s *Store) auditPut(event zael.AuditEvent) (types.TransactWriteItem, error) {
	return s.auditPutIn(s.keys, event)
}

// auditPutIn is auditPut in a namespace.
func (s *Store) auditPutIn(keys keys, event zael.AuditEvent) (types.TransactWriteItem, error) {
	none := types.TransactWriteItem{}
	if err := storable.Name("AuditEvent.Entity", event.Entity); err != nil {
		return none, err
	}
	at, err := stamp.Checked("AuditEvent.Time", event.Time)
	if err != nil {
		return none, err
	}
	now := s.clock.Read().Wall
	it := schema.ItemKey(keys.audit(event.Entity), fmt.Sprintf("%s#%016x-%s", at, now.UnixNano(), protocol.IDText(s.random())))
	it["GSI1PK"], it["GSI1SK"] = schema.Text(keys.events()), it["SK"]
	for name, text := range map[string]string{"action": string(event.Action), "principal": event.Principal, "resource": event.Resource} {
		if !utf8.ValidString(text) {
			return none, storearg.Invalid("AuditEvent."+name, text, "is not UTF-8")
		}
		it[name] = schema.Text(text)
	}
	if event.Details != nil {
		if it["details"], err = mapValue("AuditEvent.Details", event.Details); err != nil {
			return none, err
		}
	}
	if !s.trial.VirtualTime {
		it["ttl"] = schema.Number(now.Add(s.config.Retention).Unix())
	}
	return types.TransactWriteItem{Put: &types.Put{TableName: aws.String(s.table), Item: it}}, nil
}

func (s *Store) eventOf(it item) (zael.AuditEvent, error) {
	at, _, _ := strings.Cut(schema.TextIn(it, "SK"), "#")
	t, err := stamp.Parse(at)
	return zael.AuditEvent{
		Time:      t,
		Action:    zael.AuditAction(schema.TextIn(it, "action")),
		Principal: schema.TextIn(it, "principal"),
		Entity:    strings.TrimPrefix(schema.TextIn(it, "PK"), s.keys.audit("")),
		Resource:  schema.TextIn(it, "resource"),
		Details:   mapIn(it, "details"),
	}, err
}

const defaultEvents = 100

// Audit implements zael.AuditStore. Events of all entities are found by the
// index, which may be a moment behind.
func (s *Store) Audit(ctx context.Context, q zael.AuditQuery) iter.Seq2[zael.AuditEvent, error] {
	if err := storable.Name("AuditQuery.Entity", q.Entity); err != nil {
		return pages.Failed[zael.AuditEvent](err)
	}
	most := cmp.Or(q.Max, defaultEvents)
	what := "reading audit events"
	ask := query{pk: s.keys.audit(q.Entity), newest: true, limit: int32(min(most, mostGets))} //nolint:gosec // at most mostGets
	if q.Entity == "" {
		ask.index, ask.pk = true, s.keys.events()
	}
	if !q.From.IsZero() {
		ask.from = stamp.Text(q.From)
	}
	if !q.To.IsZero() {
		ask.to = stamp.Text(q.To) // no event has this key: it ends with more
	}
	return func(yield func(zael.AuditEvent, error) bool) {
		if ask.from != "" && ask.to != "" && !q.From.Before(q.To) {
			return // which the engine would call an error
		}
		left := most
		for page, err := range s.pages(ctx, what, ask) {
			if err == nil && ask.index {
				page, err = s.readByIndex(ctx, what, page)
			}
			if err != nil {
				yield(zael.AuditEvent{}, err)
				return
			}
			for _, it := range page {
				e, err := s.eventOf(it)
				if left--; !yield(e, err) || err != nil || left == 0 {
					return
				}
			}
		}
	}
}
