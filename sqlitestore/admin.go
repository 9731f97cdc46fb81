package sqlitestore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// An adminResult is what Administer has answered. The writer may set it after the call has
// ended.
type adminResult struct{ zael.EditResult }

// Administer implements zael.AdminStore.
func (s *Store) Administer(ctx context.Context, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
	if err := checkText("idempotency key", once.Key); err != nil {
		return zael.EditResult{}, err
	}
	at, err := checkedTimeText("now", now)
	if err != nil {
		return zael.EditResult{}, err
	}
	result := new(adminResult)
	change, err := adminChange(now, &edit, result)
	if err != nil {
		return zael.EditResult{}, err
	}
	err = s.change(ctx, func(t *txn) error {
		known, err := t.editOnce(once, at, result)
		if err != nil || known {
			return err
		}
		if err := change(t); err != nil {
			return err
		}
		return t.keepOnce(once, at, result)
	})
	if err != nil {
		return zael.EditResult{}, err
	}
	return result.EditResult, nil
}

// editOnce reports whether a key was used for this change, and reads its result.
func (t *txn) editOnce(once zael.Once, now string, result *adminResult) (known bool, err error) {
	if once.Key == "" {
		return false, nil
	}
	var hash, text string
	err = t.conn.query("SELECT hash, result FROM once WHERE key = ? AND until > ?", func(v []driver.Value) error {
		known = true
		hash, _ = v[0].(string)
		text, _ = v[1].(string)
		return nil
	}, once.Key, now)
	switch {
	case err != nil || !known:
		return false, err
	case hash != once.Hash:
		return false, zael.ErrKeyUsed
	}
	if err := json.Unmarshal([]byte(text), &result.EditResult); err != nil {
		return false, err
	}
	result.Repeated = true
	return true, nil
}

// keepOnce stores a key that was used, and deletes old ones.
func (t *txn) keepOnce(once zael.Once, now string, result *adminResult) error {
	if once.Key == "" {
		return nil
	}
	text, err := json.Marshal(result.EditResult)
	if err != nil {
		return err
	}
	_, err = t.exec("INSERT INTO once (key, hash, until, result) VALUES (?, ?, ?, ?) "+
		"ON CONFLICT (key) DO UPDATE SET hash = excluded.hash, until = excluded.until, result = excluded.result",
		once.Key, once.Hash, timeText(once.Until), string(text))
	if err != nil {
		return err
	}
	_, err = t.exec("DELETE FROM once WHERE key IN (SELECT key FROM once WHERE until <= ? ORDER BY until LIMIT ?)", now, int64(rowsForNew))
	return err
}

// adminChange returns the change that makes an edit of administration.
func adminChange(now time.Time, edit *zael.Edit, result *adminResult) (func(*txn) error, error) {
	scope := edit.Scope()
	if err := checkKey(zael.Key(scope)); err != nil {
		return nil, err
	}
	audit, err := auditChange(edit.Event)
	if err != nil {
		return nil, err
	}
	micros := edit.Event.Time.UnixMicro()
	switch action := edit.Event.Action; action {
	case zael.SwitchEnabled, zael.SwitchDisabled, zael.SwitchBypass, zael.SwitchRemoved:
		return settingsChange(scope, micros, audit, func(s *zael.Settings) bool {
			old := s.Switch
			s.Switch = action.Switch()
			return old != zael.Inherit || s.Switch != zael.Inherit
		}), nil
	case zael.FailureModeSet, zael.FailureModeRemoved:
		mode := edit.FailureMode
		return settingsChange(scope, micros, audit, func(s *zael.Settings) bool {
			old := s.FailureMode
			s.FailureMode = mode
			return old != 0 || mode != 0
		}), nil
	case zael.ParentSet:
		id, parent := edit.Entity.ID, edit.Entity.ParentID
		if err := checkText("parent", parent); err != nil {
			return nil, err
		}
		return func(t *txn) error {
			if err := setParent(t, id, parent); err != nil {
				return err
			}
			return audit(t)
		}, nil
	case zael.BucketReset, zael.BucketToppedUp:
		at, err := instantOf(now)
		if err != nil {
			return nil, err
		}
		return func(t *txn) error {
			if err := t.refill(edit, at, result); err != nil {
				return err
			}
			return audit(t)
		}, nil
	default:
		return nil, notAnEdit(edit)
	}
}

// notAnEdit is the error of an edit that a method does not make.
func notAnEdit(edit *zael.Edit) error {
	return &zael.ValidationError{Field: "Edit.Event.Action", Value: string(edit.Event.Action), Reason: "is not a change that this method makes"}
}

// settingsChange returns the change of a scope's settings. change reports whether it
// changes anything.
func settingsChange(scope zael.Scope, micros int64, audit func(*txn) error, change func(*zael.Settings) bool) func(*txn) error {
	return func(t *txn) error {
		var s zael.Settings
		err := t.conn.query("SELECT switch, failure_mode, rev FROM settings WHERE entity = ? AND resource = ?", func(v []driver.Value) error {
			s = settingsOf(v[0], v[1], v[2])
			return nil
		}, scope.Entity, scope.Resource)
		if err != nil {
			return err
		}
		if !change(&s) {
			return nil
		}
		s.Rev = max(micros, t.latestSettings+1, s.Rev+1)
		_, err = t.exec("INSERT INTO settings (entity, resource, rev, switch, failure_mode) VALUES (?, ?, ?, ?, ?) "+
			"ON CONFLICT (entity, resource) DO UPDATE SET rev = excluded.rev, switch = excluded.switch, failure_mode = excluded.failure_mode",
			scope.Entity, scope.Resource, s.Rev, int64(s.Switch), int64(s.FailureMode))
		if err != nil {
			return err
		}
		t.dropCache() // whose rows have revisions of settings
		t.latestSettings = s.Rev
		return audit(t)
	}
}

func settingsOf(sw, mode, rev driver.Value) zael.Settings {
	s, _ := sw.(int64)
	m, _ := mode.(int64)
	r, _ := rev.(int64)
	return zael.Settings{Switch: zael.Switch(s), FailureMode: zael.FailureMode(m), Rev: r}
}

// readSettings reads the greatest revision of settings.
func (t *txn) readSettings() (err error) {
	t.latestSettings, err = t.conn.queryInt("SELECT max(rev) FROM settings")
	return err
}

// settingsRev returns the greatest revision of the settings that hold for a key.
func (t *txn) settingsRev(key zael.Key) (int64, error) {
	if t.latestSettings == 0 {
		return 0, nil
	}
	return t.conn.queryInt("SELECT max(rev) FROM settings WHERE entity IN (?, '') AND resource IN (?, '')", key.Entity, key.Resource)
}

// setParent changes the parent of an entity.
func setParent(t *txn, id, parent string) error {
	found := false
	err := t.conn.query("SELECT 1 FROM entities WHERE id = ?", func([]driver.Value) error {
		found = true
		return nil
	}, id)
	if err == nil && !found {
		err = fmt.Errorf("%w: %s", zael.ErrEntityNotFound, id)
	}
	if err != nil {
		return err
	}
	if parent != "" {
		if err := checkAncestors(t, id, parent); err != nil {
			return err
		}
	}
	_, err = t.exec("UPDATE entities SET parent = ? WHERE id = ?", parent, id)
	return err
}

// checkAncestors returns an error if parent does not exist, or id is among its
// ancestors.
func checkAncestors(t *txn, id, parent string) error {
	seen := map[string]bool{}
	for above := parent; above != "" && !seen[above]; {
		if above == id {
			return zael.ErrParentCycle
		}
		seen[above] = true
		next, found := "", false
		err := t.conn.query("SELECT parent FROM entities WHERE id = ?", func(v []driver.Value) error {
			found = true
			next, _ = v[0].(string)
			return nil
		}, above)
		if err != nil {
			return err
		}
		if !found && above == parent {
			return fmt.Errorf("%w: %s", zael.ErrEntityNotFound, parent)
		}
		above = next
	}
	return nil
}

// refill makes an edit of a bucket.
func (t *txn) refill(edit *zael.Edit, at bucket.Instant, result *adminResult) error {
	r, err := t.row(zael.Key(edit.Scope()))
	if err != nil {
		return err
	}
	r.Forgotten = t.file.forgotten
	if result.Available, err = edit.Refill(&r.Record, at, rand.Uint64()); err == nil && len(r.Limits) > 0 {
		t.touch(r)
	}
	return err
}

// isAnswer reports whether err is what a change answers, having changed nothing.
func isAnswer(err error) bool {
	for _, answer := range []error{zael.ErrEntityExists, zael.ErrEntityNotFound, zael.ErrKeyUsed, zael.ErrParentCycle, zael.ErrNoLimits} {
		if errors.Is(err, answer) {
			return true
		}
	}
	_, invalid := errors.AsType[*zael.ValidationError](err) // of an amount
	return invalid
}

// Settings implements zael.AdminStore.
func (s *Store) Settings(ctx context.Context, scopes []zael.Scope) ([]zael.Settings, error) {
	all := make([]zael.Settings, len(scopes))
	err := s.readTx(ctx, func(tx *sql.Tx) error {
		for i, scope := range scopes {
			err := queryRows(ctx, tx, func(rows *sql.Rows) error {
				var sw, mode, rev int64
				err := rows.Scan(&sw, &mode, &rev)
				all[i] = settingsOf(sw, mode, rev)
				return err
			}, "SELECT switch, failure_mode, rev FROM settings WHERE entity = ? AND resource = ?", scope.Entity, scope.Resource)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// State implements zael.AdminStore.
func (s *Store) State(ctx context.Context) (state zael.StoreState, err error) {
	err = s.readTx(ctx, func(tx *sql.Tx) error {
		return queryRows(ctx, tx, func(rows *sql.Rows) error { return rows.Scan(&state.SettingsRev) },
			"SELECT coalesce(max(rev), 0) FROM settings")
	})
	return state, err
}
