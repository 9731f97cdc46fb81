package stack_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/stack"
)

// apply applies and wants an outcome.
func apply(t *testing.T, s *stack.Stack, c stack.Change, want stack.Outcome) *stack.Result {
	t.Helper()
	r, err := s.Apply(t.Context(), c)
	if err != nil {
		t.Fatalf("Apply: got %v, want %s", err, want)
	}
	if r.Outcome != want {
		t.Fatalf("Apply: got %s, want %s", r.Outcome, want)
	}
	return r
}

// The whole life of a stack on the emulator.
func TestLife(t *testing.T) {
	t.Parallel()
	s := emulated(t, newName())
	code := codeOf("v1.0.0", "one")
	var seen progress
	change := stack.Change{Options: &stack.Options{Tags: map[string]string{"team": "a"}}, Code: code, Progress: seen.note, By: "the test"}

	// Create, with all that is in it.
	r := apply(t, s, change, stack.Created)
	if r.Status != "CREATE_COMPLETE" || r.Stack != s.Name() {
		t.Errorf("created: got %+v, want CREATE_COMPLETE of %s", r, s.Name())
	}
	for _, name := range []string{
		"TableName", "TableArn", "StreamArn", "AggregatorName", "AggregatorArn", "DeadLettersUrl", "DeadLettersArn", "DeadLettersAlarmArn",
		"ErrorsAlarmArn", "DurationAlarmArn", "IteratorAgeAlarmArn", "ReadThrottleAlarmArn", "WriteThrottleAlarmArn", "IndexReadThrottleAlarmArn", "IndexWriteThrottleAlarmArn",
		"AcquirePolicyArn", "AdminPolicyArn", "ReadPolicyArn",
		"NamespaceAcquirePolicyArn", "NamespaceAdminPolicyArn", "NamespaceReadPolicyArn", "LogGroupName", "AggregatorRoleArn",
	} {
		if r.Outputs[name] == "" {
			t.Errorf("output %s: got none", name)
		}
	}
	if got := r.Outputs["TableName"]; got != s.Name() {
		t.Errorf("the table: got %q, want %q", got, s.Name())
	}
	if r.Versions == nil || r.Versions.Lambda != "v1.0.0" || r.Versions.Schema != stack.SchemaVersion || r.Versions.UpdatedBy != "the test" {
		t.Errorf("versions: got %+v, want Lambda v1.0.0, schema %s, by the test", r.Versions, stack.SchemaVersion)
	}
	events := seen.texts()
	for _, want := range []string{s.Name() + " CREATE_IN_PROGRESS", "Table CREATE_COMPLETE", "Mapping CREATE_COMPLETE", s.Name() + " CREATE_COMPLETE"} {
		if !slices.Contains(events, want) {
			t.Errorf("progress: got %q, want %q among them", events, want)
		}
	}

	// Again: nothing to do, and nothing is done.
	apply(t, s, change, stack.Unchanged)
	apply(t, s, stack.Change{Code: code}, stack.Unchanged) // its own options

	// Other options.
	options := stack.Options{RetentionDays: 30, Windows: []zael.Window{zael.Monthly, zael.Hourly}, LambdaMemoryMB: 512, DeletionProtection: true}
	change.Options = &options
	r = apply(t, s, change, stack.Updated)
	if !slices.ContainsFunc(r.Changes, func(c stack.ResourceChange) bool { return c.Resource == "Aggregator" && c.Action == "Modify" }) {
		t.Errorf("changes: got %+v, want Modify of the Aggregator", r.Changes)
	}
	st := status(t, s, &options)
	if len(st.Drift) != 0 || st.Options.RetentionDays != 30 || !st.Protected || len(st.Options.Tags) != 0 {
		t.Errorf("status after the update: got %+v, want the options, protected, no tags and no drift", st)
	}

	// Other code: another key, the record follows.
	change.Code = codeOf("v1.1.0", "two")
	r = apply(t, s, change, stack.Updated)
	if v := r.Versions; v.Lambda != "v1.1.0" || v.Windows != "hourly,monthly" || v.Retention != 30 {
		t.Errorf("versions: got %+v, want Lambda v1.1.0, hourly and monthly, kept 30 days", v)
	}
	apply(t, s, change, stack.Unchanged)

	// Protected, then not.
	var e *stack.Error
	if err := s.Delete(t.Context(), nil); !errors.As(err, &e) || e.Op != "delete" {
		t.Fatalf("Delete of a protected stack: got %v, want a *stack.Error", err)
	}
	contains(t, "error", e.Error(), "protected", "--deletion-protection=false")
	options.DeletionProtection = false
	apply(t, s, change, stack.Updated)
	if err := s.Delete(t.Context(), nil); err != nil {
		t.Fatalf("Delete: got %v, want nil", err)
	}
	if err := s.Delete(t.Context(), nil); err != nil {
		t.Errorf("Delete of a missing stack: got %v, want nil", err)
	}
	if _, err := s.Status(t.Context(), nil); !errors.Is(err, stack.ErrNoStack) {
		t.Errorf("Status of a missing stack: got %v, want ErrNoStack", err)
	}
	if _, err := s.Apply(t.Context(), stack.Change{Code: code}); !errors.Is(err, stack.ErrNoStack) {
		t.Errorf("Apply without options to a missing stack: got %v, want ErrNoStack", err)
	}
}

func status(t *testing.T, s *stack.Stack, want *stack.Options) *stack.Status {
	t.Helper()
	st, err := s.Status(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// broken is the template with a condition that never comes true.
func broken(t *testing.T) string {
	t.Helper()
	text := strings.Replace(stack.Template(), "\nResources:\n", `
Resources:
  Handle:
    Type: AWS::CloudFormation::WaitConditionHandle
  Never:
    Type: AWS::CloudFormation::WaitCondition
    Properties: {Handle: !Ref Handle, Timeout: "1", Count: 1}
`, 1)
	if text == stack.Template() {
		t.Fatal("the template has no Resources")
	}
	return text
}

// A failure of the creation, of which the events say the reason, and the repair:
// the trap is that a stack in ROLLBACK_COMPLETE was taken for a good one.
func TestRollbackCompleteIsNotFine(t *testing.T) {
	t.Parallel()
	name := newName()
	s := emulated(t, name)
	change := stack.Change{Options: &stack.Options{}, Code: codeOf("v1.0.0", "one")}
	_, err := emulated(t, name).SetTemplate(broken(t)).Apply(t.Context(), change)
	var e *stack.Error
	if !errors.As(err, &e) || e.Op != "create" || e.Stack != s.Name() || len(e.Events) == 0 {
		t.Fatalf("Apply of a broken template: got %v, want a *stack.Error of the creation with events", err)
	}
	if first := e.Events[0]; first.Resource != "Never" || !first.Failed() || !strings.Contains(e.Reason, "Never") {
		t.Errorf("error: got first event %+v and reason %q, want those of Never", first, e.Reason)
	}
	if got := status(t, s, nil).Status; got != "ROLLBACK_COMPLETE" {
		t.Errorf("status: got %s, want ROLLBACK_COMPLETE", got)
	}
	var seen progress
	change.Progress = seen.note
	apply(t, s, change, stack.Created)
	if events := seen.texts(); !slices.Contains(events, s.Name()+" DELETE_COMPLETE") {
		t.Errorf("progress: got %q, want the deletion of the failed stack", events)
	}
	remove(t, s)
}

// A failure of an update leaves the stack as it was, and can be repaired.
func TestUpdateFailsAndIsRepaired(t *testing.T) {
	t.Parallel()
	name := newName()
	s := emulated(t, name)
	change := stack.Change{Options: &stack.Options{}, Code: codeOf("v1.0.0", "one")}
	apply(t, s, change, stack.Created)
	change.Options = &stack.Options{RetentionDays: 7}
	_, err := emulated(t, name).SetTemplate(broken(t)).Apply(t.Context(), change)
	var e *stack.Error
	if !errors.As(err, &e) || e.Op != "update" || len(e.Events) == 0 || e.Events[0].Resource != "Never" {
		t.Fatalf("Apply of a broken template: got %v, want a *stack.Error of the update about Never", err)
	}
	st := status(t, s, &stack.Options{})
	if st.Status != "UPDATE_ROLLBACK_COMPLETE" || len(st.Drift) != 0 {
		t.Errorf("status: got %s with drift %v, want UPDATE_ROLLBACK_COMPLETE and none", st.Status, st.Drift)
	}
	apply(t, s, change, stack.Updated)
	remove(t, s)
}

func remove(t *testing.T, s *stack.Stack) {
	t.Helper()
	if err := s.Delete(t.Context(), nil); err != nil {
		t.Errorf("Delete: got %v, want nil", err)
	}
}

// The trap is that an existing stack was never updated, and that of two programs
// that started together one failed.
func TestConcurrentStartersSucceed(t *testing.T) {
	t.Parallel()
	name := newName()
	together := func(c stack.Change) map[stack.Outcome]int {
		var mu sync.Mutex
		outcomes := map[stack.Outcome]int{}
		var wg sync.WaitGroup
		for range 5 {
			s := emulated(t, name)
			wg.Go(func() {
				r, err := s.Apply(t.Context(), c)
				if err != nil {
					t.Errorf("Apply: got %v, want nil", err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				outcomes[r.Outcome]++
			})
		}
		wg.Wait()
		return outcomes
	}
	change := stack.Change{Options: &stack.Options{}, Code: codeOf("v1.0.0", "one")}
	if got := together(change); got[stack.Created] != 1 || got[stack.Unchanged] != 4 {
		t.Errorf("5 starters on none: got %v, want 1 created and 4 unchanged", got)
	}
	change.Options = &stack.Options{RetentionDays: 10}
	if got := together(change); got[stack.Updated] < 1 || got[stack.Updated]+got[stack.Unchanged] != 5 {
		t.Errorf("5 starters with other options: got %v, want 1 updated or more and the others unchanged", got)
	}
	s := emulated(t, name)
	if st := status(t, s, change.Options); len(st.Drift) != 0 {
		t.Errorf("drift: got %v, want none", st.Drift)
	}
	remove(t, s)
}

// What is listed is of zael.
func TestList(t *testing.T) {
	t.Parallel()
	s := emulated(t, newName())
	apply(t, s, stack.Change{Options: &stack.Options{NoAggregator: true, NoAlarms: true}}, stack.Created)
	all, err := stack.List(t.Context(), configOf(t, emulator.Endpoint(t)))
	if err != nil {
		t.Fatal(err)
	}
	is := func(c stack.Summary) bool { return c.Stack == s.Name() && c.Status == "CREATE_COMPLETE" }
	if !slices.ContainsFunc(all, is) {
		t.Errorf("List: got %+v, want %s among them", all, s.Name())
	}
	remove(t, s)
	if all, err = stack.List(t.Context(), configOf(t, emulator.Endpoint(t))); err != nil || slices.ContainsFunc(all, is) {
		t.Errorf("List after the deletion: got %+v and %v, want it gone", all, err)
	}
}

// Without the function, and then with it.
func TestAggregatorSwitchedOnAndOff(t *testing.T) {
	t.Parallel()
	s := emulated(t, newName())
	r := apply(t, s, stack.Change{Options: &stack.Options{NoAggregator: true}}, stack.Created)
	if r.Outputs["AggregatorName"] != "" || r.Versions.Lambda != "" {
		t.Errorf("without: got function %q of %q, want none", r.Outputs["AggregatorName"], r.Versions.Lambda)
	}
	var invalid *zael.ValidationError
	if _, err := s.Apply(t.Context(), stack.Change{Options: &stack.Options{}}); !errors.As(err, &invalid) || invalid.Field != "Code.Zip" {
		t.Fatalf("switched on without code: got %v, want a *ValidationError of Code.Zip", err)
	}
	contains(t, "error", invalid.Error(), "make build", "NoAggregator")
	r = apply(t, s, stack.Change{Options: &stack.Options{}, Code: codeOf("v1.0.0", "one")}, stack.Updated)
	if r.Outputs["AggregatorName"] == "" || r.Versions.Lambda != "v1.0.0" {
		t.Errorf("with: got function %q of %q, want one of v1.0.0", r.Outputs["AggregatorName"], r.Versions.Lambda)
	}
	apply(t, s, stack.Change{Options: &stack.Options{}}, stack.Unchanged) // it keeps its code
	r = apply(t, s, stack.Change{Options: &stack.Options{NoAggregator: true}}, stack.Updated)
	if r.Outputs["AggregatorName"] != "" || r.Versions.Lambda != "" {
		t.Errorf("without again: got function %q of %q, want none", r.Outputs["AggregatorName"], r.Versions.Lambda)
	}
	// What means nothing without it changes nothing.
	apply(t, s, stack.Change{Options: &stack.Options{NoAggregator: true, LambdaMemoryMB: 1024}}, stack.Unchanged)
	remove(t, s)
}

func TestContextEndsTheWait(t *testing.T) {
	t.Parallel()
	s := emulated(t, newName())
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Apply(ctx, stack.Change{
		Options: &stack.Options{NoAggregator: true}, Progress: func(stack.Event) { cancel() },
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Apply whose context ends: got %v, want context.Canceled", err)
	}
	apply(t, s, stack.Change{Options: &stack.Options{NoAggregator: true}}, stack.Unchanged) // it went on
	remove(t, s)
}
