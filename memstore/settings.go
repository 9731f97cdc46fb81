package memstore

import (
	"sync"
	"sync/atomic"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/edits"
)

// A settings has what is stored for scopes besides limits. It is written with the
// registry locked; takes read it without a lock.
type settings struct {
	latest  atomic.Int64 // the greatest revision; 0: nobody has stored any
	byScope sync.Map     // of zael.Settings by zael.Scope
}

func (s *settings) of(scope zael.Scope) (zael.Settings, bool) {
	v, ok := s.byScope.Load(scope)
	if !ok {
		return zael.Settings{}, false
	}
	return v.(zael.Settings), true //nolint:forcetypeassert // nothing else is stored
}

// check returns zael.ErrStaleSettings if newer settings hold for a debit than it knows.
func (s *settings) check(debits []zael.Debit) error {
	latest := s.latest.Load()
	if latest == 0 {
		return nil
	}
	for i := range debits {
		known, key := debits[i].SettingsRev, debits[i].Key
		if known >= latest {
			continue
		}
		for _, scope := range [...]zael.Scope{zael.Scope(key), {Entity: key.Entity}, {Resource: key.Resource}, {}} {
			if have, ok := s.of(scope); ok && have.Rev > known {
				return zael.ErrStaleSettings
			}
		}
	}
	return nil
}

// change makes an edit of a scope's settings, under a revision greater than any, and reports whether
// it changes anything.
func (s *settings) change(edit *zael.Edit) bool {
	have, _ := s.of(edit.Scope())
	if !edits.ChangeSettings(edit, &have, s.latest.Load()) {
		return false
	}
	s.byScope.Store(edit.Scope(), have)
	s.latest.Store(have.Rev) // after the settings, so that a take that sees it finds them
	return true
}

// deleteEntity removes the settings of an entity. Their revisions stay known by latest, so
// that later settings are newer.
func (s *settings) deleteEntity(id string) (found bool) {
	s.byScope.Range(func(scope, _ any) bool {
		if scope.(zael.Scope).Entity == id { //nolint:forcetypeassert // nothing else is stored
			s.byScope.Delete(scope)
			found = true
		}
		return true
	})
	return found
}
