package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zeroae/zael"
)

func listChecks() []check {
	return []check{
		{name: "entities are listed in order and in pages", also: []Role{EntityStore}, run: listsEntities},
		{name: "ids that differ are listed apart", also: []Role{EntityStore}, run: listsIDs},
		{name: "scopes are listed in order and in pages", also: []Role{EntityStore, LimitStore}, run: listsScopes},
		{name: "resources are listed in order and in pages", also: []Role{LimitStore}, run: listsResources},
		{name: "a done context ends a list", run: listsDone},
	}
}

// byPages reads a list by pages of a size until one is not full.
func byPages[T any](size int, page func(last *T) ([]T, error)) ([]T, error) {
	var all []T
	var last *T
	for {
		found, err := page(last)
		if err != nil {
			return nil, err
		}
		if len(found) > size {
			return nil, fmt.Errorf("a page of %d at most: got %d", size, len(found))
		}
		all = append(all, found...)
		if len(found) < size {
			return all, nil
		}
		last = &all[len(all)-1]
	}
}

// listed returns the IDs of the entities that begin with a prefix, by pages.
func (e *env) listed(ctx context.Context, prefix string, size int) ([]string, error) {
	found, err := byPages(size, func(last *zael.Entity) ([]zael.Entity, error) {
		q := zael.ListQuery{Prefix: prefix, Max: size}
		if last != nil {
			q.After = last.ID
		}
		return role[zael.ListStore](e).ListEntities(ctx, q)
	})
	ids := make([]string, len(found))
	for i := range found {
		ids[i] = found[i].ID
	}
	return ids, err
}

// lists wants the IDs of entities, in any order, to be those that are listed.
func (s *script) lists(prefix string, size int, want ...string) {
	s.do(func() error {
		got, err := s.e.listed(s.ctx, prefix, size)
		if err != nil {
			return err
		}
		return sameList(fmt.Sprintf("ListEntities of %s by %d", quote(prefix), size), got, slices.Sorted(slices.Values(want)))
	})
}

func listsEntities(ctx context.Context, e *env) error {
	s := e.script(ctx)
	var all []string
	with := func(prefix string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(id string) bool { return !strings.HasPrefix(id, prefix) })
	}
	for i := range 130 {
		id := fmt.Sprintf("%s%d", []string{"team-a/", "team-a", "team_a/", "Team-a/", "team-a0", "z"}[i%6], (i*37)%130)
		all = append(all, id)
		parent := ""
		if i%3 == 0 {
			parent = "parent"
		}
		s.create(id, parent)
	}
	s.admit(0, debit(key("only-bucket"), ask("rpm", never(10), 1))) // was not created
	for _, size := range []int{1000, 130, 129, 50} {
		s.lists("", size, all...)
	}
	for _, prefix := range []string{"team-a/", "team-a", "t", "T", "team_a/", "team-a/1", "nobody", "z"} {
		s.lists(prefix, 7, with(prefix)...)
	}
	s.do(func() error {
		got, err := role[zael.ListStore](e).ListEntities(ctx, zael.ListQuery{Prefix: "team-a/", After: "a", Max: 1}) // before the first
		if err != nil || len(got) != 1 {
			return fmt.Errorf("ListEntities after a: got %d and %w, want 1", len(got), orNil(err))
		}
		first := slices.Min(with("team-a/"))
		parent := ""
		if slices.Index(all, first)%3 == 0 {
			parent = "parent"
		}
		return sameEntity(got[0], zael.Entity{ID: first, Name: first, ParentID: parent, CreatedAt: e.t0})
	})
	s.remove(all[0], nil)
	s.remove(all[130-1], nil)
	s.create(all[0], "another parent")
	all = all[:129]
	s.lists("", 1000, all...)
	return s.err
}

func listsIDs(ctx context.Context, e *env) error {
	var kept []string
	for _, n := range names() {
		err := role[zael.EntityStore](e).CreateEntity(ctx, zael.Entity{ID: n.text, CreatedAt: e.t0}, e.event(0, zael.EntityCreated, n.text, ""))
		refused, err := refuses("CreateEntity "+quote(n.text), passes(n.text), err)
		if err != nil {
			return err
		}
		if !refused {
			kept = append(kept, n.text)
		}
	}
	s := e.script(ctx)
	s.lists("", 17, kept...)
	for _, prefix := range kept {
		s.lists(prefix, 1000, slices.DeleteFunc(slices.Clone(kept), func(id string) bool { return !strings.HasPrefix(id, prefix) })...)
	}
	for _, n := range names() {
		_, err := role[zael.ListStore](e).ListEntities(ctx, zael.ListQuery{Prefix: n.text, After: n.text, Max: 3})
		if _, err := refuses("ListEntities after "+quote(n.text), passes(n.text), err); err != nil {
			return err
		}
	}
	return s.err
}

// scopes wants scopes and what their limits are named to be listed.
func (s *script) scopes(prefix string, size int, want []zael.Scope) {
	s.do(func() error {
		found, err := byPages(size, func(last *zael.ScopeLimits) ([]zael.ScopeLimits, error) {
			q := zael.ScopeQuery{Prefix: prefix, Max: size}
			if last != nil {
				q.After = &last.Scope
			}
			return role[zael.ListStore](s.e).ListScopes(s.ctx, q)
		})
		if err != nil {
			return err
		}
		texts := func(scopes []zael.Scope) []string {
			all := make([]string, len(scopes))
			for i, scope := range scopes {
				all[i] = scope.String()
			}
			return all
		}
		got := make([]zael.Scope, len(found))
		for i := range found {
			got[i] = found[i].Scope
			limit := zael.PerMinute("rpm", int64(len(got[i].Entity)+len(got[i].Resource)+1))
			if !slices.Equal(found[i].Limits, []zael.Limit{limit}) {
				return fmt.Errorf("ListScopes, %s: got the limits %v, want %v", got[i], found[i].Limits, limit)
			}
		}
		want = slices.Clone(want)
		slices.SortFunc(want, zael.Scope.Compare)
		return sameList(fmt.Sprintf("ListScopes of %s by %d", quote(prefix), size), texts(got), texts(want))
	})
}

func listsScopes(ctx context.Context, e *env) error {
	s := e.script(ctx)
	set := func(scope zael.Scope) {
		s.set(0, scope, e.micros(0), zael.PerMinute("rpm", int64(len(scope.Entity)+len(scope.Resource)+1)))
	}
	var all []zael.Scope
	for _, entity := range []string{"", "a", "A", "a/b", "a-b", "ab", "b", "\u00e9", "gpt-4"} {
		for _, resource := range []string{"", "gpt-4", "Gpt-4", "a", "gpt#4", "\u00e9"} {
			all = append(all, zael.Scope{Entity: entity, Resource: resource})
			set(all[len(all)-1])
		}
	}
	gone := []zael.Scope{{}, {Entity: "a"}, {Resource: "a"}, {Entity: "b", Resource: "gpt-4"}}
	s.scopes("", 1000, all)
	for _, scope := range gone {
		s.unset(time.Hour, scope, e.micros(time.Hour))
	}
	s.remove("ab", nil)
	s.create("only-created", "")
	left := slices.DeleteFunc(slices.Clone(all), func(scope zael.Scope) bool { return scope.Entity == "ab" || slices.Contains(gone, scope) })
	for _, size := range []int{1000, 7} {
		s.scopes("", size, left)
	}
	s.scopes("a/", 1, slices.DeleteFunc(slices.Clone(left), func(scope zael.Scope) bool { return scope.Entity != "a/b" }))
	for _, prefix := range []string{"a", "a/", "ab", "A", "gpt", "nobody"} {
		s.scopes(prefix, 3, slices.DeleteFunc(slices.Clone(left), func(scope zael.Scope) bool { return !strings.HasPrefix(scope.Entity, prefix) }))
	}
	s.do(func() error { // after a scope that is not there
		after := zael.Scope{Entity: "a", Resource: "gpt-3"}
		got, err := role[zael.ListStore](e).ListScopes(ctx, zael.ScopeQuery{After: &after, Max: 1})
		if err != nil || len(got) != 1 || got[0].Scope != (zael.Scope{Entity: "a", Resource: "gpt-4"}) {
			return fmt.Errorf("ListScopes after %s: got %v and %w, want a on gpt-4", after, got, orNil(err))
		}
		return nil
	})
	return s.err
}

// resources wants all of some to be listed, in order, as soon as the store knows of them.
func (s *script) resources(prefix string, size int, want ...string) {
	s.do(func() error {
		slices.Sort(want)
		for {
			got, err := byPages(size, func(last *string) ([]string, error) {
				q := zael.ListQuery{Prefix: prefix, Max: size}
				if last != nil {
					q.After = *last
				}
				return role[zael.ListStore](s.e).ListResources(s.ctx, q)
			})
			if err != nil {
				return err
			}
			what := fmt.Sprintf("ListResources of %s by %d", quote(prefix), size)
			if len(got) >= len(want) || !slices.IsSorted(got) {
				return sameList(what, got, want)
			}
			select {
			case <-time.After(5 * time.Millisecond):
			case <-s.ctx.Done():
				return fmt.Errorf("%s: got %d until the end of the check, want %d", what, len(got), len(want))
			}
		}
	})
}

func listsResources(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := never(10)
	var all []string
	for i := range 40 {
		all = append(all, fmt.Sprintf("%s%d", []string{"gpt-", "GPT-", "gpt", "claude/", "gpt-4"}[i%5], (i*17)%40))
		for _, entity := range []string{"alice", "bob"} {
			s.admit(0, debit(zael.Key{Entity: entity, Resource: all[i]}, ask("rpm", d, 1)))
		}
	}
	s.set(0, zael.Scope{Resource: "only-limits"}, e.micros(0), zael.PerMinute("rpm", 1))
	s.set(0, zael.Scope{Entity: "gpt-entity"}, e.micros(0), zael.PerMinute("rpm", 1))
	s.set(0, zael.Scope{Resource: all[3]}, e.micros(0), zael.PerMinute("rpm", 1))
	all = append(all, "only-limits")
	for _, size := range []int{1000, 41, 7} {
		s.resources("", size, all...)
	}
	for _, prefix := range []string{"gpt-4", "gpt-", "G", "claude/", "o", "nothing"} {
		s.resources(prefix, 3, slices.DeleteFunc(slices.Clone(all), func(name string) bool { return !strings.HasPrefix(name, prefix) })...)
	}
	return s.err
}

func listsDone(ctx context.Context, e *env) error {
	store := role[zael.ListStore](e)
	for _, gone := range done(ctx) {
		_, err := store.ListEntities(gone, zael.ListQuery{Max: 1})
		if _, err = heeds(gone, "ListEntities", err); err != nil {
			return err
		}
		_, err = store.ListScopes(gone, zael.ScopeQuery{Max: 1})
		if _, err = heeds(gone, "ListScopes", err); err != nil {
			return err
		}
		_, err = store.ListResources(gone, zael.ListQuery{Max: 1})
		if _, err = heeds(gone, "ListResources", err); err != nil {
			return err
		}
	}
	return nil
}
