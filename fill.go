package zael

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/zeroae/zael/bucket"
)

// Reset fills limits of a bucket: those of names, or all of them. What leases from before
// settle then gives nothing back. A limit that the bucket does not have is full; it must be
// stored. The bucket of a parent is not touched. Reset returns how many tokens are there.
//
// The error matches [ErrNoLimits] if the bucket has no limit of a name, or none at all,
// and none is stored; other errors are those of [Limiter.SetSwitch].
func (l *Limiter) Reset(ctx context.Context, entity, resource string, names []string, options AdminOptions) (Amounts, error) {
	names = slices.Clone(names)
	slices.Sort(names)
	for _, name := range names {
		if !validName(name) {
			return nil, invalid("names", name, nameRule)
		}
	}
	edit := Edit{Event: AuditEvent{Action: BucketReset, Entity: entity, Resource: resource}, Names: slices.Compact(names)}
	if len(names) > 0 {
		edit.Event.Details = map[string]string{"limits": strings.Join(edit.Names, ", ")}
	}
	return l.fill(ctx, edit, options)
}

// TopUp gives tokens to limits of a bucket: 1 to 10¹⁵ to each limit of amounts, in
// addition to what is there; a rate has no more than its burst after it. A limit that the
// bucket does not have must be stored. The bucket of a parent is not touched. TopUp
// returns how many tokens are there. Without an idempotency key, one whose answer was
// lost must not be repeated. Errors are those of [Limiter.Reset].
func (l *Limiter) TopUp(ctx context.Context, entity, resource string, amounts Amounts, options AdminOptions) (Amounts, error) {
	if len(amounts) == 0 {
		return nil, invalid("amounts", nil, "is no limit at all: name at least one")
	}
	given := Amounts{}
	for name, n := range amounts {
		if !validName(name) {
			return nil, invalid("amounts", name, nameRule)
		}
		if err := checkAmount("amounts", name, n, 1); err != nil {
			return nil, err
		}
		given[name] = n
	}
	event := AuditEvent{Action: BucketToppedUp, Entity: entity, Resource: resource, Details: map[string]string{"amounts": given.String()}}
	return l.fill(ctx, Edit{Event: event, Amounts: given}, options)
}

func (l *Limiter) fill(ctx context.Context, edit Edit, options AdminOptions) (Amounts, error) {
	key := Key{edit.Event.Entity, edit.Event.Resource}
	if err := l.checkOpen(); err != nil {
		return nil, err
	}
	if err := checkEntity("Scope.Entity", key.Entity); err != nil {
		return nil, err
	}
	if err := checkResource("Scope.Resource", key.Resource); err != nil {
		return nil, err
	}
	if l.limitStore != nil {
		sets, err := l.limitStore.Limits(ctx, scopesOf(key))
		if err != nil {
			return nil, l.storeError(ctx, key, err)
		}
		effective, err := effectiveOf(sets)
		if err != nil {
			return nil, err
		}
		edit.Stored = effective.limits
	}
	result, err := l.administer(ctx, edit, options)
	return result.Available, err
}

// Fill makes a BucketReset or BucketToppedUp of a bucket's record, which has all its
// limits, at an instant; for stores. birth is a random number. It returns how many
// tokens are there then. A name is that of the stored limit: if that is of slots, what else
// has the name is not touched. If there is an error nothing has changed: it matches [ErrNoLimits],
// or is a [*ValidationError].
func (e *Edit) Fill(r *bucket.Record, at bucket.Instant, birth uint64) (Amounts, error) {
	if e == nil || r == nil {
		return nil, invalid("Edit", nil, "or its record is nil")
	}
	names := e.Names
	switch {
	case e.Event.Action == BucketToppedUp:
		names = nil
		for name := range e.Amounts {
			names = append(names, name)
		}
	case len(names) == 0:
		for i := range r.Limits {
			names = append(names, r.Limits[i].Name)
		}
		for i := range e.Stored {
			names = append(names, e.Stored[i].Name)
		}
	}
	if len(names) == 0 {
		return nil, noLimitsError(e.Event.Entity, e.Event.Resource)
	}
	parts := make([]bucket.Fill, 0, len(names))
	for _, name := range names {
		if slices.ContainsFunc(parts, func(p bucket.Fill) bool { return p.Name == name }) {
			continue
		}
		p := bucket.Fill{Name: name, Slots: r.IsSlots(name), Amount: e.Amounts[name]}
		if i := slices.IndexFunc(e.Stored, func(l bucket.Limit) bool { return l.Name == name }); i >= 0 {
			p.Definition = e.Stored[i].Definition
			p.Slots = p.Definition.Kind == bucket.Slots
		} else if !r.Has(name, p.Slots) {
			return nil, fmt.Errorf("%w: %s on %s has no limit %s, and none is stored", ErrNoLimits, e.Event.Entity, e.Event.Resource, name)
		}
		parts = append(parts, p)
	}
	if e.Event.Action == BucketReset {
		r.Reset(parts, at)
	} else if err := r.TopUp(parts, at, birth); err != nil {
		return nil, invalid("amounts", nil, "cannot be given: "+strings.TrimSuffix(err.Error(), ": "+bucket.ErrRange.Error()))
	}
	available := Amounts{}
	for i := range parts {
		available[parts[i].Name] = parts[i].State.Available(at)
	}
	return available, nil
}
