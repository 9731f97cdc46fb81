package stack_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/stack"
)

// What an Apply of other options would change, and that it then does.
func TestStatusShowsDrift(t *testing.T) {
	t.Parallel()
	s := emulated(t, newName())
	options := stack.Options{NoAggregator: true, Tags: map[string]string{"team": "a", "old": ""}}
	apply(t, s, stack.Change{Options: &options}, stack.Created)
	if st := status(t, s, &options); len(st.Drift) != 0 || st.Template != 1 || st.Versions == nil {
		t.Errorf("as deployed: got drift %v, template %d and versions %+v, want none, 1 and a record", st.Drift, st.Template, st.Versions)
	}
	if st := status(t, s, nil); len(st.Drift) != 0 {
		t.Errorf("without options: got drift %v, want none", st.Drift)
	}
	found := map[string]bool{}
	for _, r := range status(t, s, nil).Resources {
		found[r.Name+" "+r.Status] = true
	}
	if !found["Table CREATE_COMPLETE"] || !found["AcquirePolicy CREATE_COMPLETE"] || found["Aggregator CREATE_COMPLETE"] {
		t.Errorf("resources: got %v, want the table and the policies, and no function", found)
	}

	other := stack.Options{NoAggregator: true, PITRRecoveryDays: 3, DeletionProtection: true, Tags: map[string]string{"team": "b", "new": ""}}
	s.SetTemplate(strings.Replace(stack.Template(), "Description: The table of buckets", "Description: The table", 1))
	st := status(t, s, &other)
	want := "[{Template 1 1, with another text} {DeletionProtection false true} {PITRRecoveryDays 0 3} {Tags.new  } {Tags.old  } {Tags.team a b} {TerminationProtection false true}]"
	if got := fmt.Sprint(st.Drift); got != want {
		t.Errorf("drift: got %s, want %s", got, want)
	}
	apply(t, s, stack.Change{Options: &other}, stack.Updated)
	if st := status(t, s, &other); len(st.Drift) != 0 {
		t.Errorf("after it was applied: got drift %v, want none", st.Drift)
	}
	if text, err := json.Marshal(status(t, s, &other)); err != nil || !strings.Contains(string(text), `"drift":[]`) {
		t.Errorf("as JSON: got %s and %v, want an empty list of drift", text, err)
	}
	other.DeletionProtection = false
	apply(t, s, stack.Change{Options: &other}, stack.Updated)
	remove(t, s)
}

// A name in review has no template or table yet.
func TestStatusInReview(t *testing.T) {
	t.Parallel()
	s := fake(t, describes(fakeName, &found{id: idOne, status: types.StackStatusReviewInProgress}), step{call: "ListStackResources"})
	st, err := s.Status(t.Context(), bare())
	if err != nil || st.Status != "REVIEW_IN_PROGRESS" || len(st.Resources) != 0 {
		t.Errorf("Status: got %+v and %v, want REVIEW_IN_PROGRESS without resources", st, err)
	}
	if _, err := fake(t, describes(fakeName, &found{id: idOne, status: types.StackStatusReviewInProgress})).Apply(t.Context(), stack.Change{}); !errors.Is(err, stack.ErrNoStack) {
		t.Errorf("Apply without options: got %v, want ErrNoStack", err)
	}
}

// Code for one architecture does not run on another one: it needs other code.
func TestOtherArchitectureNeedsItsCode(t *testing.T) {
	t.Parallel()
	s := emulated(t, newName())
	apply(t, s, stack.Change{Options: &stack.Options{}, Code: codeOf("v1.0.0", "one")}, stack.Created)
	for want, code := range map[string]stack.Code{"is empty": {}, "x86_64": codeOf("v1.0.0", "one")} {
		_, err := s.Apply(t.Context(), stack.Change{Options: &stack.Options{Architecture: stack.X8664}, Code: code})
		var v *zael.ValidationError
		if !errors.As(err, &v) || v.Field != "Code.Zip" || !strings.Contains(v.Reason, want) {
			t.Errorf("another architecture: got %v, want a *ValidationError of Code.Zip that says %q", err, want)
		}
	}
	remove(t, s)
}

// The table's protection is true or false, and no text, as clients read it.
func TestProtectionOfTheTable(t *testing.T) {
	t.Parallel()
	s := emulated(t, newName())
	client := dynamodb.NewFromConfig(configOf(t, emulator.Endpoint(t)), func(o *dynamodb.Options) { o.DisableValidateResponseChecksum = true })
	for _, on := range []bool{true, false} {
		if _, err := s.Apply(t.Context(), stack.Change{Options: &stack.Options{NoAggregator: true, DeletionProtection: on}}); err != nil {
			t.Fatal(err)
		}
		out, err := client.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String(s.Name())})
		if err != nil || aws.ToBool(out.Table.DeletionProtectionEnabled) != on {
			t.Errorf("protection %t: got %+v and %v", on, out, err)
		}
	}
	remove(t, s)
}
