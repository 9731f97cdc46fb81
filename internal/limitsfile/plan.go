package limitsfile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/zeroae/zael"
)

// A Reader is what a plan reads; a *zael.Limiter is one.
type Reader interface {
	Entity(ctx context.Context, id string) (zael.Entity, error)
	Limits(ctx context.Context, scope zael.Scope) ([]zael.Limit, error)
}

// An Action is what a Change does.
type Action string

// The actions.
const (
	Create  Action = "create" // an entity, or limits of a scope that has none
	Replace Action = "change" // limits
	Delete  Action = "delete" // limits
)

// A Change is one step from what is stored to what the file says.
type Change struct {
	Action Action
	Entity *zael.Entity // to create; nil if it is about limits
	Scope  zael.Scope   // of the limits
	Before []zael.Limit
	After  []zael.Limit
}

// A Plan is all steps, in an order in which nobody is left without limits on
// the way: limits are set, then entities created, parents first, then limits
// deleted.
type Plan struct {
	Changes   []Change
	Unchanged int // entities and sets of limits that are as the file says
}

// Compare makes the plan. An entity that is otherwise than the file says cannot
// be brought there: that is an *Error for each, joined.
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
		case same(before, s.Limits):
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
		have, err := store.Entity(ctx, e.ID)
		switch {
		case errors.Is(err, zael.ErrEntityNotFound):
			record := e.record()
			create = append(create, Change{Action: Create, Entity: &record})
		case err != nil:
			return nil, err
		default:
			if d := e.differs(&have); d != "" {
				conflicts = append(conflicts, errorf(e.Line, "entity %s exists and %s: it cannot be changed; correct the file, or delete the entity first", e.ID, d))
			}
			p.Unchanged++
		}
	}
	if err := errors.Join(conflicts...); err != nil {
		return nil, err
	}
	p.Changes = slices.Concat(set, parentsFirst(create), remove)
	return p, nil
}

// same compares limits by name; their order says nothing.
func same(a, b []zael.Limit) bool {
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

// differs tells how an entity is otherwise than the file says.
func (e *Entity) differs(have *zael.Entity) string {
	var d []string
	if e.Name != nil && *e.Name != have.Name && (*e.Name != "" || have.Name != have.ID) {
		d = append(d, fmt.Sprintf("has the name %q, not %q", have.Name, *e.Name))
	}
	if e.Parent != nil && *e.Parent != have.ParentID {
		d = append(d, fmt.Sprintf("has the parent %q, not %q", have.ParentID, *e.Parent))
	}
	if e.Cascade != nil && *e.Cascade != have.Cascade {
		d = append(d, fmt.Sprintf("has cascade %t, not %t", have.Cascade, *e.Cascade))
	}
	if e.Metadata != nil && !maps.Equal(e.Metadata, have.Metadata) {
		d = append(d, "has other metadata")
	}
	return strings.Join(d, " and ")
}

// parentsFirst sorts entities to create: each behind its parent.
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
			return // also ends a circle of parents
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
