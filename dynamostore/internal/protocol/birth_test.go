package protocol_test

import (
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
)

// What was taken from a bucket that has taken the place of a deleted one is given back to it
// by a client that has last seen the deleted one, also beside a charge.
func TestGiveToTheBucketBornSince(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	d := bucket.Definition{Burst: 10, Amount: 1, Period: time.Hour, Capacity: 1}
	at := bucket.Instant(400 * 24 * time.Hour)
	id := uint64(0)
	do := func(known *protocol.Record, kind coalesce.Kind, charges ...zael.Charge) *protocol.Record {
		t.Helper()
		id += 1 << 32 // births are far apart
		w := newWrite(kind, charges, at, id)
		w.Begin(observed(known, at))
		for range 3 {
			plan := w.Plan()
			if plan.Action != protocol.Send {
				t.Fatalf("plan: got action %d, outcome %d (%v), want a write", plan.Action, plan.Outcome, plan.Err)
			}
			out, err := table.UpdateItem(t.Context(), updateInput(&plan.Update))
			failed, isFailed := errors.AsType[*types.ConditionalCheckFailedException](err)
			var item map[string]types.AttributeValue
			switch {
			case isFailed:
				item = failed.Item
			case err != nil:
				t.Fatal(err)
			default:
				item = out.Attributes
			}
			r, err := recordOf(item)
			if err != nil {
				t.Fatal(err)
			}
			if w.Answered(r, !isFailed) {
				return r
			}
		}
		t.Fatal("got three writes, want two at most")
		return nil
	}
	old := do(nil, coalesce.Take, zael.Charge{Name: "rpm", Definition: d, Amount: 10})
	table.Delete("E#e", "B#r")
	is := do(old, coalesce.Take, zael.Charge{Name: "rpm", Definition: d, Amount: 5})
	give := zael.Charge{Name: "rpm", Definition: d, Amount: -5, Receipt: is.State("rpm").Receipt()}
	is = do(old, coalesce.Adjust, give, zael.Charge{Name: "tpm", Definition: d, Amount: 1})
	if got := is.State("rpm").Available(at); got != 10 {
		t.Errorf("left: got %d, want 10: all 5 were given back", got)
	}
	if n, ok := table.Get("E#e", "B#r")["c_rpm"].(*types.AttributeValueMemberN); !ok || n.Value != "0" {
		t.Errorf("counted: got %v, want 0 net", n)
	}
}
