package limitsfile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/yamlfile"
)

// A Reader reads what is stored; a *zael.Limiter is one.
type Reader interface {
	Entity(ctx context.Context, id string) (zael.Entity, error)
	Limits(ctx context.Context, scope zael.Scope) ([]zael.Limit, error)
	Settings(ctx context.Context, scope zael.Scope) (zael.Settings, error)
	Namespaces(ctx context.Context) ([]zael.Namespace, error)
}

// An Action is what a Change does.
type Action string

// Actions.
const (
	Create  Action = "create" // an entity, a namespace, or limits or a setting of a scope that has none
	Replace Action = "change" // limits or a setting of a scope
	Delete  Action = "delete" // limits or a setting of a scope
)

// A Change is one step from what is stored to the contents of the file.
type Change struct {
	Action Action
	Entity *zael.Entity // to create; nil if it is about limits
	Scope  zael.Scope   // of the limits
	Before []zael.Limit
	After  []zael.Limit

	Setting   *Setting // to store, or to remove if it is inherit; nil if it is about something else
	Was       string   // the setting before
	Namespace string   // to register; empty if it is about something else
}

// A Plan has all steps, in an order that leaves nobody without limits in between:
// namespaces are registered, what is disabled is disabled, limits are set, entities are
// created, parents first, limits are deleted, and then the other settings are stored.
type Plan struct {
	Changes   []Change
	Unchanged int // entities, sets of limits, settings and namespaces that need no change
}

// Compare returns the plan. Entities that exist with other values cannot be changed:
// there is an *Error for each of them, joined.
func Compare(ctx context.Context, store Reader, f *File) (*Plan, error) {
	var set, create, remove []Change
	p := new(Plan)
	for _, s := range f.Sets {
		before, err := store.Limits(ctx, s.Scope)
		if err != nil {
			return nil, err
		}
		c := Change{Action: Replace, Scope: s.Scope, Before: before, After: s.Limits}
		switch {
		case equal(before, s.Limits):
			p.Unchanged++
		case len(s.Limits) == 0:
			c.Action = Delete
			remove = append(remove, c)
		default:
			if len(before) == 0 {
				c.Action = Create
			}
			set = append(set, c)
		}
	}
	var conflicts []error
	for i := range f.Entities {
		e := &f.Entities[i]
		stored, err := store.Entity(ctx, e.ID)
		switch {
		case errors.Is(err, zael.ErrEntityNotFound):
			entity := e.entity()
			create = append(create, Change{Action: Create, Entity: &entity})
		case err != nil:
			return nil, err
		default:
			if d := e.difference(&stored); d != "" {
				conflicts = append(conflicts, yamlfile.Errorf(e.Line, "entity %s exists and %s; it cannot be changed by a file: correct the file, or delete the entity first ('zael entity set-parent' changes the parent)", e.ID, d))
			}
			p.Unchanged++
		}
	}
	if err := errors.Join(conflicts...); err != nil {
		return nil, err
	}
	first, last, err := p.compareSettings(ctx, store, f)
	if err != nil {
		return nil, err
	}
	p.Changes = slices.Concat(first, set, parentsFirst(create), remove, last)
	return p, nil
}

// compareSettings returns the changes of namespaces and settings: those that come first, and
// those that come last.
func (p *Plan) compareSettings(ctx context.Context, store Reader, f *File) (first, last []Change, err error) {
	if len(f.Namespaces) > 0 {
		have, err := store.Namespaces(ctx)
		if err != nil {
			return nil, nil, err
		}
		for _, n := range f.Namespaces {
			if slices.ContainsFunc(have, func(h zael.Namespace) bool { return h.Name == n.Name }) {
				p.Unchanged++
				continue
			}
			first = append(first, Change{Action: Create, Namespace: n.Name})
		}
	}
	for i := range f.Settings {
		s := &f.Settings[i]
		stored, err := store.Settings(ctx, s.Scope)
		if err != nil {
			return nil, nil, err
		}
		c := Change{Action: Replace, Setting: s, Scope: s.Scope, Was: stored.FailureMode.String()}
		if s.Switch != nil {
			c.Was = stored.Switch.String()
		}
		switch inherit := zael.Inherit.String(); {
		case c.Was == s.String():
			p.Unchanged++
			continue
		case c.Was == inherit:
			c.Action = Create
		case s.String() == inherit:
			c.Action = Delete
		}
		if s.Switch != nil && *s.Switch == zael.Disabled {
			first = append(first, c)
		} else {
			last = append(last, c)
		}
	}
	return first, last, nil
}

// equal reports whether two sets have the same limits, in any order.
func equal(a, b []zael.Limit) bool {
	if len(a) != len(b) {
		return false
	}
	for _, l := range a {
		if !slices.Contains(b, l) {
			return false
		}
	}
	return true
}

// difference returns how a stored entity differs from the file, or an empty string.
func (e *Entity) difference(stored *zael.Entity) string {
	var d []string
	if e.Name != nil && *e.Name != stored.Name && (*e.Name != "" || stored.Name != stored.ID) {
		d = append(d, fmt.Sprintf("has the name %q, not %q", stored.Name, *e.Name))
	}
	if e.Parent != nil && *e.Parent != stored.ParentID {
		d = append(d, fmt.Sprintf("has the parent %q, not %q", stored.ParentID, *e.Parent))
	}
	if e.Cascade != nil && *e.Cascade != stored.Cascade {
		d = append(d, fmt.Sprintf("has cascade %t, not %t", stored.Cascade, *e.Cascade))
	}
	if e.Metadata != nil && !maps.Equal(e.Metadata, stored.Metadata) {
		d = append(d, "has other metadata")
	}
	return strings.Join(d, " and ")
}

// parentsFirst sorts entities to create: each after its parent.
func parentsFirst(create []Change) []Change {
	byID := make(map[string]int, len(create))
	for i := range create {
		byID[create[i].Entity.ID] = i
	}
	sorted := make([]Change, 0, len(create))
	done := make([]bool, len(create))
	var add func(i int)
	add = func(i int) {
		if done[i] {
			return // ends cycles of parents, too
		}
		done[i] = true
		if parent, ok := byID[create[i].Entity.ParentID]; ok {
			add(parent)
		}
		sorted = append(sorted, create[i])
	}
	for i := range create {
		add(i)
	}
	return sorted
}
