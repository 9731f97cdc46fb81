package zael

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/zeroae/zael/bucket"
)

// maxConverted is how many live buckets SetLimits and DeleteLimits convert at
// once; further ones follow within Config.ConfigTTL.
const maxConverted = 100

// SetLimits replaces the limits stored for a scope. The scope's entity need not
// exist. An entity's buckets follow at once, in every process (the first 100 of
// them; further ones, and those under limits of a resource or the system, within
// ConfigTTL). What was taken stays taken. Errors: *ValidationError.
func (l *Limiter) SetLimits(ctx context.Context, scope Scope, limits []Limit) error {
	if err := l.checkOpen(); err != nil {
		return err
	}
	if len(limits) == 0 {
		return invalid("limits", len(limits), "is none: use DeleteLimits to remove them")
	}
	edit, err := l.setting(scope, limits)
	if err != nil {
		return err
	}
	return l.set(ctx, &edit)
}

// DeleteLimits removes the limits stored for a scope, if there are any: the next
// level decides, as SetLimits says. Errors: *ValidationError.
func (l *Limiter) DeleteLimits(ctx context.Context, scope Scope) error {
	if err := l.checkOpen(); err != nil {
		return err
	}
	edit, err := l.setting(scope, nil)
	if err != nil {
		return err
	}
	return l.set(ctx, &edit)
}

// Limits reads the limits stored for a scope itself; none if there are none.
// Errors: *ValidationError.
func (l *Limiter) Limits(ctx context.Context, scope Scope) ([]Limit, error) {
	if err := l.checkOpen(); err != nil {
		return nil, err
	}
	scope, err := scope.checked()
	if err != nil {
		return nil, err
	}
	if l.limits == nil {
		return nil, l.unsupported("LimitStore")
	}
	sets, err := l.limits.Limits(ctx, []Scope{scope})
	if err != nil {
		return nil, l.stored(ctx, Key(scope), err)
	}
	return sets[0].Limits, nil
}

// checked is the scope in the form that stores know.
func (s Scope) checked() (Scope, error) {
	if s.Resource == DefaultResource {
		if s.Entity == "" {
			return s, invalid("Scope.Resource", s.Resource, "stands for an entity's default, and no entity is named")
		}
		s.Resource = ""
	}
	if s.Entity != "" {
		if err := checkEntity("Scope.Entity", s.Entity); err != nil {
			return s, err
		}
	}
	if s.Resource != "" {
		if err := checkResource("Scope.Resource", s.Resource); err != nil {
			return s, err
		}
	}
	return s, nil
}

// setting is the checked edit that sets a scope's limits now; that deletes them
// if there are none.
func (l *Limiter) setting(scope Scope, limits []Limit) (Edit, error) {
	scope, err := scope.checked()
	if err != nil {
		return Edit{}, err
	}
	now, err := l.date()
	if err != nil {
		return Edit{}, err
	}
	if len(limits) == 0 {
		return Edit{Event: l.event(now, LimitsDeleted, scope, nil)}, nil
	}
	if _, err := compile("limits", limits); err != nil {
		return Edit{}, err
	}
	filled := make([]Limit, len(limits))
	texts := make([]string, len(limits))
	for i := range limits {
		filled[i] = limits[i].withDefaults()
		texts[i] = filled[i].String()
	}
	details := map[string]string{"limits": strings.Join(texts, ", ")}
	return Edit{Limits: filled, Event: l.event(now, LimitsSet, scope, details)}, nil
}

// set sets or deletes the limits of a scope.
func (l *Limiter) set(ctx context.Context, e *Edit) error {
	if l.limits == nil {
		return l.unsupported("LimitStore")
	}
	scope, dated := e.Scope(), []Edit{*e}
	if err := l.outrank(ctx, dated); err != nil {
		return err
	}
	event := dated[0].Event
	var err error
	if event.Action == LimitsSet {
		_, err = l.limits.SetLimits(ctx, scope, e.Limits, event)
	} else {
		_, err = l.limits.DeleteLimits(ctx, scope, event)
	}
	if scope.Entity != "" && scope.Resource != "" {
		l.sets.drop(Key(scope))
	} else {
		l.sets.clear()
	}
	if err != nil {
		return l.stored(ctx, Key(scope), err)
	}
	return l.follow(ctx, scope)
}

// follow has the live buckets of a changed scope's entity follow.
func (l *Limiter) follow(ctx context.Context, scope Scope) error {
	if scope.Entity == "" {
		return nil
	}
	if err := l.convert(ctx, scope); err != nil {
		return fmt.Errorf("the limits are stored; the buckets in use follow within %s, as this failed: %w",
			l.ttl, l.stored(ctx, Key(scope), err))
	}
	return nil
}

// convert brings an entity's live buckets under the limits that now hold.
func (l *Limiter) convert(ctx context.Context, scope Scope) error {
	buckets, err := l.concerned(ctx, scope)
	if err != nil {
		return err
	}
	for _, b := range buckets {
		sets, err := l.limits.Limits(ctx, levels(b.Key))
		if err != nil {
			return err
		}
		set, err := decide(sets)
		if err != nil {
			return err
		}
		d := Debit{Key: b.Key}
		for _, have := range b.Limits {
			if have.State.Definition.Rev > 0 {
				d.Charges = append(d.Charges, Charge{Name: have.Name, Definition: set.successor(have)})
			}
		}
		if len(d.Charges) == 0 {
			continue
		}
		if _, err := l.store.Adjust(ctx, l.now(), []Debit{d}); err != nil {
			return err
		}
	}
	return nil
}

// concerned are the live buckets that a change of a scope of an entity binds.
func (l *Limiter) concerned(ctx context.Context, scope Scope) ([]Bucket, error) {
	if scope.Resource == "" {
		return collect(first(maxConverted, l.limits.EntityBuckets(ctx, scope.Entity)))
	}
	_, buckets, err := l.store.Buckets(ctx, l.now(), []Key{Key(scope)})
	return buckets, err
}

// successor is the definition that now holds for a limit of a bucket. One that
// is gone keeps its numbers under a newer revision, by which who still knows it
// sees that it is; not under the set's own, so that a limit which takes its
// place counts as the later one.
func (s *limitSet) successor(have LimitState) bucket.Definition {
	for _, b := range s.limits {
		if b.Name == have.Name {
			return b.Definition
		}
	}
	d := have.State.Definition
	d.Rev = max(d.Rev, s.rev-1)
	return d
}

func first[T any](n int, seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		left := n
		for v, err := range seq {
			if left--; !yield(v, err) || left == 0 {
				return
			}
		}
	}
}
