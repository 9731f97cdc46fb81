package zael

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/zeroae/zael/bucket"
)

// maxConverted is how many live buckets SetLimits and DeleteLimits convert. Further
// ones follow within Config.ConfigTTL.
const maxConverted = 100

// SetLimits replaces the limits stored for a scope. The scope's entity need not
// exist. If the scope has an entity, its buckets in use, up to 100 of them, are under
// the new limits in every process when SetLimits returns. All others follow within
// Config.ConfigTTL. What was taken stays taken. Errors: [*ValidationError] if the
// scope or a limit is not valid or there are none, and those that all methods for
// stored data have; see [Limiter.CreateEntity].
func (l *Limiter) SetLimits(ctx context.Context, scope Scope, limits []Limit) error {
	if err := l.checkOpen(); err != nil {
		return err
	}
	if len(limits) == 0 {
		return invalid("limits", len(limits), "is no limit at all: use DeleteLimits to remove what is stored")
	}
	edit, err := l.limitEdit(ctx, scope, limits)
	if err != nil {
		return err
	}
	return l.changeLimits(ctx, &edit)
}

// DeleteLimits removes the limits stored for a scope, if there are any. Then the next
// scope decides; see Request.Limits. Buckets follow and errors are as
// [Limiter.SetLimits] says.
func (l *Limiter) DeleteLimits(ctx context.Context, scope Scope) error {
	if err := l.checkOpen(); err != nil {
		return err
	}
	edit, err := l.limitEdit(ctx, scope, nil)
	if err != nil {
		return err
	}
	return l.changeLimits(ctx, &edit)
}

// Limits returns the limits stored for this very scope; none if there are none.
// Errors are those of [Limiter.SetLimits].
func (l *Limiter) Limits(ctx context.Context, scope Scope) ([]Limit, error) {
	if err := l.checkOpen(); err != nil {
		return nil, err
	}
	scope, err := scope.normalized()
	if err != nil {
		return nil, err
	}
	if l.limitStore == nil {
		return nil, l.unsupported("LimitStore")
	}
	sets, err := l.limitStore.Limits(ctx, []Scope{scope})
	if err != nil {
		return nil, l.storeError(ctx, Key(scope), err)
	}
	return sets[0].Limits, nil
}

// normalized returns the scope in the form that stores know.
func (s Scope) normalized() (Scope, error) {
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

// limitEdit returns the checked edit that replaces a scope's limits, or deletes them if
// limits is empty.
func (l *Limiter) limitEdit(ctx context.Context, scope Scope, limits []Limit) (Edit, error) {
	scope, err := scope.normalized()
	if err != nil {
		return Edit{}, err
	}
	now, err := l.auditTime()
	if err != nil {
		return Edit{}, err
	}
	if len(limits) == 0 {
		return Edit{Event: l.auditEvent(ctx, now, LimitsDeleted, scope, nil)}, nil
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
	return Edit{Limits: filled, Event: l.auditEvent(ctx, now, LimitsSet, scope, details)}, nil
}

// changeLimits makes an edit of limits.
func (l *Limiter) changeLimits(ctx context.Context, e *Edit) error {
	if l.limitStore == nil {
		return l.unsupported("LimitStore")
	}
	scope, dated := e.Scope(), []Edit{*e}
	if err := l.raiseRevisions(ctx, dated); err != nil {
		return err
	}
	event := dated[0].Event
	var err error
	if event.Action == LimitsSet {
		_, err = l.limitStore.SetLimits(ctx, scope, e.Limits, event)
	} else {
		_, err = l.limitStore.DeleteLimits(ctx, scope, event)
	}
	if scope.Entity != "" && scope.Resource != "" {
		l.limitCache.drop(Key(scope))
	} else {
		l.limitCache.clear()
	}
	if err != nil {
		return l.storeError(ctx, Key(scope), err)
	}
	return l.applyToLiveBuckets(ctx, scope)
}

// applyToLiveBuckets makes the live buckets of a changed scope's entity follow at once.
func (l *Limiter) applyToLiveBuckets(ctx context.Context, scope Scope) error {
	if scope.Entity == "" {
		return nil
	}
	if err := l.convertBuckets(ctx, scope); err != nil {
		return fmt.Errorf("the limits are stored; buckets in use follow within %s, as converting them at once failed: %w",
			l.ttl, l.storeError(ctx, Key(scope), err))
	}
	return nil
}

// convertBuckets brings the live buckets of a scope's entity under the limits that now
// hold.
func (l *Limiter) convertBuckets(ctx context.Context, scope Scope) error {
	buckets, err := l.affectedBuckets(ctx, scope)
	if err != nil {
		return err
	}
	for _, b := range buckets {
		sets, err := l.limitStore.Limits(ctx, scopesOf(b.Key))
		if err != nil {
			return err
		}
		effective, err := effectiveOf(sets)
		if err != nil {
			return err
		}
		d := Debit{Key: b.Key}
		for _, have := range b.Limits {
			if have.State.Definition.Rev > 0 {
				d.Charges = append(d.Charges, Charge{Name: have.Name, Definition: effective.definitionAfter(have)})
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

// affectedBuckets returns the live buckets that the limits of a scope may bind, for a
// scope with an entity.
func (l *Limiter) affectedBuckets(ctx context.Context, scope Scope) ([]Bucket, error) {
	if scope.Resource == "" {
		return collect(firstN(maxConverted, l.limitStore.EntityBuckets(ctx, scope.Entity)))
	}
	_, buckets, err := l.store.Buckets(ctx, l.now(), []Key{Key(scope)})
	return buckets, err
}

// definitionAfter returns the definition that now holds for a limit of a bucket. A
// removed limit keeps its numbers under a newer revision, so that stale processes
// notice; one below e's, so that a replacement is newer still.
func (e *effectiveLimits) definitionAfter(have LimitState) bucket.Definition {
	for _, limit := range e.limits {
		if limit.Name == have.Name {
			return limit.Definition
		}
	}
	d := have.State.Definition
	d.Rev = max(d.Rev, e.rev-1)
	return d
}

// firstN yields at most the first n values of seq.
func firstN[T any](n int, seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		left := n
		for v, err := range seq {
			if left--; !yield(v, err) || left == 0 {
				return
			}
		}
	}
}
