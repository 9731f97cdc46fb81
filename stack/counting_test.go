package stack_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/usage"
	"github.com/zeroae/zael/stack"
)

// The record says how the function counts, of any Apply that finds it otherwise, and
// nothing once there is none. It reads a record of a program that knew nothing of that.
func TestRecordSaysHowTheFunctionCounts(t *testing.T) {
	t.Parallel()
	if got, err := usage.FunctionRules(t.Context(), versioned(t, "v1.0.0", nil).Table(), fakeName); got != (usage.CountingRules{}) || err != nil {
		t.Errorf("without a record: got %+v (%v), want nothing", got, err)
	}
	s := versioned(t, "v1.0.0", &stack.Record{Schema: stack.SchemaVersion, Lambda: "v1.0.0", ClientMin: stack.LeastClient})
	for _, c := range []struct {
		o         *stack.Options
		windows   string
		retention int
	}{
		{&stack.Options{}, "hourly,daily", 90},
		{&stack.Options{Windows: []zael.Window{zael.Monthly, zael.Hourly}}, "hourly,monthly", 90},
		{&stack.Options{Windows: []zael.Window{zael.Monthly, zael.Hourly}, RetentionDays: 400}, "hourly,monthly", 400},
		{bare(), "", 0},
		{&stack.Options{Windows: []zael.Window{zael.Daily}, RetentionDays: 7}, "daily", 7},
	} {
		is := complete(idOne, types.StackStatusUpdateComplete, c.o)
		if !c.o.NoAggregator {
			is.params["CodeVersion"], is.params["CodeKey"], is.params["CodeBucket"] = "v1.0.0", "key", "bucket"
		}
		next := stack.NewFake(fakeName, scripted(t, describes(fakeName, is), template(stack.Template()), describes(idOne, is)), nil, nil, s.Table()).SetVersion("v1.0.0")
		apply(t, next, stack.Change{Options: c.o, By: "me"}, stack.Unchanged)
		if got := record(t, s); got.Windows != c.windows || got.Retention != c.retention || got.ClientMin != stack.LeastClient {
			t.Errorf("with %+v: got %+v, want windows %q kept %d days", c.o, got, c.windows, c.retention)
		}
		got, err := usage.FunctionRules(t.Context(), s.Table(), fakeName)
		if want := (usage.CountingRules{Windows: c.windows, Days: c.retention}); got != want || err != nil {
			t.Errorf("who counts with it: got %+v (%v), want %+v", got, err, want)
		}
	}
}
