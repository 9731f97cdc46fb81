package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/zeroae/zael"
)

// hasParent reads an entity and wants its parent.
func (s *script) hasParent(id, want string) {
	s.do(func() error {
		got, err := role[zael.EntityStore](s.e).Entities(s.ctx, []string{id})
		if err == nil && got[0].ParentID != want {
			err = fmt.Errorf("Entities: got parent %q of %s, want %q", got[0].ParentID, id, want)
		}
		return err
	})
}

// hasChildren lists the children of an entity, and wants them.
func (s *script) hasChildren(parent string, want ...string) {
	s.do(func() error {
		got, err := collect(role[zael.EntityStore](s.e).Children(s.ctx, parent))
		if err != nil {
			return err
		}
		ids := []string{}
		for _, e := range got {
			ids = append(ids, e.ID)
		}
		if fmt.Sprint(ids) != fmt.Sprint(want) {
			return fmt.Errorf("Children of %s: got %v, want %v", parent, ids, want)
		}
		return nil
	})
}

func parentIsSet(ctx context.Context, e *env) error {
	s := e.script(ctx)
	for _, id := range []string{"key", "red", "blue", "other"} {
		s.create(id, "")
	}
	for _, step := range []struct {
		parent    string
		red, blue []string
	}{{"red", []string{"key"}, nil}, {"blue", nil, []string{"key"}}, {"blue", nil, []string{"key"}}, {"", nil, nil}, {"red", []string{"key"}, nil}} {
		s.administer(e.parent(0, "key", step.parent), nil)
		s.hasParent("key", step.parent)
		s.hasChildren("red", step.red...)
		s.hasChildren("blue", step.blue...)
	}
	s.administer(e.parent(0, "other", "red"), nil)
	s.hasChildren("red", "key", "other")
	s.remove("key", nil)
	s.hasChildren("red", "other")
	return s.err
}

func parentMustExist(ctx context.Context, e *env) error {
	s := e.script(ctx)
	s.create("key", "ghost") // which is allowed there
	s.create("team", "")
	s.administer(e.parent(0, "key", "nobody"), zael.ErrEntityNotFound)
	s.administer(e.parent(0, "nobody", "team"), zael.ErrEntityNotFound)
	s.administer(e.parent(0, "nobody", ""), zael.ErrEntityNotFound)
	s.administer(e.parent(0, "team", "ghost"), zael.ErrEntityNotFound)
	s.hasParent("key", "ghost")
	s.administer(e.switches(0, zael.Scope{Entity: "switched"}, zael.Enabled), nil)
	s.administer(e.parent(0, "key", "switched"), zael.ErrEntityNotFound) // it has settings, and was not created
	s.administer(e.parent(0, "key", "team"), nil)
	s.administer(e.parent(0, "team", ""), nil)
	return s.err
}

func noCycle(ctx context.Context, e *env) error {
	s := e.script(ctx)
	s.create("a", "")
	s.administer(e.parent(0, "a", "a"), zael.ErrParentCycle)
	const deep = 40
	last := "a"
	for i := range deep {
		id := fmt.Sprintf("d%02d", i)
		s.create(id, last)
		last = id
	}
	s.administer(e.parent(0, "a", "d00"), zael.ErrParentCycle)
	s.administer(e.parent(0, "a", last), zael.ErrParentCycle)
	s.hasParent("a", "")
	s.administer(e.parent(0, last, "a"), nil)
	s.administer(e.parent(0, "a", "d38"), zael.ErrParentCycle)
	s.create("b", "")
	s.administer(e.parent(0, "a", "b"), nil)
	s.administer(e.parent(0, "b", "d05"), zael.ErrParentCycle)
	// One that was made before both existed is left alone, and ends the walk.
	s.create("x", "y")
	s.create("y", "x")
	s.administer(e.parent(0, "b", "x"), nil)
	return s.err
}

// noCycleTogether has entities become parents of each other at the same time.
func noCycleTogether(ctx context.Context, e *env) error {
	s := e.script(ctx)
	ids := []string{"a", "b", "c"}
	for _, id := range ids {
		s.create(id, "")
	}
	for range e.times(5) {
		var all sync.WaitGroup
		failed := make([]error, len(ids))
		for i, id := range ids {
			all.Go(func() {
				_, err := role[zael.AdminStore](e).Administer(ctx, e.t0, e.parent(0, id, ids[(i+1)%len(ids)]), zael.Once{})
				if !errors.Is(err, zael.ErrParentCycle) && !errors.Is(err, zael.ErrContention) {
					failed[i] = err
				}
			})
		}
		all.Wait()
		if err := errors.Join(failed...); err != nil {
			return err
		}
		got, err := role[zael.EntityStore](e).Entities(ctx, ids)
		if err != nil {
			return err
		}
		if got[0].ParentID != "" && got[1].ParentID != "" && got[2].ParentID != "" {
			return errors.New("three entities became each other's ancestors")
		}
		for _, id := range ids {
			s.administer(e.parent(0, id, ""), nil)
		}
	}
	return s.err
}

func keyOnce(ctx context.Context, e *env) error {
	s := e.script(ctx)
	scope := zael.Scope{Entity: "alice"}
	once := zael.Once{Key: "a.b_c:d-1", Hash: "h", Until: e.t0.Add(72 * time.Hour)}
	s.once(e.switches(0, scope, zael.Disabled), once, false, nil)
	rev := s.settings(scope, zael.Disabled, 0)
	s.administer(e.switches(time.Second, scope, zael.Enabled), nil)
	s.once(e.switches(2*time.Second, scope, zael.Disabled), once, true, nil)
	s.once(e.switches(71*time.Hour, scope, zael.Disabled), once, true, nil)
	if now := s.settings(scope, zael.Enabled, 0); s.err == nil && now <= rev {
		return fmt.Errorf("got revision %d, want more than %d", now, rev)
	}
	return s.err
}

func keyOfOneChange(ctx context.Context, e *env) error {
	s := e.script(ctx)
	scope := zael.Scope{Entity: "alice"}
	once := zael.Once{Key: "k", Hash: "h", Until: e.t0.Add(72 * time.Hour)}
	s.once(e.switches(0, scope, zael.Disabled), once, false, nil)
	other := once
	other.Hash = "g"
	s.once(e.switches(0, scope, zael.Enabled), other, false, zael.ErrKeyUsed)
	s.once(e.fails(0, zael.Scope{Resource: "gpt-4"}, zael.FailOpen), other, false, zael.ErrKeyUsed)
	s.settings(scope, zael.Disabled, 0)
	s.settings(zael.Scope{Resource: "gpt-4"}, zael.Inherit, 0)
	s.once(e.switches(0, scope, zael.Disabled), once, true, nil)
	return s.err
}

func failedKeyIsFree(ctx context.Context, e *env) error {
	s := e.script(ctx)
	once := zael.Once{Key: "k", Hash: "h", Until: e.t0.Add(72 * time.Hour)}
	s.create("key", "")
	s.once(e.parent(0, "key", "team"), once, false, zael.ErrEntityNotFound)
	s.create("team", "")
	s.once(e.parent(0, "key", "team"), once, false, nil)
	s.hasParent("key", "team")
	s.once(e.parent(0, "key", "team"), once, true, nil)
	return s.err
}

func keyAfterItsTime(ctx context.Context, e *env) error {
	s := e.script(ctx)
	scope := zael.Scope{Entity: "alice"}
	until := func(after time.Duration, hash string) zael.Once {
		return zael.Once{Key: "k", Hash: hash, Until: e.t0.Add(after)}
	}
	s.once(e.switches(0, scope, zael.Disabled), until(time.Hour, "h"), false, nil)
	s.once(e.switches(59*time.Minute, scope, zael.Enabled), until(2*time.Hour, "g"), false, zael.ErrKeyUsed)
	s.once(e.switches(2*time.Hour, scope, zael.Enabled), until(3*time.Hour, "g"), false, nil)
	s.settings(scope, zael.Enabled, 0)
	s.once(e.switches(2*time.Hour, scope, zael.Enabled), until(3*time.Hour, "g"), true, nil)
	return s.err
}

func keysOfChangesApart(ctx context.Context, e *env) error {
	s := e.script(ctx)
	for i, key := range []string{"a", "A", "a.", "a-", "a:b", "a_b", "0", "00"} {
		scope := zael.Scope{Entity: fmt.Sprint(i)}
		s.once(e.switches(0, scope, zael.Disabled), zael.Once{Key: key, Hash: "h", Until: e.t0.Add(time.Hour)}, false, nil)
		s.settings(scope, zael.Disabled, 0)
	}
	return s.err
}

// keyTogether makes one change with one key many times at once.
func keyTogether(ctx context.Context, e *env) error {
	const callers = 8
	edit := e.switches(0, zael.Scope{Entity: "alice"}, zael.Disabled)
	once := zael.Once{Key: "k", Hash: "h", Until: e.t0.Add(time.Hour)}
	var all sync.WaitGroup
	var mu sync.Mutex
	made := 0
	var failed error
	for range callers {
		all.Go(func() {
			result, err := role[zael.AdminStore](e).Administer(ctx, e.t0, edit, once)
			mu.Lock()
			defer mu.Unlock()
			if err != nil && !errors.Is(err, zael.ErrContention) {
				failed = errors.Join(failed, err)
			}
			if err == nil && !result.Repeated {
				made++
			}
		})
	}
	all.Wait()
	if failed != nil {
		return failed
	}
	if made != 1 {
		return fmt.Errorf("%d callers with one key: got the change made %d times, want once", callers, made)
	}
	s := e.script(ctx)
	s.audit(zael.AuditQuery{}, edit.Event)
	return s.err
}

func adminRecorded(ctx context.Context, e *env) error {
	s := e.script(ctx)
	s.create("key", "")
	s.create("team", "")
	scope := zael.Scope{Entity: "key", Resource: "gpt-4"}
	edits := []zael.Edit{
		e.parent(5*time.Second, "key", "team"),
		e.fails(4*time.Second, scope, zael.FailOpen),
		e.switches(3*time.Second, scope, zael.Inherit),
		e.switches(2*time.Second, scope, zael.Disabled),
	}
	for _, edit := range slices.Backward(edits) {
		s.administer(edit, nil)
	}
	once := zael.Once{Key: "k", Hash: "h", Until: e.t0.Add(time.Hour)}
	last := e.switches(6*time.Second, zael.Scope{Entity: "key"}, zael.Bypass)
	s.once(last, once, false, nil)
	s.once(last, once, true, nil)
	s.administer(e.parent(7*time.Second, "key", "nobody"), zael.ErrEntityNotFound)
	s.administer(e.parent(7*time.Second, "key", "key"), zael.ErrParentCycle)
	s.audit(zael.AuditQuery{Entity: "key", From: e.t0.Add(time.Second)}, last.Event, edits[0].Event, edits[1].Event, edits[2].Event, edits[3].Event)
	return s.err
}
