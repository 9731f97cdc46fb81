package storetest_test

import (
	"cmp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/storetest"
)

// A brokenStore is a store with one defect, and the checks that have to find it.
type brokenStore struct {
	name     string
	make     func() zael.Store
	fails    []string
	patience time.Duration // for defects that block; a minute if 0
}

func brokenStores() []brokenStore {
	return slices.Concat(
		brokenTakes(), brokenMethods(), brokenDefinitions(), brokenAdjusts(), brokenTimes(),
		brokenConcurrency(), brokenEntities(), brokenLists(), brokenLimits(), brokenApplies(), brokenAdmins(), brokenOnces(), brokenUsage(), brokenOverdrawn(), brokenAudit(), brokenNames(), brokenValues(), brokenKinds(),
	)
}

// step is a store with steps replaced.
func step(change func(*reference)) func() zael.Store {
	return func() zael.Store {
		s := newReference()
		change(s)
		return s
	}
}

// method is a store with methods replaced.
func method(change func(o *override, good *reference)) func() zael.Store {
	return func() zael.Store { return overridden(change) }
}

// TestBrokenStores runs, on each broken store, the checks that are meant for it.
func TestBrokenStores(t *testing.T) {
	t.Parallel()
	for _, b := range brokenStores() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			for _, name := range b.fails {
				err := storetest.Check(t.Context(), name, b.make(), 1, true, cmp.Or(b.patience, time.Minute))
				if err == nil {
					t.Errorf("%q: got it passed, want it to fail", name)
					continue
				}
				t.Logf("%q: %v", name, err)
			}
		})
	}
}

// TestEveryCheckHasTeeth asks that each check is failed by some broken store.
func TestEveryCheckHasTeeth(t *testing.T) {
	t.Parallel()
	failed := map[string]bool{}
	for _, b := range brokenStores() {
		if len(b.fails) == 0 {
			t.Errorf("broken store %q: got no check that it fails, want one or more", b.name)
		}
		for _, name := range b.fails {
			failed[name] = true
		}
	}
	for _, name := range storetest.CheckNames() {
		if !failed[name] {
			t.Errorf("check %q: got no broken store that fails it, want one or more", name)
		}
		delete(failed, name)
	}
	for name := range failed {
		if !strings.HasPrefix(name, "LocalStore/") && !strings.HasPrefix(name, "ValueStore/") {
			t.Errorf("broken stores name the check %q, which there is not", name)
		}
	}
}
