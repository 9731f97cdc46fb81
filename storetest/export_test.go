package storetest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/zeroae/zael"
)

// CheckNames are the names of all checks, as role and name. What LocalStore and ValueStore
// repeat of others is left out.
func CheckNames() []string {
	var names []string
	for _, g := range groups() {
		for _, c := range g.checks {
			name := string(g.role) + "/" + c.name
			repeats := slices.ContainsFunc([]Role{bucketStore, Kinds}, func(r Role) bool { return slices.Contains(names, string(r)+"/"+c.name) })
			if g.role != LocalStore && g.role != ValueStore || !repeats {
				names = append(names, name)
			}
		}
	}
	return names
}

// checks are all of them, by role and name.
var checks = sync.OnceValue(func() map[string]check {
	all := map[string]check{}
	for _, g := range groups() {
		for _, c := range g.checks {
			all[string(g.role)+"/"+c.name] = c
		}
	}
	return all
})

// Check runs one check on a store.
func Check(ctx context.Context, name string, store zael.Store, seed uint64, short bool, patience time.Duration) error {
	c, ok := checks()[name]
	if !ok {
		panic("no check " + name)
	}
	e := newEnv(store, seed)
	e.short = short
	return c.try(ctx, e, patience)
}

// RunRole is Run of the checks of one role.
func RunRole(t *testing.T, factory func(t *testing.T) zael.Store, role Role) {
	t.Helper()
	all := slices.DeleteFunc(groups(), func(g group) bool { return g.role != role })
	runGroups(t, factory, all, []Role{role})
}

// Missing is why a store does not have a role.
func Missing(ctx context.Context, store zael.Store, role Role) error {
	return missing(ctx, store, role)
}

// NamespaceCheckNames are the names of the checks of RunNamespaces.
func NamespaceCheckNames() []string {
	var names []string
	for _, c := range namespaceChecks() {
		names = append(names, c.name)
	}
	return names
}

// CheckNamespaces runs one check of RunNamespaces.
func CheckNamespaces(ctx context.Context, name string, open func(namespace string) zael.Store) error {
	for _, c := range namespaceChecks() {
		if c.name == name {
			return c.run(ctx, newSpaces(open))
		}
	}
	panic("no check " + name)
}
