package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/redis/rueidis"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/edits"
	"github.com/zeroae/zael/internal/stamp"
)

// The registered namespaces are a hash of the default one, of JSON by name. The state of one
// that is not active is in its own administration, too, where each of its changes sees it.

// registry is the hash of the registered namespaces.
func registry() string { return newKeys("").admin + "namespaces" }

func parseNamespace(text string) (n zael.Namespace, err error) {
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		return n, fmt.Errorf("redisstore: %w: a namespace: %w", errDamaged, err)
	}
	n.RegisteredAt, n.ChangedAt = n.RegisteredAt.UTC(), n.ChangedAt.UTC()
	return n, nil
}

// Namespace implements zael.NamespaceStore.
func (s *Store) Namespace(ctx context.Context, name string) (n zael.Namespace, err error) {
	if err := zael.CheckNamespace(name); err != nil {
		return n, err
	}
	found, err := s.readFields(ctx, "reading a namespace", registry(), []string{name})
	if err != nil {
		return n, err
	}
	if found[0] == nil {
		return n, fmt.Errorf("%w: %s", zael.ErrNamespaceNotFound, name)
	}
	return parseNamespace(*found[0])
}

// Namespaces implements zael.NamespaceStore.
func (s *Store) Namespaces(ctx context.Context) iter.Seq2[zael.Namespace, error] {
	return func(yield func(zael.Namespace, error) bool) {
		if err := s.usable(ctx); err != nil {
			yield(zael.Namespace{}, err)
			return
		}
		all, err := ask(s, ctx, "reading namespaces", func(ctx context.Context, c rueidis.Client) (map[string]string, error) {
			return c.Do(ctx, c.B().Hgetall().Key(registry()).Build()).AsStrMap()
		})
		if err != nil {
			yield(zael.Namespace{}, err)
			return
		}
		var names []string
		for name := range all {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			n, err := parseNamespace(all[name])
			if !yield(n, err) || err != nil {
				return
			}
		}
	}
}

// EditNamespace implements zael.NamespaceStore.
func (s *Store) EditNamespace(ctx context.Context, name string, event zael.AuditEvent) error {
	move, err := edits.MoveOf(&event)
	if err != nil {
		return err
	}
	return s.moveNamespace(ctx, "changing a namespace", name, move, &event)
}

// moveNamespace makes a move of a namespace with its event, unless it has been made.
func (s *Store) moveNamespace(ctx context.Context, what, name string, move edits.Move, event *zael.AuditEvent) error {
	if err := zael.CheckNamespace(name); err != nil {
		return err
	}
	if _, err := stamp.Checked("AuditEvent.Time", event.Time); err != nil {
		return err
	}
	return s.changeIn(ctx, newKeys(""), what, func(ctx context.Context, t *adminTx) error {
		n, registered, err := t.namespace(ctx, name)
		if err != nil {
			return err
		}
		if made, err := move.Check(name, &n, registered); made || err != nil {
			return err
		}
		if !registered {
			n = zael.Namespace{Name: name, RegisteredAt: event.Time.UTC()}
		}
		return t.moveNamespace(ctx, n, move.To, event)
	})
}

func (t *adminTx) namespace(ctx context.Context, name string) (n zael.Namespace, registered bool, err error) {
	text, registered, err := t.get(ctx, registry(), name)
	if err == nil && registered {
		n, err = parseNamespace(text)
	}
	return n, registered, err
}

// moveNamespace changes the state of a namespace. It counts as a change in that namespace, too, so
// that others that are being made there see it.
func (t *adminTx) moveNamespace(ctx context.Context, n zael.Namespace, to zael.NamespaceState, event *zael.AuditEvent) error {
	n.State, n.ChangedAt = to, event.Time.UTC()
	text, err := json.Marshal(n)
	if err != nil {
		return err
	}
	t.put(registry(), n.Name, string(text))
	own := newKeys(n.Name).meta()
	ids, _, err := t.get(ctx, own, adminIDsField)
	if err != nil {
		return err
	}
	t.call.require(own, adminIDsField, ids[:min(idLength, len(ids))])
	t.put(own, adminIDsField, t.id+ids[:min(3*idLength, len(ids))])
	if to == zael.NamespaceActive {
		t.remove(own, namespaceField)
	} else {
		t.put(own, namespaceField, string(to))
	}
	t.record(*event)
	return nil
}

// PurgeNamespace implements zael.NamespaceStore. It looks at the names of all keys of the server's
// database. Programs that have not learned that it is deleted may write buckets
// meanwhile: these expire by themselves.
func (s *Store) PurgeNamespace(ctx context.Context, name string, event zael.AuditEvent) (records int, err error) {
	const what = "purging a namespace"
	begun := edits.Begun(name, event)
	if err := s.moveNamespace(ctx, what, name, edits.Purge, &begun); err != nil {
		return 0, err
	}
	k := newKeys(name)
	for names, err := range s.scan(ctx, what, glob(k.prefix)+"*") {
		if err != nil {
			return records, err
		}
		names = slices.DeleteFunc(names, func(n string) bool { return n == k.meta() })
		n, err := s.unlink(ctx, what, names)
		if err != nil {
			return records, err
		}
		records += n
	}
	return records, s.changeIn(ctx, newKeys(""), what, func(ctx context.Context, t *adminTx) error {
		n, registered, err := t.namespace(ctx, name)
		switch {
		case err != nil:
			return err
		case !registered || n.State != zael.NamespacePurging:
			return edits.Purged(name)
		}
		t.remove(registry(), name)
		t.call.command("DEL", t.call.key(k.meta()))
		t.record(event)
		return nil
	})
}

// unlink deletes keys, and returns how many there were.
func (s *Store) unlink(ctx context.Context, what string, names []string) (int, error) {
	if len(names) == 0 {
		return 0, nil
	}
	n, err := ask(s, ctx, what, func(ctx context.Context, c rueidis.Client) (n int64, err error) {
		commands := make(rueidis.Commands, len(names))
		for i, name := range names { // each by itself: in a cluster they are in many slots
			commands[i] = c.B().Unlink().Key(name).Build()
		}
		for _, result := range c.DoMulti(ctx, commands...) {
			one, err := result.AsInt64()
			if err != nil {
				return n, err
			}
			n += one
		}
		return n, nil
	})
	return int(n), err
}

// register registers the store's namespace at its first administrative write, once in a
// process. Programs that may not are let be: somebody else can register it.
func (s *Store) register(ctx context.Context) {
	name := s.config.Namespace
	if name == "" || s.registered.Swap(true) {
		return
	}
	event := edits.FirstUse(name, s.clock.Read().Wall)
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := s.Namespace(ctx, name); errors.Is(err, zael.ErrNamespaceNotFound) {
		_ = s.EditNamespace(ctx, name, event)
	}
}
