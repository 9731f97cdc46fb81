package storetest_test

import (
	"context"
	"errors"
	"iter"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/memstore"
	"github.com/zeroae/zael/storetest"
)

func allRoles() []storetest.Role {
	return []storetest.Role{
		storetest.Kinds, storetest.InstantStore, storetest.LocalStore, storetest.EntityStore, storetest.LimitStore, storetest.AdminStore, storetest.OnceStore, storetest.SlotStore, storetest.Applier,
		storetest.CapacityReader, storetest.ListStore, storetest.UsageStore, storetest.AuditStore,
	}
}

func TestReference(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(*testing.T) zael.Store { return newReference() }, allRoles()...)
}

// Random operations of all kinds, on buckets as package bucket has them and in memory.
func TestRandomKinds(t *testing.T) {
	t.Parallel()
	for seed := range schedules.Seeds(t, 20) {
		for _, store := range []zael.Store{newReference(), memstore.New(nil)} {
			if err := storetest.Check(t.Context(), randomKinds, store, seed, false, time.Hour); err != nil {
				t.Errorf("%T: %v", store, err)
			}
		}
	}
}

const randomKinds = "Kinds/random operations of all kinds against a second formulation"

// forgetful drops what is full at once, and counts what it has not by the
// latest instant at which it dropped something.
func forgetful() *reference {
	s := newReference()
	s.after = func(s *reference, at bucket.Instant) {
		if forget(s, at) {
			s.swept = max(s.swept, at)
		}
	}
	return s
}

// steady counts by the latest instant that it was told.
func steady() *reference {
	s := newReference()
	s.instant = func(s *reference, _ bucket.Instant) bucket.Instant { return s.latest }
	return s
}

// forgetfulAndSteady drops what is full, and then counts by that instant.
func forgetfulAndSteady() *reference {
	s := newReference()
	s.after = func(s *reference, at bucket.Instant) {
		if forget(s, at) {
			s.swept = max(s.swept, at)
		}
	}
	s.instant = func(s *reference, now bucket.Instant) bucket.Instant { return max(now, s.swept) }
	return s
}

// An unlocal is a reference that is no LocalStore: methods that two parts have are those of neither.
type unlocal struct {
	*reference
	zael.LocalStore
}

// TestOtherGoodStores: what the contracts leave open, the checks leave open.
func TestOtherGoodStores(t *testing.T) {
	t.Parallel()
	for name, store := range map[string]func() *reference{
		"forgetful": forgetful, "steady": steady, "forgetful and steady": forgetfulAndSteady,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && name != "forgetful and steady" {
				t.Skip("the one that is both is enough; each is a part of make check")
			}
			if testing.Short() { // LocalStore repeats what BucketStore asks
				storetest.Run(t, func(*testing.T) zael.Store { return unlocal{reference: store()} }, slices.DeleteFunc(allRoles(), func(r storetest.Role) bool { return r == storetest.LocalStore })...)
				return
			}
			storetest.Run(t, func(*testing.T) zael.Store { return store() }, allRoles()...)
		})
	}
}

// plain is a store with no role but the one that all have.
type plain struct{ zael.Store }

// Take refuses other kinds of limits than plain rates.
func (p plain) Take(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
	for _, d := range debits {
		for _, c := range d.Charges {
			if !c.Definition.Plain() {
				return now, &zael.ValidationError{Field: c.Name, Reason: "is no plain rate"}
			}
		}
	}
	return p.Store.Take(ctx, now, maxWait, debits)
}

func TestMissingRoles(t *testing.T) {
	t.Parallel()
	uncounted := overridden(func(o *override, _ *reference) {
		o.usage = func(context.Context, zael.UsageQuery) iter.Seq2[zael.UsageRecord, error] {
			return func(yield func(zael.UsageRecord, error) bool) { yield(zael.UsageRecord{}, errors.ErrUnsupported) }
		}
	})
	for _, role := range allRoles() {
		if err := storetest.Missing(t.Context(), newReference(), role); err != nil {
			t.Errorf("role %s of a store that has it: got %v, want none", role, err)
		}
		err := storetest.Missing(t.Context(), plain{newReference()}, role)
		if err == nil || !strings.Contains(err.Error(), string(role)) {
			t.Errorf("role %s of a store without it: got %v, want an error that names it", role, err)
		}
		if err := storetest.Missing(t.Context(), uncounted, role); (err != nil) != (role == storetest.UsageStore) {
			t.Errorf("role %s of a store that counts no usage: got %v", role, err)
		}
	}
	if err := storetest.Missing(t.Context(), newReference(), "UsageReader"); err == nil {
		t.Errorf("a role that there is not: got none, want an error")
	}
}

// inside names the case of TestRunInside that a run of this program is for.
const inside = "ZAEL_STORETEST_INSIDE"

// TestRunInside is what TestRun runs.
func TestRunInside(t *testing.T) {
	t.Parallel()
	switch os.Getenv(inside) {
	case "":
		t.Skip("only inside TestRun")
	case "good":
		storetest.Run(t, func(*testing.T) zael.Store { return newReference() }, allRoles()...)
	case "without roles":
		storetest.Run(t, func(*testing.T) zael.Store { return plain{newReference()} })
	case "role missing":
		storetest.Run(t, func(*testing.T) zael.Store { return plain{newReference()} }, storetest.LimitStore)
	case "broken":
		storetest.Run(t, func(*testing.T) zael.Store {
			return overridden(func(_ *override, good *reference) { good.key = lower })
		})
	case "panics":
		storetest.Run(t, func(*testing.T) zael.Store { return &override{} })
	}
}

// TestRun runs this program on stores that Run has to fail, and reads what it
// says.
func TestRun(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, run, seed string
		passes          bool
		says            []string
	}{
		{name: "good", run: "BucketStore/random", seed: "7", passes: true, says: []string{"--- PASS: TestRunInside/BucketStore/random"}},
		{name: "without roles", run: "LimitStore|BucketStore/a_take", passes: true, says: []string{"--- SKIP: TestRunInside/LimitStore", "is no zael.LimitStore", "--- PASS: TestRunInside/BucketStore"}},
		{name: "role missing", run: "LimitStore", says: []string{"--- FAIL: TestRunInside/LimitStore", "storetest_test.plain is no zael.LimitStore"}},
		{name: "broken", run: "BucketStore/keys|BucketStore/a_take", says: []string{"--- FAIL: TestRunInside/BucketStore/keys_that_differ_are_different_buckets", "--- PASS: TestRunInside/BucketStore/a_take_charges_every_limit"}},
		{name: "broken", run: "BucketStore/random", seed: "7", says: []string{"seed 7 (ZAEL_STORETEST_SEED=7 replays it)", "the last operations:"}},
		{name: "good", run: "", seed: "seven", says: []string{"ZAEL_STORETEST_SEED", `"seven"`}},
		{name: "panics", run: "BucketStore/a_take_charges_every", says: []string{"panic: ", "take.go"}},
	} {
		t.Run(tt.name+" "+tt.run+" "+tt.seed, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run=^TestRunInside$/"+strings.ReplaceAll(tt.run, "|", "|^TestRunInside$/")) //nolint:gosec // this program
			cmd.Env = append(os.Environ(), inside+"="+tt.name, storetest.SeedVariable+"="+tt.seed)
			out, err := cmd.CombinedOutput()
			if passes := err == nil; passes != tt.passes {
				t.Errorf("%s: got passed = %t, want %t", cmd, passes, tt.passes)
			}
			for _, want := range tt.says {
				if !strings.Contains(string(out), want) {
					t.Errorf("%s: got no %q in the output, want it", cmd, want)
				}
			}
			if t.Failed() {
				t.Logf("%s", out)
			}
		})
	}
}
