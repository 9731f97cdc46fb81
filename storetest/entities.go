package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/zeroae/zael"
)

func entityChecks() []check {
	return []check{
		{name: "an entity comes back as it was created", run: entityComesBack},
		{name: "an entity is created once", run: createdOnce},
		{name: "one of many creators wins", run: oneCreatorWins},
		{name: "entities are read in order, missing ones as zero", run: entitiesInOrder},
		{name: "ids that differ are different entities", run: idsApart},
		{name: "children are complete and in order", run: childrenComplete},
		{name: "children are those of the parent alone", run: childrenOfOne},
		{name: "an iteration may stop and may call the store", also: []Role{LimitStore, CapacityReader}, run: iterations},
		{name: "deleting an entity removes all of it", run: deletesAll},
		{name: "deleting an entity leaves the others", run: deletesOne},
		{name: "deleting finds what there is", run: deleteFinds},
		{name: "a done context: all or nothing", run: entitiesDone},
	}
}

// create adds a plain entity.
func (s *script) create(id, parent string) {
	s.do(func() error {
		entity := zael.Entity{ID: id, Name: id, ParentID: parent, CreatedAt: s.e.t0}
		return role[zael.EntityStore](s.e).CreateEntity(s.ctx, entity, s.e.event(0, zael.EntityCreated, id, ""))
	})
}

// remove deletes an entity and wants an error.
func (s *script) remove(id string, want error) {
	s.do(func() error {
		err := role[zael.EntityStore](s.e).DeleteEntity(s.ctx, id, s.e.event(0, zael.EntityDeleted, id, ""))
		if !errors.Is(err, want) {
			return fmt.Errorf("DeleteEntity %s: got %w, want %w", quote(id), orNil(err), orNil(want))
		}
		return nil
	})
}

// has reads entities and wants each of them, or zero for missing ones.
func (s *script) has(want ...zael.Entity) {
	s.do(func() error {
		ids := make([]string, len(want))
		for i, w := range want {
			ids[i] = w.ID
		}
		return s.reads(ids, want)
	})
}

// lacks wants ids to be missing.
func (s *script) lacks(ids ...string) {
	s.do(func() error { return s.reads(ids, make([]zael.Entity, len(ids))) })
}

func (s *script) reads(ids []string, want []zael.Entity) error {
	got, err := role[zael.EntityStore](s.e).Entities(s.ctx, ids)
	if err != nil {
		return err
	}
	if len(got) != len(want) {
		return fmt.Errorf("Entities of %d ids: got %d", len(ids), len(got))
	}
	for i := range got {
		if err := sameEntity(got[i], want[i]); err != nil {
			return fmt.Errorf("Entities, %s in place %d: %w", quote(ids[i]), i, err)
		}
	}
	return nil
}

func sameEntity(got, want zael.Entity) error {
	same := got.ID == want.ID && got.Name == want.Name && got.ParentID == want.ParentID && got.Cascade == want.Cascade &&
		got.CreatedAt.Equal(want.CreatedAt) && maps.Equal(got.Metadata, want.Metadata)
	if !same {
		return fmt.Errorf("got %+v, want %+v", got, want)
	}
	if got.CreatedAt.Location() != time.UTC {
		return fmt.Errorf("got CreatedAt in %v, want UTC", got.CreatedAt.Location())
	}
	return nil
}

func entityComesBack(ctx context.Context, e *env) error {
	s := e.script(ctx)
	full := zael.Entity{
		ID: "key-1", Name: `Ann's key: "Ünïcode" <1>`, ParentID: "project:7", Cascade: true,
		Metadata:  map[string]string{"team": "a", "Team": "A", "empty": "", "with space": "x\ny", "日本": "語", "#": "%"},
		CreatedAt: e.t0.Add(123_456 * time.Microsecond),
	}
	plain := zael.Entity{ID: "key-2", Name: "key-2", CreatedAt: e.t0}
	given := full
	given.Metadata = maps.Clone(full.Metadata)

	s.do(func() error {
		return role[zael.EntityStore](e).CreateEntity(ctx, given, e.event(0, zael.EntityCreated, given.ID, ""))
	})
	s.create(plain.ID, "")
	given.Metadata["team"] = "changed afterwards"
	s.has(full, plain)
	s.do(func() error {
		got, err := role[zael.EntityStore](e).Entities(ctx, []string{"key-1"})
		if err != nil {
			return err
		}
		for _, g := range got {
			g.Metadata["team"] = "changed by a reader"
		}
		return nil
	})
	s.has(full, plain)
	s.do(func() error {
		got, err := collect(role[zael.EntityStore](e).Children(ctx, "project:7"))
		if err != nil || len(got) != 1 {
			return fmt.Errorf("Children: got %d and %w, want 1", len(got), orNil(err))
		}
		return sameEntity(got[0], full)
	})
	s.lacks("project:7") // a parent need not exist
	return s.err
}

func createdOnce(ctx context.Context, e *env) error {
	s := e.script(ctx)
	first := zael.Entity{ID: "alice", Name: "first", Metadata: map[string]string{"n": "1"}, CreatedAt: e.t0}
	for i := range 3 {
		again := zael.Entity{ID: "alice", Name: "again", ParentID: "p", Cascade: true, CreatedAt: e.t0.Add(time.Hour)}
		want := zael.ErrEntityExists
		if i == 0 {
			again, want = first, nil
		}
		s.do(func() error {
			err := role[zael.EntityStore](e).CreateEntity(ctx, again, e.event(0, zael.EntityCreated, "alice", ""))
			if !errors.Is(err, want) {
				return fmt.Errorf("CreateEntity, time %d: got %w, want %w", i+1, orNil(err), orNil(want))
			}
			return nil
		})
		s.has(first)
	}
	s.remove("alice", nil)
	s.lacks("alice")
	s.create("alice", "")
	s.has(zael.Entity{ID: "alice", Name: "alice", CreatedAt: e.t0})
	return s.err
}

func oneCreatorWins(ctx context.Context, e *env) error {
	var winners atomic.Int64
	var winner atomic.Int64
	err := together(24, func(i int) error {
		entity := zael.Entity{ID: "alice", Name: fmt.Sprintf("creator %d", i), CreatedAt: e.t0}
		err := role[zael.EntityStore](e).CreateEntity(ctx, entity, e.event(0, zael.EntityCreated, "alice", ""))
		if err == nil {
			winners.Add(1)
			winner.Store(int64(i))
		} else if !errors.Is(err, zael.ErrEntityExists) {
			return fmt.Errorf("CreateEntity: got %w, want none or ErrEntityExists", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if got := winners.Load(); got != 1 {
		return fmt.Errorf("24 creators of one entity: got %d told that they created it, want 1", got)
	}
	s := e.script(ctx)
	s.has(zael.Entity{ID: "alice", Name: fmt.Sprintf("creator %d", winner.Load()), CreatedAt: e.t0})
	return s.err
}

// entitiesInOrder reads more than engines answer in one batch.
func entitiesInOrder(ctx context.Context, e *env) error {
	s := e.script(ctx)
	var ids []string
	var want []zael.Entity
	for i := range 130 {
		id := fmt.Sprintf("key-%d", (i*37)%130)
		ids = append(ids, id)
		if i%3 == 0 {
			want = append(want, zael.Entity{})
			continue
		}
		s.create(id, "")
		want = append(want, zael.Entity{ID: id, Name: id, CreatedAt: e.t0})
	}
	s.do(func() error { return s.reads(ids, want) })
	s.do(func() error { return s.reads(nil, nil) })
	return s.err
}

// idsApart creates an entity for each hostile id and reads them all.
func idsApart(ctx context.Context, e *env) error {
	var kept []zael.Entity
	for i, n := range names() {
		entity := zael.Entity{ID: n.text, Name: fmt.Sprintf("number %d", i), CreatedAt: e.t0}
		err := role[zael.EntityStore](e).CreateEntity(ctx, entity, e.event(0, zael.EntityCreated, n.text, ""))
		refused, err := refuses("CreateEntity "+quote(n.text), passes(n.text), err)
		if err != nil {
			return err
		}
		if !refused {
			kept = append(kept, entity)
		}
	}
	s := e.script(ctx)
	s.has(kept...)
	return s.err
}

// childrenComplete has more children than engines answer in one page.
func childrenComplete(ctx context.Context, e *env) error {
	s := e.script(ctx)
	var want []string
	for i := range 130 {
		id := fmt.Sprintf("%s%d", []string{"key-", "Key.", "key_", "0", "key:", "K"}[i%6], (i*37)%130)
		want = append(want, id)
		s.create(id, "parent")
	}
	slices.Sort(want)
	s.do(func() error {
		children, err := collect(role[zael.EntityStore](e).Children(ctx, "parent"))
		if err != nil {
			return err
		}
		var got []string
		for _, c := range children {
			got = append(got, c.ID)
			if err := sameEntity(c, zael.Entity{ID: c.ID, Name: c.ID, ParentID: "parent", CreatedAt: e.t0}); err != nil {
				return err
			}
		}
		return sameList("Children", got, want)
	})
	return s.err
}

func sameList(what string, got, want []string) error {
	if slices.Equal(got, want) {
		return nil
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Errorf("%s: got %d and %s in place %d, want %d and %s", what, len(got), quote(got[i]), i, len(want), quote(want[i]))
		}
	}
	return fmt.Errorf("%s: got %d, want %d", what, len(got), len(want))
}

func childrenOfOne(ctx context.Context, e *env) error {
	s := e.script(ctx)
	parents := []string{"p", "P", "p-1", "p.1", "p_1", "pX1", "p:1", "p1", "pp"}
	for i, parent := range parents {
		for j := range 3 {
			s.create(fmt.Sprintf("child-%d-%d", i, j), parent)
		}
	}
	s.create("orphan", "")
	s.create("p", "p-1")         // a parent that is a child
	s.remove("child-3-1", nil)   // of p.1
	s.create("other", "grand-p") // a parent whose name ends alike
	for i, parent := range append(parents, "nobody", "orphan", "") {
		var want []string
		for j := range 3 {
			if i < len(parents) && (i != 3 || j != 1) {
				want = append(want, fmt.Sprintf("child-%d-%d", i, j))
			}
		}
		if parent == "p-1" {
			want = append(want, "p")
		}
		if parent == "" { // nobody's parent; a store may refuse the name, or find none
			continue
		}
		s.do(func() error {
			children, err := collect(role[zael.EntityStore](e).Children(ctx, parent))
			if err != nil {
				return err
			}
			var got []string
			for _, c := range children {
				got = append(got, c.ID)
			}
			return sameList("Children of "+quote(parent), got, want)
		})
	}
	return s.err
}

// iterations stops early, and calls the store from within an iteration, as the
// conversion of an entity's buckets does.
func iterations(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := never(10)
	for i := range 5 {
		s.create(fmt.Sprintf("child-%d", i), "alice")
		s.admit(0, debit(zael.Key{Entity: "alice", Resource: fmt.Sprintf("r%d", i)}, ask("rpm", d, 1)))
	}
	s.do(func() error {
		n := 0
		for _, err := range role[zael.EntityStore](e).Children(ctx, "alice") {
			if err != nil {
				return err
			}
			n++
			break
		}
		for child, err := range role[zael.EntityStore](e).Children(ctx, "alice") {
			if err != nil {
				return err
			}
			n++
			if err := s.reads([]string{child.ID}, []zael.Entity{child}); err != nil {
				return err
			}
			s.create("grand"+child.ID, child.ID)
		}
		for b, err := range role[zael.LimitStore](e).EntityBuckets(ctx, "alice") {
			if err != nil {
				return err
			}
			n++
			s.adjust(0, debit(b.Key, ask("rpm", d, 2)))
		}
		for b, err := range role[zael.CapacityReader](e).ResourceBuckets(ctx, "r3") {
			if err != nil {
				return err
			}
			n++
			s.admit(0, debit(b.Key, ask("rpm", d, 3)))
		}
		if n != 1+5+5+1 {
			return fmt.Errorf("iterations of 1, 5, 5 and 1: got %d steps in all, want 12", n)
		}
		return nil
	})
	s.left(0, zael.Key{Entity: "alice", Resource: "r2"}, "rpm", d, 7)
	s.left(0, zael.Key{Entity: "alice", Resource: "r3"}, "rpm", d, 4)
	return s.err
}

// deletesAll has more buckets than engines delete in one batch.
func deletesAll(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := never(10)
	const resources = 60
	var keys []zael.Key
	s.create("alice", "team")
	for i := range resources {
		keys = append(keys, zael.Key{Entity: "alice", Resource: fmt.Sprintf("resource-%d", i)})
		s.admit(0, debit(keys[i], ask("rpm", d, 10), ask("tpm", d, 4)))
	}
	s.remove("alice", nil)
	s.lacks("alice")
	s.leftOf(keys, "rpm", d, func(int) int64 { return 10 })
	s.leftOf(keys, "tpm", d, func(int) int64 { return 10 })
	s.admit(0, debit(keys[7], ask("rpm", d, 10)))
	s.do(func() error {
		children, err := collect(role[zael.EntityStore](e).Children(ctx, "team"))
		if err != nil || len(children) > 0 {
			return fmt.Errorf("Children of a deleted entity's parent: got %d and %w, want none", len(children), orNil(err))
		}
		return nil
	})
	return s.err
}

// deletesOne deletes entities whose names look like patterns or prefixes of
// others.
func deletesOne(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := never(10)
	gone := []string{"al_ice", "al.ice", "al", "Alice"}
	stay := []string{"alXice", "al-ice", "alice", "al:ice", "ALICE", "alic", "al2", "l"}
	for _, id := range append(gone, stay...) {
		s.create(id, "al")
		s.admit(0, debit(key(id), ask("rpm", d, 3)))
	}
	s.admit(0, debit(zael.Key{Entity: "robin", Resource: "al"}, ask("rpm", d, 3)))
	for _, id := range gone {
		s.remove(id, nil)
	}
	s.lacks(gone...)
	for _, id := range gone {
		s.left(0, key(id), "rpm", d, 10)
	}
	for _, id := range stay {
		s.has(zael.Entity{ID: id, Name: id, ParentID: "al", CreatedAt: e.t0}) // children outlive the parent
		s.left(0, key(id), "rpm", d, 7)
	}
	s.left(0, zael.Key{Entity: "robin", Resource: "al"}, "rpm", d, 7)
	return s.err
}

func deleteFinds(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := never(10)
	s.remove("nobody", zael.ErrEntityNotFound)
	s.create("alice", "")
	s.remove("alice", nil)
	s.remove("alice", zael.ErrEntityNotFound)

	s.admit(0, debit(key("only-bucket"), ask("rpm", d, 3))) // that was never created
	s.remove("only-bucket", nil)
	s.left(0, key("only-bucket"), "rpm", d, 10)
	s.create("child", "only-parent")
	s.remove("only-parent", zael.ErrEntityNotFound)
	s.remove(strings.ToUpper("child"), zael.ErrEntityNotFound)
	s.has(zael.Entity{ID: "child", Name: "child", ParentID: "only-parent", CreatedAt: e.t0})
	return s.err
}

func entitiesDone(ctx context.Context, e *env) error {
	for name, gone := range done(ctx) {
		s := e.script(ctx)
		store := role[zael.EntityStore](e)
		id := "new-" + name
		entity := zael.Entity{ID: id, Name: id, CreatedAt: e.t0}
		made, err := heeds(gone, "CreateEntity", store.CreateEntity(gone, entity, e.event(0, zael.EntityCreated, id, "")))
		if err != nil {
			return err
		}
		if made {
			s.has(entity)
		} else {
			s.lacks(id)
		}

		_, err = store.Entities(gone, []string{id})
		if _, err = heeds(gone, "Entities", err); err != nil {
			return err
		}
		_, err = collect(store.Children(gone, id))
		if _, err = heeds(gone, "Children", err); err != nil {
			return err
		}

		id = "old-" + name
		s.create(id, "")
		made, err = heeds(gone, "DeleteEntity", store.DeleteEntity(gone, id, e.event(0, zael.EntityDeleted, id, "")))
		if err != nil {
			return err
		}
		if made {
			s.lacks(id)
		} else {
			s.has(zael.Entity{ID: id, Name: id, CreatedAt: e.t0})
		}
		if s.err != nil {
			return s.err
		}
	}
	return nil
}
