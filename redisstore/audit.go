package redisstore

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/stamp"
	"github.com/zeroae/zael/internal/storearg"
)

// writeEvent adds an event to the sets of all events and of those of its entity, whose
// members sort by time and then by number: "<time>|<number>|<JSON>". It removes what is older
// than events are kept.
func (t *adminTx) writeEvent(event zael.AuditEvent) error {
	at, err := stamp.Checked("AuditEvent.Time", event.Time)
	if err != nil {
		return err
	}
	event.Time = event.Time.UTC()
	text, err := json.Marshal(event)
	if err != nil {
		return storearg.Invalid("AuditEvent", event.Action, err.Error())
	}
	t.seq++
	member := fmt.Sprintf("%s|%019d|%s", at, t.seq, text)
	old := stamp.Text(event.Time.Add(-t.store.config.Retention))
	names := []string{t.keys.audit()}
	if event.Entity != "" {
		names = append(names, t.keys.auditOf(event.Entity))
	}
	keep := strconv.FormatInt((t.store.config.Retention + 24*time.Hour).Milliseconds(), 10)
	for _, name := range names {
		key := t.call.key(name)
		t.call.command("ZADD", key, "0", member)
		t.call.command("ZREMRANGEBYLEX", key, "-", "("+old)
		t.call.command("PEXPIRE", key, keep)
	}
	return nil
}

// Audit implements zael.AuditStore.
func (s *Store) Audit(ctx context.Context, q zael.AuditQuery) iter.Seq2[zael.AuditEvent, error] {
	const what = "reading audit events"
	return func(yield func(zael.AuditEvent, error) bool) {
		fail := func(err error) { yield(zael.AuditEvent{}, err) }
		key, least, most := s.keys.audit(), "-", "+"
		if q.Entity != "" {
			key = s.keys.auditOf(q.Entity)
		}
		if !q.From.IsZero() {
			least = "[" + stamp.Text(q.From)
		}
		if !q.To.IsZero() {
			most = "(" + stamp.Text(q.To)
		}
		for left := cmp.Or(q.Max, 100); left > 0; {
			if err := s.usable(ctx); err != nil {
				fail(err)
				return
			}
			members, err := ask(s, ctx, what, func(ctx context.Context, c rueidis.Client) ([]string, error) {
				return c.Do(ctx, c.B().Zrevrangebylex().Key(key).Max(most).Min(least).Limit(0, int64(min(left, pageSize))).Build()).AsStrSlice()
			})
			if err != nil {
				fail(err)
				return
			}
			for _, m := range members {
				var event zael.AuditEvent
				if err := json.Unmarshal([]byte(m[min(len(m), len(stamp.Layout)+21):]), &event); err != nil {
					fail(fmt.Errorf("redisstore: %w: an audit event: %w", errDamaged, err))
					return
				}
				event.Time = event.Time.UTC()
				if !yield(event, nil) {
					return
				}
			}
			if left -= len(members); len(members) == 0 {
				return
			}
			most = "(" + members[len(members)-1]
		}
	}
}
