package stack_test

import (
	"errors"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/stack"
)

// versioned is a stack of a program of a version, on a table with a record; nil
// for none.
func versioned(t *testing.T, client string, r *stack.Record, steps ...step) *stack.Stack {
	t.Helper()
	s := stack.NewFake(fakeName, scripted(t, steps...), nil, nil, dynamofake.New()).SetVersion(client)
	if r != nil {
		if err := s.WriteRecord(t.Context(), *r); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func record(t *testing.T, s *stack.Stack) stack.Record {
	t.Helper()
	r, err := s.Record(t.Context())
	if err != nil || r == nil {
		t.Fatalf("the record: got %v and %v, want one", r, err)
	}
	return *r
}

// connect is Open's part about versions, without options.
func connect(t *testing.T, s *stack.Stack, c stack.Config) error {
	t.Helper()
	_, err := s.Prepare(t.Context(), &c)
	return err
}

func TestNoRecordIsWritten(t *testing.T) {
	t.Parallel()
	s := versioned(t, "v1.2.3", nil, describes(fakeName, nil))
	begin := time.Now().Add(-time.Second) // records have whole seconds
	if err := connect(t, s, stack.Config{Limiter: zael.Config{Principal: "me"}}); err != nil {
		t.Fatal(err)
	}
	r := record(t, s)
	if r.Schema != stack.SchemaVersion || r.ClientMin != stack.LeastClient || r.Lambda != "" || r.UpdatedBy != "me" || r.UpdatedAt.Before(begin) || r.UpdatedAt.After(time.Now()) {
		t.Errorf("record: got %+v, want this schema, the least client, no aggregator, by me, now", r)
	}
}

// The trap is that the first process wrote a record which every later one found
// incompatible.
func TestFirstRecordFitsLaterProcesses(t *testing.T) {
	t.Parallel()
	tab := dynamofake.New()
	for _, client := range []string{"v1.2.3", "v1.2.3", "v0.9.0", "v7.0.0", "(devel)", "v0.0.0-20260101000000-abcdefabcdef+dirty"} {
		s := stack.NewFake(fakeName, standing{}, nil, nil, tab).SetVersion(client)
		if err := connect(t, s, stack.Config{}); err != nil {
			t.Errorf("a process of %s: got %v, want nil", client, err)
		}
	}
}

// Two programs find no record at the same time.
func TestTwoFirstProcesses(t *testing.T) {
	t.Parallel()
	tab := dynamofake.New()
	var wg sync.WaitGroup
	for _, client := range []string{"v1.0.0", "v2.0.0", "v1.0.0", "(devel)"} {
		s := stack.NewFake(fakeName, standing{}, nil, nil, tab).SetVersion(client)
		wg.Go(func() {
			if err := connect(t, s, stack.Config{}); err != nil {
				t.Errorf("a process of %s: got %v, want nil", client, err)
			}
		})
	}
	wg.Wait()
}

// The trap is that a client below client_min_version was accepted.
func TestOlderClientIsRefused(t *testing.T) {
	t.Parallel()
	r := stack.Record{Schema: stack.SchemaVersion, Lambda: "v2.0.0", ClientMin: "v1.5.0"}
	for client, refused := range map[string]bool{"v1.4.9": true, "v1.5.0-rc.1": true, "v1.5.0": false, "v2.0.0": false, "(devel)": false, "": false} {
		for _, c := range []stack.Config{{}, {NoAutoUpdate: true}, {AllowVersionMismatch: true}} {
			err := connect(t, versioned(t, client, &r), c)
			var v *stack.VersionError
			if errors.As(err, &v) != refused || !refused && err != nil {
				t.Errorf("client %s with %+v: got %v, want refused %v", client, c, err, refused)
			}
			if refused && v != nil {
				contains(t, "error", v.Error(), client, "v1.5.0", "upgrade this program")
			}
		}
	}
	// Nor may it change the stack.
	s := versioned(t, "v1.0.0", &r, describes(fakeName, complete(idOne, types.StackStatusCreateComplete, bare())), template(stack.Template()))
	var v *stack.VersionError
	if _, err := s.Apply(t.Context(), stack.Change{Options: bare()}); !errors.As(err, &v) {
		t.Errorf("Apply of an old client: got %v, want a *VersionError", err)
	}
	if err := connect(t, versioned(t, "v1.0.0", &r), stack.Config{SkipVersionCheck: true}); err != nil {
		t.Errorf("without the check: got %v, want nil", err)
	}
}

func TestIncompatibleSchema(t *testing.T) {
	t.Parallel()
	for schema, want := range map[string]string{"2.0.0": "newer zael", "0.9.0": "older zael", "x": "no version", "1.0.0": "", "1.7.3": "", "v1.0.0": ""} {
		r := stack.Record{Schema: schema, ClientMin: stack.LeastClient}
		err := connect(t, versioned(t, "v1.0.0", &r), stack.Config{AllowVersionMismatch: true})
		if (want == "") != (err == nil) || err != nil && (!errors.Is(err, stack.ErrIncompatibleSchema) || !strings.Contains(err.Error(), want)) {
			t.Errorf("schema %s: got %v, want ErrIncompatibleSchema that says %q", schema, err, want)
		}
		if want == "" {
			continue
		}
		s := versioned(t, "v1.0.0", &r, describes(fakeName, complete(idOne, types.StackStatusCreateComplete, bare())), template(stack.Template()))
		if _, err := s.Apply(t.Context(), stack.Change{Options: bare()}); !errors.Is(err, stack.ErrIncompatibleSchema) {
			t.Errorf("Apply on schema %s: got %v, want ErrIncompatibleSchema", schema, err)
		}
		if err := connect(t, versioned(t, "v1.0.0", &r), stack.Config{SkipVersionCheck: true}); err != nil {
			t.Errorf("schema %s without the check: got %v, want nil", schema, err)
		}
	}
}

// The schema and the programs have numbers of their own: a program's major version
// does not matter.
func TestSchemaAndProgramVersionsAreSeparate(t *testing.T) {
	t.Parallel()
	r := stack.Record{Schema: stack.SchemaVersion, Lambda: "v9.0.0", ClientMin: "v1.0.0"}
	if err := connect(t, versioned(t, "v5.0.0", &r), stack.Config{}); err != nil {
		t.Errorf("program v5 at an aggregator v9: got %v, want nil", err)
	}
}

func TestOlderLambda(t *testing.T) {
	t.Parallel()
	r := stack.Record{Schema: stack.SchemaVersion, Lambda: "v1.0.0", ClientMin: stack.LeastClient}
	code := codeOf("v1.1.0", "new")
	for name, c := range map[string]struct {
		config  stack.Config
		refused bool
	}{
		"strict":                    {stack.Config{NoAutoUpdate: true, Code: code}, true},
		"lenient":                   {stack.Config{NoAutoUpdate: true, Code: code, AllowVersionMismatch: true}, false},
		"without code":              {stack.Config{}, true},
		"without code, but lenient": {stack.Config{AllowVersionMismatch: true}, false},
		"without the check":         {stack.Config{NoAutoUpdate: true, SkipVersionCheck: true}, false},
	} {
		err := connect(t, versioned(t, "v1.1.0", &r), c.config)
		var v *stack.VersionError
		if errors.As(err, &v) != c.refused || !c.refused && err != nil {
			t.Errorf("%s: got %v, want refused %v", name, err, c.refused)
		}
		if c.refused && v != nil {
			contains(t, name, v.Error(), "v1.0.0", "v1.1.0", "zael upgrade", "AllowVersionMismatch")
		}
	}
	// A build after a tag is newer than the tag.
	var v *stack.VersionError
	if err := connect(t, versioned(t, "v1.0.1-0.20260101000000-abcdefabcdef+dirty", &r), stack.Config{}); !errors.As(err, &v) {
		t.Errorf("a client of a commit after v1.0.0: got %v, want a *VersionError", err)
	}
	for _, client := range []string{"v1.0.0", "v0.9.0", "(devel)"} { // the aggregator is not older
		if err := connect(t, versioned(t, client, &r), stack.Config{Code: code}); err != nil {
			t.Errorf("client %s: got %v, want nil", client, err)
		}
	}
}

// A program that may acquire and not update gets an error that says why, or goes on.
func TestOlderLambdaMayNotBeUpdated(t *testing.T) {
	t.Parallel()
	r := stack.Record{Schema: stack.SchemaVersion, Lambda: "v1.0.0", ClientMin: stack.LeastClient}
	refusal := step{call: "DescribeStacks", err: answered("AccessDenied", "not authorized to perform: cloudformation:DescribeStacks")}
	err := connect(t, versioned(t, "v1.1.0", &r, refusal), stack.Config{Code: codeOf("v1.1.0", "new")})
	var v *stack.VersionError
	if !errors.As(err, &v) || v.Cause == nil {
		t.Fatalf("got %v, want a *VersionError with its cause", err)
	}
	contains(t, "error", v.Error(), "not authorized", "zael upgrade")
	if err := connect(t, versioned(t, "v1.1.0", &r, refusal), stack.Config{Code: codeOf("v1.1.0", "new"), AllowVersionMismatch: true}); err != nil {
		t.Errorf("lenient: got %v, want nil", err)
	}
	// A table of no stack.
	err = connect(t, versioned(t, "v1.1.0", &r, describes(fakeName, nil)), stack.Config{Code: codeOf("v1.1.0", "new")})
	if !errors.As(err, &v) || !errors.Is(err, stack.ErrNoStack) {
		t.Errorf("without a stack: got %v, want a *VersionError for ErrNoStack", err)
	}
	// Anything else is not taken for that.
	broken := step{call: "DescribeStacks", err: answered("InternalFailure", "try later")}
	if err := connect(t, versioned(t, "v1.1.0", &r, broken), stack.Config{Code: codeOf("v1.1.0", "new"), AllowVersionMismatch: true}); err == nil || errors.As(err, &v) {
		t.Errorf("with CloudFormation out of order: got %v, want its error", err)
	}
}

// What others rely on is not taken back by an older or newer program's Apply.
func TestRecordKeepsTheGreater(t *testing.T) {
	t.Parallel()
	r := stack.Record{Schema: "1.9.0", Lambda: "v1.0.0", ClientMin: "v0.5.0"}
	is := complete(idOne, types.StackStatusCreateComplete, bare())
	s := versioned(t, "v1.0.0", &r, describes(fakeName, is), template(stack.Template()), describes(idOne, is))
	apply(t, s, stack.Change{Options: bare(), By: "me"}, stack.Unchanged)
	got := record(t, s)
	if got.Schema != "1.9.0" || got.ClientMin != "v0.5.0" || got.Lambda != "" || got.UpdatedBy != "me" {
		t.Errorf("record: got %+v, want schema 1.9.0, client v0.5.0 as before, no aggregator, by me", got)
	}
	before := got.UpdatedAt
	s = versioned(t, "v1.0.0", &got, describes(fakeName, complete(idOne, types.StackStatusCreateComplete, bare())), template(stack.Template()))
	apply(t, s, stack.Change{Options: bare(), By: "you"}, stack.Unchanged)
	if got := record(t, s); got.UpdatedBy != "me" || !got.UpdatedAt.Equal(before) {
		t.Errorf("an Apply that changes nothing: got a record by %s, want it left alone", got.UpdatedBy)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	c, err := versioned(t, "v1.1.0", nil, describes(fakeName, nil)).Check(t.Context())
	if err != nil || c.Versions != nil || c.Client != "v1.1.0" || c.Schema != stack.SchemaVersion {
		t.Errorf("without a record: got %+v and %v, want none, and the program's own", c, err)
	}
	c, err = versioned(t, "v1.1.0", &stack.Record{Schema: "1.0.0", Lambda: "v1.0.0"}, describes(fakeName, nil)).Check(t.Context())
	if err != nil || !c.Outdated {
		t.Errorf("with an older aggregator: got %+v and %v, want it outdated", c, err)
	}
	c, err = versioned(t, "v1.1.0", &stack.Record{Schema: "2.0.0", Lambda: "v1.0.0"}, describes(fakeName, nil)).Check(t.Context())
	if !errors.Is(err, stack.ErrIncompatibleSchema) || c == nil || c.Versions.Schema != "2.0.0" {
		t.Errorf("with another schema: got %+v and %v, want it and ErrIncompatibleSchema", c, err)
	}
}

func TestVersionOfTheBuild(t *testing.T) {
	t.Parallel()
	const path = "github.com/zeroae/zael"
	mod := func(path, version string) debug.Module { return debug.Module{Path: path, Version: version} }
	replaced := mod(path, "v1.0.0")
	replaced.Replace = &debug.Module{Path: "../zael"}
	own, other := mod(path, "v1.2.3"), mod("example.com/x", "v9.9.9")
	for want, info := range map[string]*debug.BuildInfo{
		"v1.2.3":                             {Main: own},
		"v1.2.4-0.20260101000000-abcdefabcd": {Main: mod("example.com/app", "v7.0.0"), Deps: []*debug.Module{&other, {Path: path, Version: "v1.2.4-0.20260101000000-abcdefabcd"}}},
		"(devel)":                            {Main: mod("example.com/app", "v7.0.0"), Deps: []*debug.Module{&replaced}},
	} {
		if got := stack.VersionIn(info); got != want {
			t.Errorf("VersionIn(%+v): got %s, want %s", info, got, want)
		}
	}
	if got := stack.VersionIn(&debug.BuildInfo{Main: mod(path, "")}); got != "(devel)" {
		t.Errorf("of a build without a version: got %s, want (devel)", got)
	}
	if got := stack.Version(); got == "" {
		t.Error("Version: got none")
	}
}
