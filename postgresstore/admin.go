package postgresstore

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// Prefixes of keys in the table once, which keep those of administration apart from others.
const (
	adminKeys = "!"
	takeKeys  = "/"
)

// Administer implements zael.AdminStore.
func (s *Store) Administer(ctx context.Context, now time.Time, edit zael.Edit, once zael.Once) (result zael.EditResult, err error) {
	if err := checkIndexed("idempotency key", once.Key); err != nil {
		return zael.EditResult{}, err
	}
	nowText, err := checkedTimeText("now", now)
	if err != nil {
		return zael.EditResult{}, err
	}
	if edit.Event.Action == zael.BucketReset || edit.Event.Action == zael.BucketToppedUp {
		if now, _, err = s.instant(ctx, now); err != nil {
			return zael.EditResult{}, err
		}
	}
	c, err := s.adminChange(now, &edit, &result)
	if err != nil {
		return zael.EditResult{}, err
	}
	err = s.change(ctx, "administration", func(ctx context.Context, tx pgx.Tx) error {
		result = zael.EditResult{}
		known, err := s.editOnce(ctx, tx, once, nowText, &result)
		if err != nil || known {
			return err
		}
		if err := c(ctx, tx); err != nil {
			return err
		}
		return s.keepEdit(ctx, tx, once, &result)
	})
	if err != nil {
		return zael.EditResult{}, err
	}
	s.queue.forget(zael.Key(edit.Scope()))
	if edit.Event.Resource == "" && edit.Event.Entity != "" {
		s.queue.forgetAll()
	}
	return result, nil
}

// editOnce reports whether a key was used for this change, and reads its result.
func (s *Store) editOnce(ctx context.Context, tx pgx.Tx, once zael.Once, now string, result *zael.EditResult) (known bool, err error) {
	if once.Key == "" {
		return false, nil
	}
	var hash string
	var answer []byte
	known, err = s.find(ctx, tx, new(query).add("SELECT hash, answer FROM zael.once WHERE namespace = ? AND key = ? AND until > ?",
		s.config.Namespace, adminKeys+once.Key, now), &hash, &answer)
	switch {
	case err != nil || !known:
		return false, err
	case hash != once.Hash:
		return false, zael.ErrKeyUsed
	}
	if err := json.Unmarshal(answer, result); err != nil {
		return false, err
	}
	result.Repeated = true
	return true, nil
}

// keepEdit stores a key that was used.
func (s *Store) keepEdit(ctx context.Context, tx pgx.Tx, once zael.Once, result *zael.EditResult) error {
	if once.Key == "" {
		return nil
	}
	until, err := checkedTimeText("Once.Until", once.Until)
	if err != nil {
		return err
	}
	answer, err := json.Marshal(result)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, s.sql(keepText), s.config.Namespace, adminKeys+once.Key, once.Hash, until, answer)
	return err
}

// adminChange returns the change that makes an edit of administration.
func (s *Store) adminChange(now time.Time, edit *zael.Edit, result *zael.EditResult) (change, error) {
	scope := edit.Scope()
	if err := checkKey(zael.Key(scope)); err != nil {
		return nil, err
	}
	audit, err := s.auditChange(edit.Event)
	if err != nil {
		return nil, err
	}
	micros := edit.Event.Time.UnixMicro()
	switch action := edit.Event.Action; action {
	case zael.SwitchEnabled, zael.SwitchDisabled, zael.SwitchBypass, zael.SwitchRemoved:
		return s.settingsChange(scope, micros, audit, func(set *zael.Settings) bool {
			old := set.Switch
			set.Switch = action.Switch()
			return old != zael.Inherit || set.Switch != zael.Inherit
		}), nil
	case zael.FailureModeSet, zael.FailureModeRemoved:
		mode := edit.FailureMode
		return s.settingsChange(scope, micros, audit, func(set *zael.Settings) bool {
			old := set.FailureMode
			set.FailureMode = mode
			return old != 0 || mode != 0
		}), nil
	case zael.ParentSet:
		id, parent := edit.Entity.ID, edit.Entity.ParentID
		if err := checkIndexed("parent", parent); err != nil {
			return nil, err
		}
		return func(ctx context.Context, tx pgx.Tx) error {
			if err := s.setParent(ctx, tx, id, parent); err != nil {
				return err
			}
			return audit(ctx, tx)
		}, nil
	case zael.BucketReset, zael.BucketToppedUp:
		at, err := instantOf(now)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, tx pgx.Tx) error {
			if err := s.refill(ctx, tx, edit, at, result); err != nil {
				return err
			}
			return audit(ctx, tx)
		}, nil
	default:
		return nil, notAnEdit(edit)
	}
}

// notAnEdit is the error of an edit that a method does not make.
func notAnEdit(edit *zael.Edit) error {
	return invalid("Edit.Event.Action", string(edit.Event.Action), "is not a change that this method makes")
}

// settingsChange returns the change of a scope's settings. edit reports whether it changes
// anything.
func (s *Store) settingsChange(scope zael.Scope, micros int64, audit change, edit func(*zael.Settings) bool) change {
	return func(ctx context.Context, tx pgx.Tx) error {
		var set zael.Settings
		var latest int64
		if _, err := s.find(ctx, tx, new(query).add("SELECT switch, failure_mode, rev FROM zael.settings WHERE namespace = ? AND entity = ? AND resource = ?",
			s.config.Namespace, scope.Entity, scope.Resource), &set.Switch, &set.FailureMode, &set.Rev); err != nil {
			return err
		}
		if _, err := s.find(ctx, tx, new(query).add("SELECT coalesce(max(rev), 0) FROM zael.settings WHERE namespace = ?", s.config.Namespace), &latest); err != nil {
			return err
		}
		if !edit(&set) {
			return nil
		}
		set.Rev = max(micros, latest+1, set.Rev+1)
		_, err := s.exec(ctx, tx, new(query).add(`INSERT INTO zael.settings (namespace, entity, resource, rev, switch, failure_mode) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (namespace, entity, resource) DO UPDATE SET rev = excluded.rev, switch = excluded.switch, failure_mode = excluded.failure_mode`,
			s.config.Namespace, scope.Entity, scope.Resource, set.Rev, int64(set.Switch), int64(set.FailureMode)))
		if err != nil {
			return err
		}
		if err := s.markBuckets(ctx, tx, scope, set.Rev); err != nil {
			return err
		}
		return audit(ctx, tx)
	}
}

// markBuckets tells the buckets of a scope's entity the revision of its settings, so that no
// write under older ones is made. Those of other scopes are learned within Config.ConfigTTL.
func (s *Store) markBuckets(ctx context.Context, tx pgx.Tx, scope zael.Scope, rev int64) error {
	if scope.Entity == "" {
		return nil
	}
	q := new(query).add(`WITH locked AS MATERIALIZED (SELECT resource FROM zael.buckets WHERE namespace = ? AND entity = ?`, s.config.Namespace, scope.Entity)
	if scope.Resource != "" {
		q.add(" AND resource = ?", scope.Resource)
	}
	q.add(` ORDER BY resource FOR NO KEY UPDATE)
		UPDATE zael.buckets b SET settings = ?, ids = ?::bigint || b.ids[1:3] FROM locked l WHERE b.namespace = ? AND b.entity = ? AND b.resource = l.resource`,
		rev, s.random(), s.config.Namespace, scope.Entity)
	_, err := s.exec(ctx, tx, q)
	return err
}

// setParent changes the parent of an entity.
func (s *Store) setParent(ctx context.Context, tx pgx.Tx, id, parent string) error {
	if parent != "" {
		if err := s.checkAncestors(ctx, tx, id, parent); err != nil {
			return err
		}
	}
	n, err := s.exec(ctx, tx, new(query).add("UPDATE zael.entities SET parent = ? WHERE namespace = ? AND id = ?", parent, s.config.Namespace, id))
	if err == nil && n == 0 {
		err = fmt.Errorf("%w: %s", zael.ErrEntityNotFound, id)
	}
	return err
}

// checkAncestors returns an error if id or parent does not exist, or id is among the ancestors
// of parent.
func (s *Store) checkAncestors(ctx context.Context, tx pgx.Tx, id, parent string) error {
	above := func(id string) (next string, found bool, err error) {
		found, err = s.find(ctx, tx, new(query).add("SELECT parent FROM zael.entities WHERE namespace = ? AND id = ?", s.config.Namespace, id), &next)
		return next, found, err
	}
	if _, found, err := above(id); err != nil || !found {
		if err == nil {
			err = fmt.Errorf("%w: %s", zael.ErrEntityNotFound, id)
		}
		return err
	}
	seen := map[string]bool{}
	for at := parent; at != "" && !seen[at]; {
		if at == id {
			return zael.ErrParentCycle
		}
		seen[at] = true
		next, found, err := above(at)
		if err != nil {
			return err
		}
		if !found && at == parent {
			return fmt.Errorf("%w: %s", zael.ErrEntityNotFound, parent)
		}
		at = next
	}
	return nil
}

// refill makes an edit of a bucket.
func (s *Store) refill(ctx context.Context, tx pgx.Tx, edit *zael.Edit, at bucket.Instant, result *zael.EditResult) error {
	key := zael.Key(edit.Scope())
	rows, err := tx.Query(ctx, s.sql(lockText), s.config.Namespace, []string{key.Entity}, []string{key.Resource})
	if err != nil {
		return err
	}
	found := map[zael.Key]*row{}
	if err := scanRows(rows, found); err != nil {
		return err
	}
	r := found[key]
	if r == nil {
		r = missing(key)
	}
	if result.Available, err = edit.Refill(&r.Record, at, rand.Uint64()); err != nil || len(r.Limits) == 0 {
		return err
	}
	if r.birth == 0 {
		r.birth = r.Limits[0].State.Generation
	}
	r.expire(at)
	var a arrays
	a.add(r, r.version(), math.MaxInt64)
	if rows, err = tx.Query(ctx, s.sql(writeCall), a.values(s, s.random(), untilDone(ctx), true)...); err != nil {
		return err
	}
	rows.Close()
	return rows.Err()
}

// Settings implements zael.AdminStore.
func (s *Store) Settings(ctx context.Context, scopes []zael.Scope) ([]zael.Settings, error) {
	entities, resources, err := scopeArrays(scopes)
	if err != nil {
		return nil, err
	}
	found := map[zael.Scope]zael.Settings{}
	err = s.retryRead(ctx, "reading settings", func(ctx context.Context) error {
		clear(found)
		rows, err := s.pool.Query(ctx, s.sql(`SELECT l.entity, l.resource, l.switch, l.failure_mode, l.rev FROM zael.settings l
			JOIN unnest($2::text[], $3::text[]) AS k (entity, resource) ON l.entity = k.entity COLLATE "C" AND l.resource = k.resource COLLATE "C" WHERE l.namespace = $1`),
			s.config.Namespace, entities, resources)
		if err != nil {
			return err
		}
		var scope zael.Scope
		var set zael.Settings
		_, err = pgx.ForEachRow(rows, []any{&scope.Entity, &scope.Resource, &set.Switch, &set.FailureMode, &set.Rev}, func() error {
			found[scope] = set
			return nil
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	all := make([]zael.Settings, len(scopes))
	for i, scope := range scopes {
		all[i] = found[scope]
	}
	return all, nil
}

// State implements zael.AdminStore.
func (s *Store) State(ctx context.Context) (state zael.StoreState, err error) {
	err = s.retryRead(ctx, "reading the state", func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, s.sql(`SELECT (SELECT coalesce(max(rev), 0) FROM zael.settings WHERE namespace = $1),
			EXISTS (SELECT 1 FROM zael.namespaces WHERE name = $1 AND state <> 'active')`), s.config.Namespace).Scan(&state.SettingsRev, &state.Deleted)
	})
	return state, err
}
