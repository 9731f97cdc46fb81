package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/zeroae/zael"
)

func auditChecks() []check {
	return []check{
		{name: "each change records its event", also: []Role{EntityStore, LimitStore}, run: recordsChanges},
		{name: "what changes nothing records nothing", also: []Role{EntityStore, LimitStore}, run: recordsNoFailures},
		{name: "takes record nothing", run: recordsNoTakes},
		{name: "one of many creators is recorded", also: []Role{EntityStore}, run: recordsOneCreator},
		{name: "events are read newest first", also: []Role{EntityStore, LimitStore}, run: auditNewestFirst},
		{name: "events are selected by time and number", also: []Role{EntityStore}, run: auditSelects},
		{name: "events are selected by entity", also: []Role{EntityStore, LimitStore}, run: auditByEntity},
		{name: "names that differ have events apart", also: []Role{EntityStore}, run: eventsApart},
		{name: "events outlive their entity", also: []Role{EntityStore, LimitStore}, run: auditOutlives},
		{name: "an event is kept as it was", also: []Role{EntityStore}, run: auditKeepsNoReference},
		{name: "a done context: all or nothing", also: []Role{EntityStore}, run: auditDone},
	}
}

// audit reads and wants these events, in order.
func (s *script) audit(q zael.AuditQuery, want ...zael.AuditEvent) {
	s.do(func() error {
		got, err := collect(role[zael.AuditStore](s.e).Audit(s.ctx, q))
		if err != nil {
			return err
		}
		if len(got) != len(want) {
			return fmt.Errorf("Audit of %+v: got %d events, want %d", q, len(got), len(want))
		}
		for i, g := range got {
			if err := sameEvent(g, want[i]); err != nil {
				return fmt.Errorf("Audit of %+v in place %d: %w", q, i, err)
			}
		}
		return nil
	})
}

func sameEvent(got, want zael.AuditEvent) error {
	same := got.Time.Equal(want.Time) && got.Action == want.Action && got.Principal == want.Principal &&
		got.Entity == want.Entity && got.Resource == want.Resource && maps.Equal(got.Details, want.Details)
	if !same {
		return fmt.Errorf("got %+v, want %+v", got, want)
	}
	if got.Time.Location() != time.UTC {
		return fmt.Errorf("got its time in %v, want UTC", got.Time.Location())
	}
	return nil
}

// creates adds an entity with an event of its own.
func (s *script) creates(event zael.AuditEvent) {
	s.do(func() error {
		entity := zael.Entity{ID: event.Entity, Name: event.Entity, CreatedAt: s.e.t0}
		return role[zael.EntityStore](s.e).CreateEntity(s.ctx, entity, event)
	})
}

// changes makes one change of each kind and returns their events, oldest first.
func (s *script) changes() []zael.AuditEvent {
	e := s.e
	events := []zael.AuditEvent{
		e.event(0, zael.EntityCreated, "alice", ""),
		e.event(time.Second, zael.LimitsSet, "alice", "gpt-4"),
		e.event(2*time.Second, zael.LimitsSet, "", "gpt-4"),
		e.event(3*time.Second, zael.LimitsSet, "", ""),
		e.event(4*time.Second, zael.LimitsDeleted, "alice", "gpt-4"),
		e.event(5*time.Second, zael.EntityDeleted, "alice", ""),
	}
	s.creates(events[0])
	for _, event := range events[1:4] {
		scope := zael.Scope{Entity: event.Entity, Resource: event.Resource}
		s.set(event.Time.Sub(e.t0), scope, event.Time.UnixMicro(), zael.PerMinute("rpm", 1))
	}
	s.unset(4*time.Second, zael.Scope{Entity: "alice", Resource: "gpt-4"}, e.micros(4*time.Second))
	s.do(func() error { return role[zael.EntityStore](e).DeleteEntity(s.ctx, "alice", events[5]) })
	return events
}

func recordsChanges(ctx context.Context, e *env) error {
	s := e.script(ctx)
	s.audit(zael.AuditQuery{})
	events := s.changes()
	slices.Reverse(events)
	s.audit(zael.AuditQuery{}, events...)
	return s.err
}

func recordsNoFailures(ctx context.Context, e *env) error {
	s := e.script(ctx)
	created := e.event(0, zael.EntityCreated, "alice", "")
	set := e.event(time.Second, zael.LimitsSet, "alice", "gpt-4")
	scope := zael.Scope{Entity: "alice", Resource: "gpt-4"}
	deleted := e.event(time.Minute, zael.LimitsDeleted, "alice", "gpt-4")

	s.creates(created)
	s.set(time.Second, scope, e.micros(time.Second), zael.PerMinute("rpm", 1))
	s.do(func() error {
		again := e.event(2*time.Second, zael.EntityCreated, "alice", "")
		if err := role[zael.EntityStore](e).CreateEntity(ctx, zael.Entity{ID: "alice", CreatedAt: e.t0}, again); !errors.Is(err, zael.ErrEntityExists) {
			return fmt.Errorf("CreateEntity of one that exists: got %w, want ErrEntityExists", orNil(err))
		}
		return nil
	})
	s.remove("nobody", zael.ErrEntityNotFound)
	s.unset(time.Second, zael.Scope{Entity: "alice"}, 0)
	s.unset(time.Second, zael.Scope{Resource: "gpt-4"}, 0)
	s.audit(zael.AuditQuery{}, set, created)
	s.unset(time.Minute, scope, e.micros(time.Minute))
	s.unset(time.Hour, scope, e.micros(time.Minute))
	s.audit(zael.AuditQuery{}, deleted, set, created)
	return s.err
}

func recordsNoTakes(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := never(10)
	s.admit(0, debit(key("alice"), ask("rpm", d, 8)))
	s.refuse(0, debit(key("alice"), ask("rpm", d, 8)))
	s.adjust(0, debit(key("alice"), ask("rpm", d, 8)))
	s.audit(zael.AuditQuery{})
	return s.err
}

func recordsOneCreator(ctx context.Context, e *env) error {
	event := e.event(0, zael.EntityCreated, "alice", "")
	err := together(16, func(int) error {
		err := role[zael.EntityStore](e).CreateEntity(ctx, zael.Entity{ID: "alice", Name: "alice", CreatedAt: e.t0}, event)
		if err != nil && !errors.Is(err, zael.ErrEntityExists) {
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	s := e.script(ctx)
	s.audit(zael.AuditQuery{}, event)
	return s.err
}

// auditNewestFirst records by a clock that goes back.
func auditNewestFirst(ctx context.Context, e *env) error {
	s := e.script(ctx)
	var events []zael.AuditEvent
	for i, after := range []time.Duration{0, time.Hour, time.Minute, 2 * time.Hour, -time.Hour, time.Second, time.Millisecond} {
		event := e.event(after, zael.EntityCreated, fmt.Sprintf("key-%d", i), "")
		s.creates(event)
		events = append(events, event)
	}
	s.set(time.Second+time.Millisecond, zael.Scope{}, e.micros(time.Second+time.Millisecond), zael.PerMinute("rpm", 1))
	events = append(events, e.event(time.Second+time.Millisecond, zael.LimitsSet, "", ""))
	slices.SortFunc(events, func(a, b zael.AuditEvent) int { return b.Time.Compare(a.Time) })
	s.audit(zael.AuditQuery{}, events...)
	s.audit(zael.AuditQuery{Max: 3}, events[:3]...)
	return s.err
}

func auditSelects(ctx context.Context, e *env) error {
	s := e.script(ctx)
	var events []zael.AuditEvent // newest first
	for i := range 120 {
		event := e.event(time.Duration(i)*time.Second, zael.EntityCreated, fmt.Sprintf("key-%d", i), "")
		s.creates(event)
		events = append(events, event)
	}
	slices.Reverse(events) // events[i] is of second 119 − i
	at := func(second int) time.Time { return e.t0.Add(time.Duration(second) * time.Second) }
	s.audit(zael.AuditQuery{}, events[:100]...)
	s.audit(zael.AuditQuery{Max: 120}, events...)
	s.audit(zael.AuditQuery{Max: 1000}, events...)
	s.audit(zael.AuditQuery{Max: 7}, events[:7]...)
	s.audit(zael.AuditQuery{From: at(110)}, events[:10]...)
	s.audit(zael.AuditQuery{From: at(110).Add(1)}, events[:9]...)
	s.audit(zael.AuditQuery{To: at(10), Max: 200}, events[110:]...)
	s.audit(zael.AuditQuery{To: at(10).Add(1)}, events[109:]...)
	s.audit(zael.AuditQuery{To: at(110), Max: 5}, events[10:15]...)
	s.audit(zael.AuditQuery{From: at(50).In(time.FixedZone("UTC+9", 9*3600)), To: at(53)}, events[67:70]...)
	s.audit(zael.AuditQuery{From: at(50), To: at(50)})
	s.audit(zael.AuditQuery{From: at(500)})
	return s.err
}

func auditByEntity(ctx context.Context, e *env) error {
	s := e.script(ctx)
	want := map[string][]zael.AuditEvent{} // newest first
	ids := []string{"alice", "Alice", "alice-2", "al", "al_ice", "alXice", "gpt-4"}
	for i := range 35 {
		id := ids[i%len(ids)]
		after := time.Duration(i) * time.Second
		event := e.event(after, zael.LimitsSet, id, fmt.Sprintf("alice/%d", i))
		s.set(after, zael.Scope{Entity: id, Resource: event.Resource}, e.micros(after), zael.PerMinute("rpm", 1))
		want[id] = append([]zael.AuditEvent{event}, want[id]...)
	}
	s.set(time.Hour, zael.Scope{Resource: "alice"}, e.micros(time.Hour), zael.PerMinute("rpm", 1))
	for _, id := range ids {
		s.audit(zael.AuditQuery{Entity: id}, want[id]...)
		s.audit(zael.AuditQuery{Entity: id, Max: 2}, want[id][:2]...)
		s.audit(zael.AuditQuery{Entity: id, From: want[id][3].Time, To: want[id][1].Time}, want[id][2:4]...)
	}
	s.audit(zael.AuditQuery{Entity: "nobody"})
	return s.err
}

// eventsApart creates an entity for each hostile name and reads the events of each.
func eventsApart(ctx context.Context, e *env) error {
	s := e.script(ctx)
	var events []zael.AuditEvent
	for i, n := range e.hostileEntities() {
		event := e.event(time.Duration(i)*time.Second, zael.EntityCreated, n.text, "")
		err := role[zael.EntityStore](e).CreateEntity(ctx, zael.Entity{ID: n.text, Name: "one", CreatedAt: e.t0}, event)
		refused, err := refuses("CreateEntity "+quote(n.text), n.plain, err)
		if err != nil {
			return err
		}
		if !refused && n.text != "" { // an empty one selects all
			events = append(events, event)
		}
	}
	for _, event := range events {
		s.audit(zael.AuditQuery{Entity: event.Entity}, event)
	}
	return s.err
}

func auditOutlives(ctx context.Context, e *env) error {
	s := e.script(ctx)
	events := s.changes()
	slices.Reverse(events)
	ofAlice := slices.DeleteFunc(slices.Clone(events), func(event zael.AuditEvent) bool { return event.Entity == "" })
	s.audit(zael.AuditQuery{Entity: "alice"}, ofAlice...)
	again := e.event(time.Minute, zael.EntityCreated, "alice", "")
	s.creates(again)
	s.audit(zael.AuditQuery{Entity: "alice"}, append([]zael.AuditEvent{again}, ofAlice...)...)
	return s.err
}

func auditKeepsNoReference(ctx context.Context, e *env) error {
	s := e.script(ctx)
	event := e.event(123_456*time.Microsecond, zael.EntityCreated, "alice", "")
	event.Principal = `arn:aws:iam::1:user/"Ünï" <x>`
	event.Details = map[string]string{"name": "Ann's", "empty": "", "日本": "a\nb"}
	given := event
	given.Details = maps.Clone(event.Details)

	s.creates(given)
	given.Details["name"] = "changed afterwards"
	s.audit(zael.AuditQuery{}, event)
	s.do(func() error {
		got, err := collect(role[zael.AuditStore](e).Audit(ctx, zael.AuditQuery{}))
		for _, g := range got {
			g.Details["name"] = "changed by a reader"
		}
		return err
	})
	s.audit(zael.AuditQuery{}, event)
	return s.err
}

func auditDone(ctx context.Context, e *env) error {
	var want []zael.AuditEvent
	after := time.Duration(0)
	for name, gone := range done(ctx) {
		after += time.Second
		event := e.event(after, zael.EntityCreated, name, "")
		err := role[zael.EntityStore](e).CreateEntity(gone, zael.Entity{ID: name, Name: name, CreatedAt: e.t0}, event)
		made, err := heeds(gone, "CreateEntity", err)
		if err != nil {
			return err
		}
		if made {
			want = append([]zael.AuditEvent{event}, want...)
		}
		s := e.script(ctx)
		s.audit(zael.AuditQuery{}, want...)
		if s.err != nil {
			return s.err
		}

		got, err := collect(role[zael.AuditStore](e).Audit(gone, zael.AuditQuery{}))
		if made, err = heeds(gone, "Audit", err); err != nil {
			return err
		}
		if made && len(got) != len(want) {
			return fmt.Errorf("Audit with a done context: got %d events and no error, want %d", len(got), len(want))
		}
	}
	return nil
}
