package redisstore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/edits"
	"github.com/zeroae/zael/internal/pause"
)

// Administer implements zael.AdminStore.
func (s *Store) Administer(ctx context.Context, now time.Time, edit zael.Edit, once zael.Once) (result zael.EditResult, err error) {
	if err := storable.Name("idempotency key", once.Key); err != nil {
		return result, err
	}
	if err := checkEdit(&edit); err != nil {
		return result, err
	}
	if ctx.Err() != nil {
		return result, s.translate(ctx, "not tried", ctx.Err())
	}
	now, at, err := s.clock.Instant(ctx, now)
	if err != nil {
		return result, err
	}
	err = s.change(ctx, "changing administration", func(ctx context.Context, t *adminTx) error {
		result = zael.EditResult{}
		known, err := t.editOnce(ctx, once, now, &result)
		if err != nil || known {
			return err
		}
		if err := t.administer(ctx, at, &edit, &result); err != nil {
			return err
		}
		return t.keepOnce(once, now, result)
	})
	if err != nil {
		return zael.EditResult{}, err
	}
	s.forgetEntity(ctx, edit.Event.Entity)
	return result, nil
}

// checkEdit returns an error for an edit that Administer does not make.
func checkEdit(edit *zael.Edit) error {
	if err := storable.Key(zael.Key(edit.Scope())); err != nil {
		return err
	}
	switch edits.KindOf(edit) {
	case edits.Settings, edits.Bucket:
		return nil
	case edits.Parent:
		return checkEntity(edit.Entity)
	}
	return edits.Refused(edit)
}

// administer makes an edit.
func (t *adminTx) administer(ctx context.Context, at bucket.Instant, edit *zael.Edit, result *zael.EditResult) error {
	switch edits.KindOf(edit) {
	case edits.Settings:
		return t.changeSettings(ctx, edit)
	case edits.Parent:
		t.record(edit.Event)
		return t.setParent(ctx, edit.Entity.ID, edit.Entity.ParentID)
	default:
		t.record(edit.Event)
		return t.fill(ctx, at, edit, result)
	}
}

// changeSettings changes the settings of a scope.
func (t *adminTx) changeSettings(ctx context.Context, edit *zael.Edit) error {
	of := edit.Scope()
	sc, err := t.scope(ctx, of)
	set := sc.settings()
	if err != nil || !edits.ChangeSettings(edit, &set, t.settings) {
		return err
	}
	sc.Switch, sc.FailureMode, sc.SettingsRev = set.Switch, set.FailureMode, set.Rev
	t.settings, t.raised = set.Rev, true
	if of.Entity != "" {
		words := []string{t.keys.buckets(of.Entity), strconv.FormatInt(sc.SettingsRev, 10)}
		if of.Resource != "" {
			words = append(words, escape(of.Resource))
		}
		t.ofEntity(func(call *writeScript) { call.command("MARK", call.key(t.keys.index(of.Entity)), words...) })
	}
	t.record(edit.Event)
	return t.putScope(of, sc)
}

// fill makes an edit of a bucket, under the condition that nobody writes it meanwhile. In a
// cluster, where the bucket is in another slot than the event, it is a step of its own, before
// the event's.
func (t *adminTx) fill(ctx context.Context, at bucket.Instant, edit *zael.Edit, result *zael.EditResult) error {
	call := &t.call
	if t.store.cluster {
		if t.change.filled {
			*result = t.change.result
			return nil
		}
		call = new(writeScript)
	}
	for turn := 0; ; turn++ {
		if err := t.fillBucket(ctx, call, at, edit, result); err != nil || !t.store.cluster {
			return err
		}
		if len(call.commands) == 0 {
			return nil
		}
		a, _, err := t.store.run(ctx, editScript, call.keys, call.args(t.id), func() {})
		switch {
		case err != nil:
			return err
		case a.verdict != notApplied:
			t.change.filled, t.change.result = true, *result
			return nil
		case turn >= maxTurns:
			return zael.ErrContention
		}
		if err := pause.Backoff(ctx, turn, raceBase, raceMost); err != nil {
			return err
		}
		*call = writeScript{}
	}
}

// fillBucket adds the write of a bucket that is filled to a call.
func (t *adminTx) fillBucket(ctx context.Context, call *writeScript, at bucket.Instant, edit *zael.Edit, result *zael.EditResult) error {
	s, key := t.store, zael.Key(edit.Scope())
	hashes, err := s.readHashes(ctx, "reading a bucket", []string{t.keys.bucket(key)})
	if err != nil {
		return err
	}
	r, err := readRecord(hashes[0])
	if err != nil {
		return err
	}
	kept := r.kept("", s.cache.last(key).latest)
	if result.Available, err = edit.Fill(&kept, at, newGeneration()); err != nil {
		return err
	}
	call.require(t.keys.bucket(key), idsField, r.last())
	if len(kept.Limits) > 0 {
		p := part{key: key, known: r, at: at}
		p.changes(call, t.keys, &kept, t.id)
	}
	return nil
}

// editOnce reports whether a key was used for this change, and reads its result.
func (t *adminTx) editOnce(ctx context.Context, once zael.Once, now time.Time, result *zael.EditResult) (known bool, err error) {
	if once.Key == "" {
		return false, nil
	}
	hashes, err := t.store.readHashes(ctx, "reading an idempotency key", []string{t.keys.editOnce(once.Key)})
	if err != nil {
		return false, err
	}
	fields := map[string]string{}
	for i := 0; i+1 < len(hashes[0]); i += 2 {
		fields[hashes[0][i]] = hashes[0][i+1]
	}
	t.prior = fields[onceIDField]
	if t.prior == "" {
		return false, nil
	}
	until, err := strconv.ParseInt(fields[onceUntilField], 10, 64)
	switch {
	case err != nil:
		return false, err
	case until <= now.UnixNano():
		return false, nil
	case fields[onceHashField] != once.Hash:
		return false, zael.ErrKeyUsed
	}
	if err := json.Unmarshal([]byte(fields[onceAnswerField]), result); err != nil {
		return false, fmt.Errorf("redisstore: %w: an idempotency key: %w", errDamaged, err)
	}
	result.Repeated = true
	return true, nil
}

// keepOnce keeps a result with its key.
func (t *adminTx) keepOnce(once zael.Once, now time.Time, result zael.EditResult) error {
	if once.Key == "" {
		return nil
	}
	text, err := json.Marshal(result)
	if err != nil {
		return err
	}
	name := t.keys.editOnce(once.Key)
	t.call.require(name, onceIDField, t.prior)
	key := t.call.key(name)
	t.call.command("HSET", key, onceIDField, t.id, onceHashField, once.Hash, onceUntilField, strconv.FormatInt(once.Until.UnixNano(), 10), onceAnswerField, string(text))
	t.call.command("PEXPIRE", key, strconv.FormatInt(keepUntil(once.Until, now), 10))
	return nil
}

// keepUntil returns for how many ms a key is kept that may be forgotten at a time.
func keepUntil(until, now time.Time) int64 {
	return max(1, until.Sub(now).Milliseconds()+int64(margin)/int64(time.Millisecond))
}

// Settings implements zael.AdminStore.
func (s *Store) Settings(ctx context.Context, scopes []zael.Scope) ([]zael.Settings, error) {
	found, err := s.readScopes(ctx, "reading settings", scopes)
	if err != nil {
		return nil, err
	}
	all := make([]zael.Settings, len(scopes))
	for i := range all {
		all[i] = found[i].settings()
	}
	return all, nil
}

// State implements zael.AdminStore.
func (s *Store) State(ctx context.Context) (state zael.StoreState, err error) {
	if err := s.usable(ctx); err != nil {
		return state, err
	}
	meta, err := s.readMeta(ctx, s.keys)
	if err != nil {
		return state, err
	}
	state.Deleted = meta[namespaceField] != ""
	if text, ok := meta[adminRevField]; ok {
		if state.SettingsRev, err = strconv.ParseInt(text, 10, 64); err != nil {
			return state, fmt.Errorf("redisstore: %w: %w", errDamaged, err)
		}
	}
	return state, nil
}

// Apply implements zael.Applier.
func (s *Store) Apply(ctx context.Context, all []zael.Edit) error {
	texts := make([][]string, len(all))
	for i := range all {
		e := &all[i]
		var err error
		switch kind := edits.KindOf(e); {
		case !e.Applies():
			err = edits.Refused(e)
		case kind == edits.Create:
			err = checkEntity(e.Entity)
		case kind == edits.Limits:
			if err = storable.Key(zael.Key(e.Scope())); err == nil {
				texts[i], err = textsOfLimits(e.Limits)
			}
		default:
			err = checkEdit(e)
		}
		if err != nil {
			return err
		}
	}
	all = slices.Clone(all)
	err := s.change(ctx, "applying changes", func(ctx context.Context, t *adminTx) error {
		for i := range all {
			e := &all[i]
			var err error
			switch edits.KindOf(e) {
			case edits.Create:
				if err = t.createEntity(ctx, e.Entity, e.Event); err != nil && edits.IsAnswer(err) {
					err = fmt.Errorf("%w: %s", err, e.Entity.ID)
				}
			case edits.Limits:
				_, err = t.setLimits(ctx, e.Scope(), texts[i], e.Event)
			default:
				err = t.administer(ctx, 0, e, new(zael.EditResult))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	for i := 0; i < len(all) && err == nil; i++ {
		if e := &all[i]; edits.KindOf(e) == edits.Settings {
			s.forgetEntity(ctx, e.Event.Entity)
		}
	}
	return err
}
