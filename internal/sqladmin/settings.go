package sqladmin

import (
	"context"
	"encoding/json"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/edits"
	"github.com/zeroae/zael/internal/oncekey"
	"github.com/zeroae/zael/internal/stamp"
)

// Administer implements zael.AdminStore.
func (a *Administration) Administer(ctx context.Context, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
	if err := a.names.Name("idempotency key", once.Key); err != nil {
		return zael.EditResult{}, err
	}
	text, err := stamp.Checked("now", now)
	if err != nil {
		return zael.EditResult{}, err
	}
	at := bucket.Instant(0)
	if edits.KindOf(&edit) == edits.Bucket {
		if at, err = a.database.Instant(ctx, now); err != nil {
			return zael.EditResult{}, err
		}
	}
	result := new(zael.EditResult) // the change may set it after this call has ended
	change, err := a.edit(&edit, at, result)
	if err == nil && once.Key != "" {
		change, err = madeOnce(change, once, text, result)
	}
	if err == nil {
		err = a.database.Change(ctx, "administration", change)
	}
	if err != nil {
		return zael.EditResult{}, err
	}
	return *result, nil
}

// madeOnce returns a change that is made once by its key.
func madeOnce(change Change, once zael.Once, now string, result *zael.EditResult) (Change, error) {
	until, err := stamp.Checked("Once.Until", once.Until)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, tx Tx) error {
		*result = zael.EditResult{}
		switch kept, err := tx.Kept(ctx, once.Key, now); {
		case err != nil:
			return err
		case kept != nil && kept.Hash != once.Hash:
			return zael.ErrKeyUsed
		case kept != nil:
			err := json.Unmarshal(kept.Answer, result)
			result.Repeated = true
			return err
		}
		if err := change(ctx, tx); err != nil {
			return err
		}
		answer, err := json.Marshal(result)
		if err != nil {
			return err
		}
		return tx.Keep(ctx, once.Key, now, oncekey.Kept{Hash: once.Hash, Until: until, Answer: answer})
	}, nil
}

// edit returns the change that makes an edit of administration, at an instant if it is about a
// bucket.
func (a *Administration) edit(edit *zael.Edit, at bucket.Instant, result *zael.EditResult) (Change, error) {
	if err := a.names.Key(zael.Key(edit.Scope())); err != nil {
		return nil, err
	}
	audit, err := a.record(&edit.Event)
	if err != nil {
		return nil, err
	}
	switch edits.KindOf(edit) {
	case edits.Settings:
		return a.settingsChange(edit, audit), nil
	case edits.Parent:
		if err := a.names.Name("parent", edit.Entity.ParentID); err != nil {
			return nil, err
		}
		return func(ctx context.Context, tx Tx) error {
			if err := a.setParent(ctx, tx, edit.Entity.ID, edit.Entity.ParentID); err != nil {
				return err
			}
			return audit(ctx, tx)
		}, nil
	case edits.Bucket:
		return func(ctx context.Context, tx Tx) (err error) {
			if result.Available, err = tx.Fill(ctx, edit, at); err != nil {
				return err
			}
			return audit(ctx, tx)
		}, nil
	}
	return nil, edits.Refused(edit)
}

// settingsChange returns the change of a scope's settings.
func (a *Administration) settingsChange(edit *zael.Edit, audit Change) Change {
	scope := edit.Scope()
	return func(ctx context.Context, tx Tx) error {
		var s zael.Settings
		var sw, mode, latest int64
		found := false
		if err := tx.Query(ctx, a.of(scope, "switch, failure_mode, rev", "settings"), One(&found, &sw, &mode, &s.Rev)); err != nil {
			return err
		}
		s.Switch, s.FailureMode = zael.Switch(sw), zael.FailureMode(mode)
		if err := tx.Query(ctx, a.latestSettings(), One(&found, &latest)); err != nil {
			return err
		}
		if !edits.ChangeSettings(edit, &s, latest) {
			return nil
		}
		if _, err := tx.Exec(ctx, a.tables.put("settings", "rev, switch, failure_mode",
			scope.Entity, scope.Resource, s.Rev, int64(s.Switch), int64(s.FailureMode))); err != nil {
			return err
		}
		if err := tx.TellSettings(ctx, scope, s.Rev); err != nil {
			return err
		}
		return audit(ctx, tx)
	}
}

// latestSettings is the query of the greatest revision of settings.
func (a *Administration) latestSettings() *Query {
	return a.tables.From("coalesce(max(rev), 0)", "settings")
}

// Settings implements zael.AdminStore.
func (a *Administration) Settings(ctx context.Context, scopes []zael.Scope) ([]zael.Settings, error) {
	found := map[zael.Scope]zael.Settings{}
	err := a.readScopes(ctx, "reading settings", scopes, func() *Query { return a.tables.From("entity, resource, switch, failure_mode, rev", "settings") }, func(rows Rows) error {
		for rows.Next() {
			var scope zael.Scope
			var sw, mode, rev int64
			if err := rows.Scan(&scope.Entity, &scope.Resource, &sw, &mode, &rev); err != nil {
				return err
			}
			found[scope] = zael.Settings{Switch: zael.Switch(sw), FailureMode: zael.FailureMode(mode), Rev: rev}
		}
		return rows.Err()
	})
	return inOrder(scopes, found, err)
}

// State implements zael.AdminStore, for a store without namespaces.
func (a *Administration) State(ctx context.Context) (state zael.StoreState, err error) {
	found := false
	err = a.database.Query(ctx, "reading the state", a.latestSettings(), One(&found, &state.SettingsRev))
	return state, err
}
