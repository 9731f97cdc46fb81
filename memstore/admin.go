package memstore

import (
	"context"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/edits"
)

// onceKept is how many once-keys are kept beyond their time, until some are dropped.
const onceKept = 1024

// A onceRecord is a once-key that was used.
type onceRecord struct {
	zael.Once
	result zael.EditResult
}

// Administer implements zael.AdminStore.
func (s *Store) Administer(_ context.Context, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
	r := &s.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if once.Key != "" {
		if known, ok := r.once[once.Key]; ok && known.Until.After(now) {
			if known.Hash != once.Hash {
				return zael.EditResult{}, zael.ErrKeyUsed
			}
			known.result.Repeated = true
			known.result.Available = maps.Clone(known.result.Available) // the caller's to change
			return known.result, nil
		}
	}
	result, err := s.administer(now, &edit)
	if err != nil || once.Key == "" {
		return result, err
	}
	if len(r.once) >= r.purgeOnce {
		for key, known := range r.once {
			if !known.Until.After(now) {
				delete(r.once, key)
			}
		}
		r.purgeOnce = max(onceKept, 2*len(r.once))
	}
	kept := result
	kept.Available = maps.Clone(result.Available)
	r.once[once.Key] = onceRecord{once, kept}
	return result, nil
}

// administer makes an edit, with the registry locked.
func (s *Store) administer(now time.Time, edit *zael.Edit) (result zael.EditResult, err error) {
	r := &s.registry
	switch edits.KindOf(edit) {
	case edits.Settings:
		if !s.settings.change(edit) {
			return result, nil
		}
	case edits.Bucket:
		if result.Available, err = s.fill(now, edit); err != nil {
			return result, err
		}
	case edits.Parent:
		if err := r.setParent(edit.Entity.ID, edit.Entity.ParentID); err != nil {
			return result, err
		}
	default:
		return result, edits.Refused(edit)
	}
	r.record(edit.Event)
	return result, nil
}

// setParent changes the parent of an entity.
func (r *registry) setParent(id, parent string) error {
	err := edits.CheckParent(id, parent, func(id string) (string, bool, error) {
		e, created := r.entities[id]
		return e.ParentID, created, nil
	})
	if err != nil {
		return err
	}
	e := r.entities[id]
	r.unlink(&e)
	e.ParentID = parent
	r.link(&e)
	return nil
}

// Settings implements zael.AdminStore.
func (s *Store) Settings(_ context.Context, scopes []zael.Scope) ([]zael.Settings, error) {
	s.registry.mu.RLock()
	defer s.registry.mu.RUnlock()
	all := make([]zael.Settings, len(scopes))
	for i, scope := range scopes {
		all[i], _ = s.settings.of(scope)
	}
	return all, nil
}

// State implements zael.AdminStore.
func (s *Store) State(context.Context) (zael.StoreState, error) {
	return zael.StoreState{SettingsRev: s.settings.latest.Load()}, nil
}

// fill makes an edit of a bucket.
func (s *Store) fill(now time.Time, edit *zael.Edit) (zael.Amounts, error) {
	at, err := instantOf(now)
	if err != nil {
		return nil, err
	}
	s.noteCall(at)
	debits := []zael.Debit{{Key: zael.Key(edit.Scope())}}
	targets := s.lock(nil, debits)
	defer s.unlock(targets)
	p := &targets[0]
	p.read.Forgotten = p.shard.swept
	if p.record != nil {
		p.read.Latest = p.record.latest
		p.read.Limits, p.read.Holders = p.record.kept(), p.record.holders()
		for i := range p.read.Limits {
			l := &p.read.Limits[i]
			p.entries = append(p.entries, p.record.find(l.Name, l.State.Definition.Kind == bucket.Slots))
		}
	}
	available, err := edit.Fill(&p.read, at, rand.Uint64())
	if err != nil || len(p.read.Limits) == 0 {
		return available, err
	}
	debits[0].Charges = []zael.Charge{{Amount: 1}} // it makes the bucket if that is missing
	if _, err := s.admit(targets, debits); err != nil {
		return nil, err
	}
	p.write(debits[0].Key, at)
	return available, nil
}
