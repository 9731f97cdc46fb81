package storetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zeroae/zael"
)

func applyChecks() []check {
	also := []Role{EntityStore, LimitStore}
	return []check{
		{name: "edits are made in order", also: also, run: editsInOrder},
		{name: "all edits are made or none", also: also, run: allEditsOrNone},
		{name: "each edit records its event", also: append(also, AuditStore), run: editsRecorded},
		{name: "edits of settings are made with the others", also: append(also, AdminStore), run: settingsApplied},
		{name: "a done context: all or nothing", also: also, run: applyDone},
	}
}

// apply makes edits and wants an error.
func (s *script) apply(want error, edits ...zael.Edit) {
	s.do(func() error {
		err := role[zael.Applier](s.e).Apply(s.ctx, edits)
		if !errors.Is(err, want) {
			return fmt.Errorf("Apply of %d edits: got %w, want %w", len(edits), orNil(err), orNil(want))
		}
		return nil
	})
}

func (e *env) creates(id, parent string) zael.Edit {
	return zael.Edit{
		Event:  e.event(0, zael.EntityCreated, id, ""),
		Entity: zael.Entity{ID: id, Name: id, ParentID: parent, CreatedAt: e.t0},
	}
}

func (e *env) sets(after time.Duration, scope zael.Scope, limits ...zael.Limit) zael.Edit {
	action := zael.LimitsSet
	if len(limits) == 0 {
		action = zael.LimitsDeleted
	}
	return zael.Edit{Event: e.event(after, action, scope.Entity, scope.Resource), Limits: limits}
}

func editsInOrder(ctx context.Context, e *env) error {
	s := e.script(ctx)
	first, second := zael.PerMinute("rpm", 1), zael.PerMinute("tpm", 2)
	a, b, c := zael.Scope{Entity: "alice"}, zael.Scope{Resource: "gpt-4"}, zael.Scope{Entity: "alice", Resource: "gpt-4"}
	rev := e.micros

	s.set(0, c, rev(0), first)
	s.apply(nil,
		e.sets(time.Second, a, first, second),
		e.creates("alice", "team"), e.creates("team", ""),
		e.sets(time.Second, b, first),
		e.sets(time.Second, b, second), // later than the one before, by one
		e.sets(time.Second, c),
		e.sets(time.Second, zael.Scope{}), // which has none: nothing
	)
	s.limits(a, rev(time.Second), first, second)
	s.limits(b, rev(time.Second)+1, second)
	s.limits(c, rev(time.Second))
	s.limits(zael.Scope{}, 0)
	s.has(e.creates("alice", "team").Entity, e.creates("team", "").Entity)
	s.apply(nil)
	return s.err
}

func allEditsOrNone(ctx context.Context, e *env) error {
	s := e.script(ctx)
	limit := zael.PerMinute("rpm", 1)
	a, b := zael.Scope{Entity: "alice"}, zael.Scope{Resource: "gpt-4"}

	s.create("taken", "")
	s.set(0, b, e.t0.UnixMicro(), limit)
	for _, id := range []string{"taken", "twice"} {
		s.apply(zael.ErrEntityExists,
			e.sets(time.Second, a, limit), e.sets(time.Second, b), e.creates("twice", ""), e.creates(id, ""),
		)
		s.limits(a, 0)
		s.limits(b, e.t0.UnixMicro(), limit)
		s.lacks("twice")
	}
	return s.err
}

func editsRecorded(ctx context.Context, e *env) error {
	s := e.script(ctx)
	limit := zael.PerMinute("rpm", 1)
	edits := []zael.Edit{
		e.creates("alice", ""),
		e.sets(time.Second, zael.Scope{Entity: "alice"}, limit),
		e.sets(2*time.Second, zael.Scope{Entity: "alice"}),
	}
	s.apply(nil, edits...)
	s.audit(zael.AuditQuery{Max: 10}, edits[2].Event, edits[1].Event, edits[0].Event)
	s.apply(zael.ErrEntityExists, e.sets(3*time.Second, zael.Scope{}, limit), e.creates("alice", ""))
	s.apply(nil, e.sets(4*time.Second, zael.Scope{Entity: "alice"})) // which has none
	s.audit(zael.AuditQuery{Max: 10}, edits[2].Event, edits[1].Event, edits[0].Event)
	return s.err
}

func applyDone(ctx context.Context, e *env) error {
	limit := zael.PerMinute("rpm", 1)
	for name, gone := range done(ctx) {
		s := e.script(ctx)
		scope, created := zael.Scope{Resource: name}, e.creates(name, "")
		err := role[zael.Applier](e).Apply(gone, []zael.Edit{created, e.sets(time.Second, scope, limit)})
		made, err := heeds(gone, "Apply", err)
		if err != nil {
			return err
		}
		if made {
			s.has(created.Entity)
			s.limits(scope, e.micros(time.Second), limit)
		} else {
			s.lacks(name)
			s.limits(scope, 0)
		}
		if s.err != nil {
			return s.err
		}
	}
	return nil
}

func settingsApplied(ctx context.Context, e *env) error {
	s := e.script(ctx)
	limit, scope := zael.PerMinute("rpm", 1), zael.Scope{Entity: "alice", Resource: "gpt-4"}
	s.create("taken", "")
	s.apply(zael.ErrEntityExists, e.switches(0, scope, zael.Disabled), e.fails(0, zael.Scope{}, zael.FailOpen), e.creates("taken", ""))
	s.settings(scope, zael.Inherit, 0)
	s.settings(zael.Scope{}, zael.Inherit, 0)
	s.apply(nil, e.switches(0, scope, zael.Disabled), e.sets(0, scope, limit), e.fails(0, scope, zael.FailOpen),
		e.creates("alice", ""), e.switches(0, zael.Scope{Resource: "gpt-4"}, zael.Bypass), e.switches(0, zael.Scope{Entity: "bob"}, zael.Inherit))
	s.settings(scope, zael.Disabled, zael.FailOpen)
	s.settings(zael.Scope{Resource: "gpt-4"}, zael.Bypass, 0)
	s.limits(scope, e.micros(0), limit)
	s.has(e.creates("alice", "").Entity)
	s.apply(nil, e.switches(0, scope, zael.Inherit), e.fails(0, scope, 0))
	s.settings(scope, zael.Inherit, 0)
	return s.err
}
