package redisstore

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"

	"github.com/redis/rueidis"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/edits"
	"github.com/zeroae/zael/internal/storearg"
)

// pageSize is how much an iterator reads at a time.
const pageSize = 500

// entityText returns an entity as it is kept.
func entityText(e zael.Entity) (string, error) {
	e.CreatedAt = e.CreatedAt.UTC()
	text, err := json.Marshal(e)
	if err != nil {
		return "", storearg.Invalid("Entity", e.ID, err.Error())
	}
	return string(text), nil
}

func parseEntity(text string) (e zael.Entity, err error) {
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		return e, fmt.Errorf("redisstore: %w: an entity: %w", errDamaged, err)
	}
	e.CreatedAt = e.CreatedAt.UTC()
	return e, nil
}

// CreateEntity implements zael.EntityStore.
func (s *Store) CreateEntity(ctx context.Context, e zael.Entity, event zael.AuditEvent) error {
	if err := checkEntity(e); err != nil {
		return err
	}
	return s.change(ctx, "creating an entity", func(ctx context.Context, t *adminTx) error { return t.createEntity(ctx, e, event) })
}

func checkEntity(e zael.Entity) error {
	if err := storable.Text("entity", e.ID); err != nil {
		return err
	}
	return storable.Text("parent", e.ParentID)
}

func (t *adminTx) createEntity(ctx context.Context, e zael.Entity, event zael.AuditEvent) error {
	switch _, exists, err := t.get(ctx, t.keys.entities(), e.ID); {
	case err != nil:
		return err
	case exists:
		return zael.ErrEntityExists
	}
	text, err := entityText(e)
	if err != nil {
		return err
	}
	t.put(t.keys.entities(), e.ID, text)
	t.rank(t.keys.ids(), e.ID)
	if e.ParentID != "" {
		t.call.command("SADD", t.call.key(t.keys.children(e.ParentID)), e.ID)
	}
	t.record(event)
	return nil
}

// Entities implements zael.EntityStore.
func (s *Store) Entities(ctx context.Context, ids []string) ([]zael.Entity, error) {
	found, err := s.readFields(ctx, "reading entities", s.keys.entities(), ids)
	if err != nil {
		return nil, err
	}
	all := make([]zael.Entity, len(ids))
	for i := range all {
		if found[i] == nil {
			continue
		}
		if all[i], err = parseEntity(*found[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// readFields reads fields of a hash, in one step; nil where one is missing.
func (s *Store) readFields(ctx context.Context, what, key string, fields []string) ([]*string, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	if len(fields) == 0 {
		return nil, nil
	}
	return ask(s, ctx, what, func(ctx context.Context, c rueidis.Client) ([]*string, error) {
		values, err := c.Do(ctx, c.B().Hmget().Key(key).Field(fields...).Build()).ToArray()
		if err != nil {
			return nil, err
		}
		all := make([]*string, len(values))
		for i := range values {
			text, err := values[i].ToString()
			switch {
			case rueidis.IsRedisNil(err):
			case err != nil:
				return nil, err
			default:
				all[i] = &text
			}
		}
		return all, nil
	})
}

// members reads a set, in the order of bytes.
func (s *Store) members(ctx context.Context, what, key string) ([]string, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	all, err := ask(s, ctx, what, func(ctx context.Context, c rueidis.Client) ([]string, error) {
		return c.Do(ctx, c.B().Smembers().Key(key).Build()).AsStrSlice()
	})
	slices.Sort(all)
	return all, err
}

// Children implements zael.EntityStore.
func (s *Store) Children(ctx context.Context, parent string) iter.Seq2[zael.Entity, error] {
	return func(yield func(zael.Entity, error) bool) {
		if parent == "" {
			return
		}
		const what = "reading children"
		ids, err := s.members(ctx, what, s.keys.children(parent))
		if err != nil {
			yield(zael.Entity{}, err)
			return
		}
		for page := range slices.Chunk(ids, pageSize) {
			entities, err := s.Entities(ctx, page)
			if err != nil {
				yield(zael.Entity{}, err)
				return
			}
			for _, e := range entities {
				if e.ParentID == parent && !yield(e, nil) { // another one has got another parent meanwhile
					return
				}
			}
		}
	}
}

// setParent changes the parent of an entity.
func (t *adminTx) setParent(ctx context.Context, id, parent string) error {
	err := edits.CheckParent(id, parent, func(id string) (string, bool, error) {
		e, exists, err := t.entity(ctx, id)
		return e.ParentID, exists, err
	})
	if err != nil {
		return err
	}
	e, _, err := t.entity(ctx, id)
	if err != nil {
		return err
	}
	if e.ParentID != "" {
		t.call.command("SREM", t.call.key(t.keys.children(e.ParentID)), id)
	}
	if parent != "" {
		t.call.command("SADD", t.call.key(t.keys.children(parent)), id)
	}
	e.ParentID = parent
	text, err := entityText(e)
	if err != nil {
		return err
	}
	t.put(t.keys.entities(), id, text)
	return nil
}

func (t *adminTx) entity(ctx context.Context, id string) (e zael.Entity, exists bool, err error) {
	text, exists, err := t.get(ctx, t.keys.entities(), id)
	if err == nil && exists {
		e, err = parseEntity(text)
	}
	return e, exists, err
}

// DeleteEntity implements zael.EntityStore.
func (s *Store) DeleteEntity(ctx context.Context, id string, event zael.AuditEvent) error {
	if err := storable.Text("entity", id); err != nil {
		return err
	}
	const what = "deleting an entity"
	var gone []found
	err := s.change(ctx, what, func(ctx context.Context, t *adminTx) error {
		e, exists, err := t.entity(ctx, id)
		if err != nil {
			return err
		}
		if exists {
			t.remove(t.keys.entities(), id)
			t.call.command("ZREM", t.call.key(t.keys.ids()), id)
			if e.ParentID != "" {
				t.call.command("SREM", t.call.key(t.keys.children(e.ParentID)), id)
			}
		}
		scopes, err := s.ranged(ctx, what, t.keys.order(), "["+scopeField(zael.Scope{Entity: id}), "("+scopeEnd(id), -1)
		if err != nil {
			return err
		}
		for _, field := range scopes {
			t.remove(t.keys.scopes(), field)
			t.call.command("ZREM", t.call.key(t.keys.order()), field)
		}
		live, err := s.entityRecords(ctx, what, id)
		if err != nil {
			return err
		}
		days, err := s.ranged(ctx, what, t.keys.days(id), "-", "+", -1)
		if err != nil {
			return err
		}
		if !exists && len(scopes) == 0 && len(live) == 0 && len(days) == 0 {
			return zael.ErrEntityNotFound
		}
		t.ofEntity(func(call *writeScript) {
			call.command("DROP", call.key(t.keys.index(id)), t.keys.buckets(id))
			call.command("DROP", call.key(t.keys.days(id)), t.keys.usage(id))
		})
		gone = live
		t.record(event)
		return nil
	})
	for _, b := range gone {
		s.forget(b.key)
	}
	return err
}

// forget drops what is remembered of a bucket.
func (s *Store) forget(key zael.Key) {
	s.cache.forget(key)
	s.coalescer.Forget(key)
}

// forgetEntity drops what is remembered of an entity's buckets, after a change of
// administration. If they cannot be read, that is no error of the change, which is made: refusals
// are remembered for a second at most.
func (s *Store) forgetEntity(ctx context.Context, entity string) {
	if entity == "" {
		return
	}
	keys, err := s.entityKeys(ctx, "reading an entity's buckets", entity)
	if err != nil {
		return
	}
	for _, key := range keys {
		s.forget(key)
	}
}
