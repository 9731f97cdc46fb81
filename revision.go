package zael

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/zeroae/zael/bucket"
)

// raiseRevisions dates edits of limits so that each gets a greater revision than the
// other scopes that decide with it have, even if a clock ahead of this one wrote them:
// what was changed later is the newer definition. The true time becomes a detail of
// the audit event. The edits are made in one step.
func (l *Limiter) raiseRevisions(ctx context.Context, edits []Edit) error {
	competing := make([][]Scope, len(edits)) // none for an edit that does not change limits
	revs := map[Scope]int64{}
	for i := range edits {
		if !edits[i].changesLimits() {
			continue
		}
		if l.limitStore == nil {
			return l.unsupported("LimitStore")
		}
		var err error
		if competing[i], err = l.competingScopes(ctx, edits[i].Scope()); err != nil {
			return l.storeError(ctx, Key(edits[i].Scope()), err)
		}
		for _, scope := range competing[i] {
			revs[scope] = 0
		}
	}
	if len(revs) == 0 {
		return nil
	}
	all := slices.Collect(maps.Keys(revs))
	sets, err := l.limitStore.Limits(ctx, all)
	if err != nil {
		return l.storeError(ctx, Key(edits[0].Scope()), err)
	}
	for i, set := range sets {
		revs[all[i]] = set.Rev
	}
	for i, scopes := range competing {
		e := &edits[i]
		rev := e.Event.Time.UnixMicro()
		for _, scope := range scopes {
			rev = max(rev, revs[scope]+1)
		}
		if rev > e.Event.Time.UnixMicro() {
			e.Event.Details = maps.Clone(e.Event.Details)
			if e.Event.Details == nil {
				e.Event.Details = map[string]string{}
			}
			e.Event.Details["clock"] = e.Event.Time.Format(time.RFC3339Nano)
			e.Event.Time = time.UnixMicro(rev).UTC()
		}
	}
	return nil
}

// competingScopes returns the other scopes whose revisions a change must exceed; the
// store sees to the scope itself. A change for a resource does not look at the scopes of
// entities, nor one for the system at either: they cannot be listed.
func (l *Limiter) competingScopes(ctx context.Context, scope Scope) ([]Scope, error) {
	scopes := scopesOf(Key(scope))
	if scope.Entity != "" && scope.Resource == "" {
		buckets, err := l.affectedBuckets(ctx, scope)
		if err != nil {
			return nil, err
		}
		for _, b := range buckets {
			scopes = append(scopes, scopesOf(b.Key)...)
		}
	}
	return slices.DeleteFunc(scopes, func(s Scope) bool { return s == scope }), nil
}

// reviveRevision raises the revision of stored limits that were read again because
// the bucket showed newer ones. If the bucket is still newer than what is stored, its
// limits were deleted with their entity, and a process with a stale cache recreated
// the bucket. Then the stored limits, or else the request's, become newer than the
// bucket's.
func (a *attempt) reviveRevision(key Key, set *effectiveLimits, fallback []bucket.Limit) {
	i := slices.IndexFunc(a.newer, func(d Debit) bool { return d.Key == key })
	if i < 0 {
		return
	}
	kept, rev := map[string]bucket.Definition{}, int64(0)
	for _, ch := range a.newer[i].Charges {
		kept[ch.Name] = ch.State.Definition
		rev = max(rev, ch.State.Definition.Rev)
	}
	if rev <= set.rev {
		return
	}
	limits := set.limits
	if len(limits) == 0 {
		limits = fallback
	}
	set.rev = rev
	for _, b := range limits {
		k, shown := kept[b.Name]
		if absent := shown && k.Burst == 0; !absent && (!k.SameRefill(b.Definition) || k.Capacity != b.Definition.Capacity) {
			set.rev = rev + 1 // else somebody has brought the bucket under it
		}
	}
	for j := range set.limits {
		set.limits[j].Definition.Rev = set.rev
	}
}
