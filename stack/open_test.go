package stack_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/stack"
)

// opened is Open on the emulator.
func opened(t *testing.T, c stack.Config) (*zael.Limiter, error) {
	t.Helper()
	a := configOf(t, emulator.Endpoint(t))
	c.AWS = &a
	c.Store.CallTimeout, c.Limiter.Timeout = time.Minute, time.Minute // the machine may be busy
	return stack.Open(t.Context(), &c)
}

func request(n int64) zael.Request {
	return zael.Request{Entity: "key-1", Resource: "gpt-4", Limits: []zael.Limit{zael.PerDay("rpd", 10)}, Consume: zael.Amounts{"rpd": n}}
}

// The original's constructor in one call: stack, table, limiter.
func TestOpen(t *testing.T) {
	t.Parallel()
	name := newName()
	var seen progress
	config := stack.Config{
		Name: name, Options: &stack.Options{}, Code: codeOf("v1.0.0", "one"), Progress: seen.note,
		Limiter: zael.Config{Principal: "me", FailureMode: zael.FailClosed},
	}
	l, err := opened(t, config)
	if err != nil {
		t.Fatal(err)
	}
	if len(seen.texts()) == 0 {
		t.Error("progress: got none")
	}
	if err := l.Allow(t.Context(), request(9)); err != nil {
		t.Errorf("Allow: got %v, want nil", err)
	}

	// Another process only connects, and finds the same bucket.
	other, err := opened(t, stack.Config{Name: "ZAEL-" + name})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Allow(t.Context(), request(2)); !errors.Is(err, zael.ErrExceeded) {
		t.Errorf("Allow of the second process: got %v, want ErrExceeded", err)
	}
	if _, err := other.Usage(t.Context(), zael.UsageQuery{Entity: "key-1"}); err != nil {
		t.Errorf("usage: got %v, want it counted, as the stack has an aggregator", err)
	}
	// Another namespace, another tenant.
	tenant, err := opened(t, stack.Config{Name: name, Store: dynamostore.Config{Namespace: "tenant"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := tenant.Allow(t.Context(), request(2)); err != nil {
		t.Errorf("Allow in another namespace: got %v, want nil", err)
	}
	for _, l := range []*zael.Limiter{l, other, tenant} {
		if err := l.Close(t.Context()); err != nil {
			t.Errorf("Close: got %v, want nil", err)
		}
	}
	remove(t, emulated(t, name))
}

// Close closes the store that Open made.
func TestOpenClosesItsStore(t *testing.T) {
	t.Parallel()
	name := newName()
	l, err := opened(t, stack.Config{Name: name, Options: bare()})
	if err != nil {
		t.Fatal(err)
	}
	lease, err := l.Acquire(t.Context(), request(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := lease.Settle(zael.Amounts{"rpd": 2}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Errorf("Close: got %v, want nil", err)
	}
	if err := lease.Commit(t.Context()); !errors.Is(err, zael.ErrClosed) {
		t.Errorf("Commit after Close: got %v, want ErrClosed: the store is closed too", err)
	}
	if err := l.Close(t.Context()); !errors.Is(err, zael.ErrClosed) {
		t.Errorf("Close again: got %v, want ErrClosed", err)
	}
	remove(t, emulated(t, name))
}

// Without a function usage is counted only if the program says that something
// else counts.
func TestOpenUsage(t *testing.T) {
	t.Parallel()
	name := newName()
	for counted, c := range map[bool]stack.Config{false: {Options: bare()}, true: {Options: bare(), Store: dynamostore.Config{UsageCounted: true}}} {
		c.Name = name
		l, err := opened(t, c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Usage(t.Context(), zael.UsageQuery{Entity: "key-1"}); errors.Is(err, errors.ErrUnsupported) == counted {
			t.Errorf("usage counted %v: got %v", counted, err)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	remove(t, emulated(t, name))
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	a := configOf(t, "http://127.0.0.1:1")
	nowhere := a
	nowhere.Region = ""
	for field, c := range map[string]*stack.Config{
		"Config":                nil,
		"Config.Region":         {Name: "demo", AWS: &nowhere},
		"name":                  {Name: "1", AWS: &a},
		"Options.RetentionDays": {Name: "demo", AWS: &a, Options: &stack.Options{RetentionDays: -1}},
		"Config.Namespace":      {Name: "demo", AWS: &a, Store: dynamostore.Config{Namespace: "a/b"}, SkipVersionCheck: true},
		"Config.Timeout":        {Name: "demo", AWS: &a, SkipVersionCheck: true, Limiter: zael.Config{Timeout: -1}},
		"endpoint":              {Name: "demo", Region: "eu-central-1", Endpoint: "nonsense"},
	} {
		var v *zael.ValidationError
		if _, err := stack.Open(t.Context(), c); !errors.As(err, &v) || v.Field != field {
			t.Errorf("Open: got %v, want a *ValidationError of %s", err, field)
		}
	}
}

// A program that is newer than the function brings it up to date, without a word
// about options.
func TestAutoUpdate(t *testing.T) {
	t.Parallel()
	s := emulated(t, newName())
	options := stack.Options{RetentionDays: 7}
	apply(t, s, stack.Change{Options: &options, Code: codeOf("v1.0.0", "one")}, stack.Created)

	s.SetVersion("v1.1.0")
	r, err := s.Prepare(t.Context(), &stack.Config{Code: codeOf("", "two")})
	if err != nil || r.Lambda != "v1.1.0" {
		t.Fatalf("a newer program: got %+v and %v, want the aggregator v1.1.0", r, err)
	}
	st := status(t, s, &options)
	if len(st.Drift) != 0 || st.Outputs["AggregatorVersion"] != "v1.1.0" || st.Versions.Lambda != "v1.1.0" {
		t.Errorf("status: got drift %v, function %s and record %+v, want none and v1.1.0", st.Drift, st.Outputs["AggregatorVersion"], st.Versions)
	}

	// Told not to, it leaves the function, with other options too.
	s.SetVersion("v1.2.0")
	options.RetentionDays = 8
	var v *stack.VersionError
	if _, err := s.Prepare(t.Context(), &stack.Config{Options: &options, Code: codeOf("", "three"), NoAutoUpdate: true}); !errors.As(err, &v) || v.Lambda != "v1.1.0" {
		t.Errorf("a newer program that must not update: got %v, want a *VersionError", err)
	}
	if st := status(t, s, &options); len(st.Drift) != 0 || st.Outputs["AggregatorVersion"] != "v1.1.0" {
		t.Errorf("status: got drift %v and function %s, want none and v1.1.0", st.Drift, st.Outputs["AggregatorVersion"])
	}

	// An older program changes options, and not the code.
	s.SetVersion("v1.0.5")
	options.RetentionDays = 9
	if r, err := s.Prepare(t.Context(), &stack.Config{Options: &options, Code: codeOf("", "four")}); err != nil || r.Lambda != "v1.1.0" {
		t.Errorf("an older program: got %+v and %v, want it to go on with v1.1.0", r, err)
	}
	remove(t, s)
}

// Programs of several versions start at once: the newest one's function is left,
// and nobody fails.
func TestTwoVersionsStartAtOnce(t *testing.T) {
	t.Parallel()
	name := newName()
	apply(t, emulated(t, name), stack.Change{Options: &stack.Options{}, Code: codeOf("v1.0.0", "v1.0.0")}, stack.Created)
	var wg sync.WaitGroup
	for _, version := range []string{"v1.1.0", "v1.3.0", "v1.2.0", "v1.3.0"} {
		s := emulated(t, name).SetVersion(version)
		wg.Go(func() {
			if _, err := s.Prepare(t.Context(), &stack.Config{Code: codeOf("", version)}); err != nil {
				t.Errorf("a program of %s: got %v, want nil", version, err)
			}
		})
	}
	wg.Wait()
	s := emulated(t, name)
	if st := status(t, s, nil); st.Outputs["AggregatorVersion"] != "v1.3.0" || st.Versions.Lambda != "v1.3.0" {
		t.Errorf("in the end: got function %s and record %s, want v1.3.0", st.Outputs["AggregatorVersion"], st.Versions.Lambda)
	}
	remove(t, s)
}

// Roll back: a person deploys an older program's code on purpose.
func TestRollBackByHand(t *testing.T) {
	t.Parallel()
	s := emulated(t, newName())
	apply(t, s, stack.Change{Options: &stack.Options{}, Code: codeOf("v1.1.0", "two")}, stack.Created)
	r := apply(t, s, stack.Change{Code: codeOf("v1.0.0", "one")}, stack.Updated)
	if r.Versions.Lambda != "v1.0.0" {
		t.Errorf("versions: got Lambda %s, want v1.0.0", r.Versions.Lambda)
	}
	remove(t, s)
}

func TestTableIsUsableWithoutVersions(t *testing.T) {
	t.Parallel()
	name := newName()
	l, err := opened(t, stack.Config{Name: name, Options: &stack.Options{}, Code: codeOf("v1.0.0", "one"), SkipVersionCheck: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Do(t.Context(), request(1), func(context.Context, *zael.Lease) error { return nil }); err != nil {
		t.Errorf("Do: got %v, want nil", err)
	}
	s := emulated(t, name)
	if r, err := s.Record(t.Context()); r != nil || err != nil {
		t.Errorf("the record: got %+v and %v, want none", r, err)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
	remove(t, s)
}
