package redisstore

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/rueidis"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/edits"
	"github.com/zeroae/zael/internal/pause"
)

// Fields of the hash of a namespace's administration.
const (
	adminIDsField  = "v" // the ids of the last four changes: each is made under the condition that the last one still is
	adminSeqField  = "n" // how many there were
	adminRevField  = "r" // the greatest revision of settings
	namespaceField = "s" // the namespace's state, if it is not active
)

// An adminTx is a change of administration: what it reads, and what it writes if nothing of
// that has changed since. It sees what it writes itself.
type adminTx struct {
	store    *Store
	keys     keys // of the namespace that is changed
	id       string
	call     writeScript
	pending  map[[2]string]*string // by key and field; nil: removed
	seq      int64
	settings int64 // the greatest revision of settings
	raised   bool
	events   []zael.AuditEvent
	prior    string // with which id a once-key was last seen
	change   *adminChange
	aside    []func(*writeScript) // what is of entities, in a cluster
}

// An adminChange is what the tries of a change have in common.
type adminChange struct {
	filled bool // in a cluster, a bucket was refilled
	result zael.EditResult
}

// change makes a change of administration in the store's namespace. f may be called more than
// once; if it writes nothing, no change is made.
func (s *Store) change(ctx context.Context, what string, f func(context.Context, *adminTx) error) error {
	s.register(ctx)
	return s.changeIn(ctx, s.keys, what, f)
}

// changeIn is change in a namespace.
func (s *Store) changeIn(ctx context.Context, k keys, what string, f func(context.Context, *adminTx) error) error {
	if !s.inflight.Begin() {
		return errClosed
	}
	defer s.inflight.End()
	id := newID()
	select { // changes of one process do not get in each other's way
	case s.lane <- struct{}{}:
		defer func() { <-s.lane }()
	case <-ctx.Done():
		return s.translate(ctx, what, ctx.Err())
	}
	all := new(adminChange)
	for turn := 0; ; turn++ {
		if ctx.Err() != nil {
			return s.translate(ctx, what, ctx.Err())
		}
		t := &adminTx{store: s, keys: k, id: id, pending: map[[2]string]*string{}, change: all}
		if done, err := t.try(ctx, f); done || err != nil {
			return s.translateOwn(ctx, what, err)
		}
		if turn >= maxTurns {
			return fmt.Errorf("redisstore: %s: %w", what, zael.ErrContention)
		}
		if err := pause.Backoff(ctx, turn, raceBase, raceMost); err != nil {
			return s.translate(ctx, what, err)
		}
	}
}

// try makes the change, unless another one comes first.
func (t *adminTx) try(ctx context.Context, f func(context.Context, *adminTx) error) (done bool, err error) {
	s := t.store
	meta, err := t.readMeta(ctx)
	if err != nil {
		return false, err
	}
	ids := meta[adminIDsField]
	if (&record{ids: ids}).follows(t.id) {
		return true, t.finishAside(ctx, func() error { return f(ctx, t) }) // by an earlier try whose answer was lost
	}
	t.call.require(t.keys.meta(), adminIDsField, ids[:min(idLength, len(ids))])
	if err := f(ctx, t); err != nil {
		return false, err
	}
	if len(t.call.commands) == 0 && len(t.events) == 0 {
		return true, nil
	}
	for _, event := range t.events {
		if err := t.writeEvent(event); err != nil {
			return false, err
		}
	}
	words := []string{adminIDsField, t.id + ids[:min(3*idLength, len(ids))], adminSeqField, strconv.FormatInt(t.seq, 10)}
	if t.raised {
		words = append(words, adminRevField, strconv.FormatInt(t.settings, 10))
	}
	t.call.command("HSET", t.call.key(t.keys.meta()), words...)
	a, _, err := s.run(ctx, editScript, t.call.keys, t.call.args(t.id), func() {})
	if err != nil || a.verdict == notApplied {
		return false, err
	}
	return true, t.finishAside(ctx, nil)
}

// entity adds commands on the buckets of an entity. In a cluster, where they are in another slot, they
// are made after the change, before its caller hears of it.
func (t *adminTx) ofEntity(commands func(*writeScript)) {
	if t.store.cluster {
		t.aside = append(t.aside, commands)
		return
	}
	commands(&t.call)
}

// finishAside makes what ofEntity has put aside. again, if it is not nil, finds it first.
func (t *adminTx) finishAside(ctx context.Context, again func() error) error {
	if !t.store.cluster {
		return nil
	}
	if again != nil && len(t.aside) == 0 {
		if err := again(); err != nil && !edits.IsAnswer(err) {
			return err
		}
	}
	for _, commands := range t.aside {
		var call writeScript
		commands(&call)
		if _, _, err := t.store.run(ctx, editScript, call.keys, call.args(newID()), func() {}); err != nil {
			return err
		}
	}
	return nil
}

// readMeta reads the hash of the namespace's administration. Names and numbers follow it.
func (t *adminTx) readMeta(ctx context.Context) (map[string]string, error) {
	meta, err := t.store.readMeta(ctx, t.keys)
	if err != nil {
		return nil, err
	}
	for _, field := range []struct {
		name string
		to   *int64
	}{{adminSeqField, &t.seq}, {adminRevField, &t.settings}} {
		if text, ok := meta[field.name]; ok {
			if *field.to, err = strconv.ParseInt(text, 10, 64); err != nil {
				return nil, fmt.Errorf("%w: %s of %s: %w", errDamaged, field.name, t.keys.meta(), err)
			}
		}
	}
	if state := meta[namespaceField]; state != "" && t.keys == t.store.keys {
		return nil, fmt.Errorf("%w: %s", zael.ErrNamespaceDeleted, t.store.config.Namespace)
	}
	return meta, nil
}

func (s *Store) readMeta(ctx context.Context, k keys) (map[string]string, error) {
	return ask(s, ctx, "reading", func(ctx context.Context, c rueidis.Client) (map[string]string, error) {
		return c.Do(ctx, c.B().Hgetall().Key(k.meta()).Build()).AsStrMap()
	})
}

// get reads a field of a hash.
func (t *adminTx) get(ctx context.Context, key, field string) (value string, ok bool, err error) {
	if v, known := t.pending[[2]string{key, field}]; known {
		if v == nil {
			return "", false, nil
		}
		return *v, true, nil
	}
	v, err := ask(t.store, ctx, "reading", func(ctx context.Context, c rueidis.Client) (*string, error) {
		text, err := c.Do(ctx, c.B().Hget().Key(key).Field(field).Build()).ToString()
		if rueidis.IsRedisNil(err) {
			return nil, nil //nolint:nilnil // it is missing
		}
		return &text, err
	})
	if err != nil || v == nil {
		return "", false, err
	}
	return *v, true, nil
}

// put sets a field of a hash.
func (t *adminTx) put(key, field, value string) {
	t.pending[[2]string{key, field}] = &value
	t.call.command("HSET", t.call.key(key), field, value)
}

// remove removes a field of a hash.
func (t *adminTx) remove(key, field string) {
	t.pending[[2]string{key, field}] = nil
	t.call.command("HDEL", t.call.key(key), field)
}

// rank adds a member to a set that is sorted by bytes.
func (t *adminTx) rank(key, member string) { t.call.command("ZADD", t.call.key(key), "0", member) }

// record adds an event to the change.
func (t *adminTx) record(event zael.AuditEvent) { t.events = append(t.events, event) }
