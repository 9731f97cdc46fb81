// Package storetest implements a conformance test for stores. It checks each
// sentence of the comments on zael.Store and its roles; what a store answers about
// tokens it compares with package bucket.
//
//	var _ zael.LimitStore = (*mystore.Store)(nil)
//
//	func TestStore(t *testing.T) {
//		t.Parallel()
//		storetest.Run(t, func(t *testing.T) zael.Store {
//			s, err := mystore.Open(t.TempDir())
//			if err != nil {
//				t.Fatal(err)
//			}
//			t.Cleanup(func() { s.Close() })
//			return s
//		}, storetest.LimitStore)
//	}
//
// Stores get the time as an argument, so no check waits for it to pass.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/zeroae/zael"
)

// A Role is one of the interfaces that zael finds in a store by type assertion, or
// something else that a store may lack.
type Role string

// The roles that a store may have besides zael.BucketStore.
const (
	Kinds          Role = "Kinds" // other kinds of limits than plain rates
	InstantStore   Role = "InstantStore"
	LocalStore     Role = "LocalStore"
	ValueStore     Role = "ValueStore"
	EntityStore    Role = "EntityStore"
	LimitStore     Role = "LimitStore"
	AdminStore     Role = "AdminStore"
	OnceStore      Role = "OnceStore"
	SlotStore      Role = "SlotStore"
	Applier        Role = "Applier"
	CapacityReader Role = "CapacityReader"
	ListStore      Role = "ListStore"
	UsageStore     Role = "UsageStore"
	AuditStore     Role = "AuditStore"

	bucketStore Role = "BucketStore"
)

// SeedVariable is the environment variable with the seed of the random checks: that of
// a failure, which printed it, or another one than 1, which they have without it.
const SeedVariable = "ZAEL_STORETEST_SEED"

// LongVariable is the environment variable that says how many times as many operations as without
// it the random checks and those with many callers make.
const LongVariable = "ZAEL_STORETEST_LONG"

// patienceOf returns how long a check may take before it counts as stuck: half of what go test
// leaves its tests, so that a slow machine may take its time and a stuck check is still named.
func patienceOf(t *testing.T) time.Duration {
	t.Helper()
	deadline, ok := t.Deadline()
	if !ok {
		return 24 * time.Hour // go test -timeout 0 waits for ever too
	}
	return time.Until(deadline) / 2
}

// Run runs each check in a parallel subtest, and returns when all have ended. It
// calls factory for each of them, from several goroutines; factory returns a new,
// empty store and registers its cleanup with t.
//
// If the store does not have a role, or answers its methods with
// errors.ErrUnsupported, the checks of that role are skipped, or fail if it is one of
// roles. With -short, some checks use fewer buckets.
func Run(t *testing.T, factory func(t *testing.T) zael.Store, roles ...Role) {
	t.Helper()
	runGroups(t, factory, groups(), roles)
}

func runGroups(t *testing.T, factory func(t *testing.T) zael.Store, groups []group, roles []Role) {
	t.Helper()
	seed, err := fromEnvironment(SeedVariable)
	if err != nil {
		t.Fatal(err)
	}
	long, err := fromEnvironment(LongVariable)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		t.Run(string(g.role), func(t *testing.T) {
			if err := missing(t.Context(), factory(t), g.role); err != nil {
				if slices.Contains(roles, g.role) {
					t.Fatal(err)
				}
				t.Skip(err)
			}
			for _, c := range g.checks {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					store := factory(t)
					for _, role := range c.also {
						if err := missing(t.Context(), store, role); err != nil {
							t.Skip(err)
						}
					}
					e := newEnv(store, seed)
					e.long = int(long)
					if err := c.try(t.Context(), e, patienceOf(t)); err != nil {
						t.Error(err)
					}
				})
			}
		})
	}
}

// A check tests one sentence of a contract. It returns an error and has no testing.T,
// so that the checks can be tested with broken stores.
type check struct {
	name string
	also []Role // what the store needs beside the role of the group
	run  func(ctx context.Context, e *env) error
}

// A group is the checks of one role.
type group struct {
	role   Role
	checks []check
}

func groups() []group {
	return []group{
		{bucketStore, bucketChecks()},
		{Kinds, kindChecks()},
		{InstantStore, instantChecks()},
		{LocalStore, localChecks()},
		{ValueStore, valueChecks()},
		{EntityStore, entityChecks()},
		{LimitStore, limitChecks()},
		{AdminStore, adminChecks()},
		{OnceStore, onceChecks()},
		{SlotStore, slotChecks()},
		{Applier, applyChecks()},
		{CapacityReader, capacityChecks()},
		{ListStore, listChecks()},
		{UsageStore, usageChecks()},
		{AuditStore, auditChecks()},
	}
}

func bucketChecks() []check {
	return slices.Concat(
		takeChecks(), refusalChecks(), definitionChecks(), adjustChecks(), giveChecks(),
		readChecks(), timeChecks(), forgetChecks(), nameChecks(), contextChecks(),
		concurrentChecks(), cascadeChecks(), modelChecks(),
	)
}

// try runs the check and gives up on one that is stuck.
func (c check) try(ctx context.Context, e *env, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
		}()
		done <- c.run(ctx, e)
	}()
	stuck := time.NewTimer(patience + patience/4) // stores that heed ctx have answered by then
	defer stuck.Stop()
	select {
	case err := <-done:
		return err
	case <-stuck.C:
		return fmt.Errorf("no end after %v: a deadlock, or far too slow", patience)
	}
}

// missing returns nil if a store has a role, and otherwise why not.
func missing(ctx context.Context, store zael.Store, role Role) error {
	var has bool
	var err error // of a first question
	switch role {
	case InstantStore:
		_, has = store.(zael.InstantStore)
	case LocalStore:
		_, has = store.(zael.LocalStore)
	case ValueStore:
		_, has = store.(zael.ValueStore)
	case EntityStore:
		var s zael.EntityStore
		if s, has = store.(zael.EntityStore); has {
			_, err = s.Entities(ctx, []string{"probe"})
		}
	case LimitStore:
		var s zael.LimitStore
		if s, has = store.(zael.LimitStore); has {
			_, err = s.Limits(ctx, []zael.Scope{{}})
		}
	case AdminStore:
		var s zael.AdminStore
		if s, has = store.(zael.AdminStore); has {
			_, err = s.State(ctx)
		}
	case OnceStore:
		var s zael.OnceStore
		if s, has = store.(zael.OnceStore); has {
			_, _, err = s.TakeOnce(ctx, time.Date(2026, time.January, 13, 14, 0, 0, 0, time.UTC), 0, nil, zael.OnceTake{})
		}
	case SlotStore:
		_, has = store.(zael.SlotStore)
	case Applier:
		_, has = store.(zael.Applier)
	case CapacityReader:
		var s zael.CapacityReader
		if s, has = store.(zael.CapacityReader); has {
			_, err = collect(s.ResourceBuckets(ctx, "probe"))
		}
	case ListStore:
		var s zael.ListStore
		if s, has = store.(zael.ListStore); has {
			_, err = s.ListResources(ctx, zael.ListQuery{Max: 1})
		}
	case UsageStore:
		var s zael.UsageStore
		if s, has = store.(zael.UsageStore); has {
			_, err = collect(s.Usage(ctx, zael.UsageQuery{Entity: "probe"}))
		}
	case AuditStore:
		var s zael.AuditStore
		if s, has = store.(zael.AuditStore); has {
			_, err = collect(s.Audit(ctx, zael.AuditQuery{}))
		}
	case bucketStore:
		has = true
	case Kinds:
		return missingKinds(ctx, store)
	default:
		return fmt.Errorf("storetest knows no role %q", role)
	}
	switch {
	case !has:
		return fmt.Errorf("%T is no zael.%s", store, role)
	case errors.Is(err, errors.ErrUnsupported):
		return fmt.Errorf("%T is no zael.%s: it says %w", store, role, err)
	}
	return nil // any other error is for the checks to report
}

// fromEnvironment returns the number that a variable has, 1 if it is not set.
func fromEnvironment(variable string) (uint64, error) {
	text := os.Getenv(variable)
	if text == "" {
		return 1, nil
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%s=%q: want a whole number above 0", variable, text)
	}
	return n, nil
}
