package redisstore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/rueidis"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/prefix"
	"github.com/zeroae/zael/internal/storearg"
)

// A scope is what is kept for a zael.Scope.
type scope struct {
	Limits      []string         `json:"limits,omitempty"` // as zael.ParseLimit reads them
	Rev         int64            `json:"rev,omitempty"`    // of the limits; of none, if they were deleted
	Switch      zael.Switch      `json:"switch,omitempty"`
	FailureMode zael.FailureMode `json:"failure_mode,omitempty"`
	SettingsRev int64            `json:"settings_rev,omitempty"`
}

// scopeField returns the name of a scope in a hash: entity and resource. Fields have the order
// of the scopes, by entity and then by resource.
func scopeField(s zael.Scope) string {
	return ordered(s.Entity) + "\x00\x01" + s.Resource
}

// ordered returns an entity as fields begin: what follows it is less than any character.
func ordered(entity string) string { return strings.ReplaceAll(entity, "\x00", "\x00\xff") }

// scopeEnd is after all fields of an entity's scopes, and before those of the next entity.
func scopeEnd(entity string) string { return ordered(entity) + "\x00\x02" }

func parseScopeField(field string) zael.Scope {
	entity, resource, _ := strings.Cut(field, "\x00\x01")
	return zael.Scope{Entity: strings.ReplaceAll(entity, "\x00\xff", "\x00"), Resource: resource}
}

func (sc *scope) settings() zael.Settings {
	return zael.Settings{Switch: sc.Switch, FailureMode: sc.FailureMode, Rev: sc.SettingsRev}
}

func parseScope(text string) (sc scope, err error) {
	if err := json.Unmarshal([]byte(text), &sc); err != nil {
		return sc, fmt.Errorf("redisstore: %w: a scope: %w", errDamaged, err)
	}
	return sc, nil
}

func (sc *scope) limits() ([]zael.Limit, error) {
	var limits []zael.Limit
	for _, text := range sc.Limits {
		l, err := zael.ParseLimit(text)
		if err != nil {
			return nil, fmt.Errorf("redisstore: %w: %w", errDamaged, err)
		}
		limits = append(limits, l)
	}
	return limits, nil
}

// scope reads what is kept for a scope.
func (t *adminTx) scope(ctx context.Context, of zael.Scope) (sc scope, err error) {
	text, exists, err := t.get(ctx, t.keys.scopes(), scopeField(of))
	if err == nil && exists {
		sc, err = parseScope(text)
	}
	return sc, err
}

func (t *adminTx) putScope(of zael.Scope, sc scope) error {
	text, err := json.Marshal(sc)
	if err != nil {
		return err
	}
	t.put(t.keys.scopes(), scopeField(of), string(text))
	t.rank(t.keys.order(), scopeField(of))
	return nil
}

// textsOfLimits returns limits as they are kept.
func textsOfLimits(limits []zael.Limit) ([]string, error) {
	texts := make([]string, len(limits))
	for i, l := range limits {
		texts[i] = l.String()
		if back, err := zael.ParseLimit(texts[i]); err != nil || back != l {
			return nil, storearg.Invalid("limits", texts[i], "is not a valid limit")
		}
	}
	return texts, nil
}

// SetLimits implements zael.LimitStore.
func (s *Store) SetLimits(ctx context.Context, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (rev int64, err error) {
	texts, err := textsOfLimits(limits)
	if err != nil {
		return 0, err
	}
	return s.setLimits(ctx, scope, texts, event)
}

// DeleteLimits implements zael.LimitStore.
func (s *Store) DeleteLimits(ctx context.Context, scope zael.Scope, event zael.AuditEvent) (rev int64, err error) {
	return s.setLimits(ctx, scope, nil, event)
}

func (s *Store) setLimits(ctx context.Context, of zael.Scope, texts []string, event zael.AuditEvent) (rev int64, err error) {
	if err := storable.Key(zael.Key(of)); err != nil {
		return 0, err
	}
	err = s.change(ctx, "setting limits", func(ctx context.Context, t *adminTx) (err error) {
		rev, err = t.setLimits(ctx, of, texts, event)
		return err
	})
	return rev, err
}

func (t *adminTx) setLimits(ctx context.Context, of zael.Scope, texts []string, event zael.AuditEvent) (rev int64, err error) {
	sc, err := t.scope(ctx, of)
	if err != nil || len(texts) == 0 && len(sc.Limits) == 0 {
		return sc.Rev, err
	}
	sc.Limits, sc.Rev = texts, max(event.Time.UnixMicro(), sc.Rev+1)
	if of.Entity == "" && of.Resource != "" {
		t.rank(t.keys.resources(), of.Resource)
	}
	t.record(event)
	return sc.Rev, t.putScope(of, sc)
}

// readScopes reads what is kept for scopes, in one step.
func (s *Store) readScopes(ctx context.Context, what string, scopes []zael.Scope) ([]scope, error) {
	fields := make([]string, len(scopes))
	for i, of := range scopes {
		if err := storable.Key(zael.Key(of)); err != nil {
			return nil, err
		}
		fields[i] = scopeField(of)
	}
	found, err := s.readFields(ctx, what, s.keys.scopes(), fields)
	if err != nil {
		return nil, err
	}
	all := make([]scope, len(scopes))
	for i := range all {
		if found[i] == nil {
			continue
		}
		if all[i], err = parseScope(*found[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Limits implements zael.LimitStore.
func (s *Store) Limits(ctx context.Context, scopes []zael.Scope) ([]zael.LimitSet, error) {
	found, err := s.readScopes(ctx, "reading limits", scopes)
	if err != nil {
		return nil, err
	}
	sets := make([]zael.LimitSet, len(scopes))
	for i := range sets {
		sets[i].Rev = found[i].Rev
		if sets[i].Limits, err = found[i].limits(); err != nil {
			return nil, err
		}
	}
	return sets, nil
}

// ranged reads up to n members, all if it is less than 0, of a set that is sorted by bytes: from
// least to most, which begin with "[" or, if they are excluded, with "(", or are "-" and "+".
func (s *Store) ranged(ctx context.Context, what, key, least, most string, n int64) ([]string, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	return ask(s, ctx, what, func(ctx context.Context, c rueidis.Client) ([]string, error) {
		return c.Do(ctx, c.B().Zrangebylex().Key(key).Min(least).Max(most).Limit(0, n).Build()).AsStrSlice()
	})
}

// bounds returns the bounds, for ranged, of names that begin with a prefix and come after a
// name.
func bounds(begin, after string) (least, most string) {
	least, most = "["+begin, "+"
	if after >= begin && after != "" {
		least = "(" + after
	}
	if end := prefix.End(begin); end != "" {
		most = "(" + end
	}
	return least, most
}

// ListEntities implements zael.ListStore.
func (s *Store) ListEntities(ctx context.Context, q zael.ListQuery) ([]zael.Entity, error) {
	ids, err := s.list(ctx, "listing entities", s.keys.ids(), q)
	if err != nil {
		return nil, err
	}
	found, err := s.Entities(ctx, ids)
	return slices.DeleteFunc(found, func(e zael.Entity) bool { return e.ID == "" && e.CreatedAt.IsZero() }), err // deleted meanwhile
}

// ListResources implements zael.ListStore.
func (s *Store) ListResources(ctx context.Context, q zael.ListQuery) ([]string, error) {
	return s.list(ctx, "listing resources", s.keys.resources(), q)
}

func (s *Store) list(ctx context.Context, what, key string, q zael.ListQuery) ([]string, error) {
	if err := storable.List(q); err != nil {
		return nil, err
	}
	least, most := bounds(q.Prefix, q.After)
	return s.ranged(ctx, what, key, least, most, int64(q.Max))
}

// ListScopes implements zael.ListStore.
func (s *Store) ListScopes(ctx context.Context, q zael.ScopeQuery) (list []zael.ScopeLimits, err error) {
	const what = "listing scopes"
	if err := storable.Text("prefix", q.Prefix); err != nil {
		return nil, err
	}
	least, most := "["+ordered(q.Prefix), "+"
	if end := prefix.End(q.Prefix); end != "" {
		most = "(" + ordered(end)
	}
	if q.After != nil {
		if err := storable.Key(zael.Key(*q.After)); err != nil {
			return nil, err
		}
		if after := scopeField(*q.After); after > least[1:] {
			least = "(" + after
		}
	}
	for len(list) < q.Max {
		fields, err := s.ranged(ctx, what, s.keys.order(), least, most, int64(max(q.Max, pageSize)))
		if err != nil {
			return nil, err
		}
		if len(fields) == 0 {
			return list, nil
		}
		found, err := s.readFields(ctx, what, s.keys.scopes(), fields)
		if err != nil {
			return nil, err
		}
		for i, text := range found {
			if text == nil {
				continue
			}
			sc, err := parseScope(*text)
			if err != nil {
				return nil, err
			}
			limits, err := sc.limits()
			if err != nil {
				return nil, err
			}
			if len(limits) > 0 && len(list) < q.Max {
				list = append(list, zael.ScopeLimits{Scope: parseScopeField(fields[i]), Limits: limits})
			}
		}
		least = "(" + fields[len(fields)-1]
	}
	return list, nil
}
