package zael

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/zeroae/zael/bucket"
)

// outrank dates changes of limits so that each is given a greater revision than
// the levels that decide with it have, although a clock ahead wrote them: of two
// definitions that levels make, the later one is the newer. The true time
// then is a detail of the audit event. Edits are made in one step.
func (l *Limiter) outrank(ctx context.Context, edits []Edit) error {
	rivals := make([][]Scope, len(edits)) // none of what is no change of limits
	revs := map[Scope]int64{}
	for i := range edits {
		if edits[i].Event.Action == EntityCreated {
			continue
		}
		if l.limits == nil {
			return l.unsupported("LimitStore")
		}
		var err error
		if rivals[i], err = l.rivals(ctx, edits[i].Scope()); err != nil {
			return l.stored(ctx, Key(edits[i].Scope()), err)
		}
		for _, scope := range rivals[i] {
			revs[scope] = 0
		}
	}
	if len(revs) == 0 {
		return nil
	}
	all := slices.Collect(maps.Keys(revs))
	sets, err := l.limits.Limits(ctx, all)
	if err != nil {
		return l.stored(ctx, Key(edits[0].Scope()), err)
	}
	for i, set := range sets {
		revs[all[i]] = set.Rev
	}
	for i, scopes := range rivals {
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

// rivals are the other levels that a change has to outrank; the store sees to its
// own. For a resource those of entities are not among them, nor for the system
// those of either: nobody can name them.
func (l *Limiter) rivals(ctx context.Context, scope Scope) ([]Scope, error) {
	scopes := levels(Key(scope))
	if scope.Entity != "" && scope.Resource == "" {
		buckets, err := l.concerned(ctx, scope)
		if err != nil {
			return nil, err
		}
		for _, b := range buckets {
			scopes = append(scopes, levels(b.Key)...)
		}
	}
	return slices.DeleteFunc(scopes, func(s Scope) bool { return s == scope }), nil
}

// supersede dates a set that was read since the bucket showed newer limits. If it
// is older than they are they are stored no more: they went with a deleted
// entity, and who still knew them made the bucket anew. Then the set, or the
// call's limits where it has none, outranks them.
func (a *attempt) supersede(key Key, set *limitSet, fallback []bucket.Limit) {
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
		if absent := shown && k.Period == 0; !absent && (!k.SameRefill(b.Definition) || k.Capacity != b.Definition.Capacity) {
			set.rev = rev + 1 // else somebody has brought the bucket under it
		}
	}
	for j := range set.limits {
		set.limits[j].Definition.Rev = set.rev
	}
}
