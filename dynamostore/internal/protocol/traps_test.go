package protocol_test

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
)

// A trap has a table, and a way to write on it.
type trap struct {
	t     *testing.T
	table *dynamofake.Table
	id    uint64
}

// send makes one call of a write, and reports whether the table applied it.
func (tr *trap) send(w *protocol.BucketWrite) (r *protocol.Record, ok bool) {
	tr.t.Helper()
	plan := w.Plan()
	if plan.Action != protocol.Send {
		tr.t.Fatalf("plan: got action %d, outcome %d (%v), want a write", plan.Action, plan.Outcome, plan.Err)
	}
	out, err := tr.table.UpdateItem(tr.t.Context(), updateInput(&plan.Update))
	failed, isFailed := errors.AsType[*types.ConditionalCheckFailedException](err)
	var item map[string]types.AttributeValue
	switch {
	case isFailed:
		item = failed.Item
	case err != nil:
		tr.t.Fatal(err)
	default:
		item = out.Attributes
	}
	if r, err = recordOf(item); err != nil {
		tr.t.Fatal(err)
	}
	return r, !isFailed
}

// write returns a write by what was last seen.
func (tr *trap) write(known *protocol.Record, kind coalesce.Kind, at bucket.Instant, charges ...zael.Charge) *protocol.BucketWrite {
	tr.id += 1 << 32
	w := newWrite(kind, charges, at, tr.id)
	w.Begin(observed(known, at))
	return w
}

const trapTime = bucket.Instant(400*24*time.Hour + 7*time.Hour)

// trapQuota is 10 each hour.
func trapQuota(t *testing.T) bucket.Definition {
	t.Helper()
	c, err := bucket.NewCalendar(bucket.CalendarSpec{Each: bucket.EachHour})
	if err != nil {
		t.Fatal(err)
	}
	return bucket.Definition{Kind: bucket.Quota, Burst: 10, Capacity: 10, Calendar: c}
}

// Trap 2: what is there as another kind does not look new.
func TestTrap02AnotherKindDoesNotLookNew(t *testing.T) {
	t.Parallel()
	q, rate := trapQuota(t), bucket.Definition{Burst: 10, Amount: 10, Period: time.Hour, Capacity: 10}
	for _, tt := range []struct{ first, second bucket.Definition }{{q, rate}, {rate, q}} {
		tr := &trap{t: t, table: dynamofake.New()}
		other, _ := tr.send(tr.write(nil, coalesce.Take, trapTime, zael.Charge{Name: "other", Definition: q, Amount: 1}))
		if _, ok := tr.send(tr.write(other, coalesce.Take, trapTime, zael.Charge{Name: "n", Definition: tt.first, Amount: 10})); !ok {
			t.Fatal("the first take: got refused, want applied")
		}
		// A process that has not seen it yet takes under another kind.
		w := tr.write(other, coalesce.Take, trapTime, zael.Charge{Name: "n", Definition: tt.second, Amount: 1})
		r, ok := tr.send(w)
		if ok {
			t.Fatalf("a take of a %v where a %v is used up: got applied", tt.second.Kind, tt.first.Kind)
		}
		w.Answered(r, false)
		if plan := w.Plan(); plan.Outcome != coalesce.Refused {
			t.Errorf("a take of a %v where a %v is used up: got outcome %d, want refused", tt.second.Kind, tt.first.Kind, plan.Outcome)
		}
	}
}

// Trap 5: a take that is found by its id in a later item has a receipt only if that item is
// still in the period of the take.
func TestTrap05ReceiptOfALaterItem(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		later bucket.Instant // when another process writes
		own   bool
	}{{"in the same period", trapTime + 1, true}, {"in the next period", trapTime + bucket.Instant(time.Hour), false}} {
		tr := &trap{t: t, table: dynamofake.New()}
		q := trapQuota(t)
		first, _ := tr.send(tr.write(nil, coalesce.Take, trapTime, zael.Charge{Name: "q", Definition: q, Amount: 1}))
		w := tr.write(first, coalesce.Take, trapTime, zael.Charge{Name: "q", Definition: q, Amount: 3})
		r, _ := tr.send(w) // and the answer is lost
		w.Lost()
		if _, ok := tr.send(tr.write(r, coalesce.Take, tt.later, zael.Charge{Name: "q", Definition: q, Amount: 2})); !ok {
			t.Fatalf("%s: the other's take was not applied", tt.name)
		}
		again, ok := tr.send(w)
		if ok {
			t.Fatalf("%s: the take was applied twice", tt.name)
		}
		if !w.Answered(again, false) {
			t.Fatalf("%s: the take, which was applied, is not found", tt.name)
		}
		receipt := w.Known().State("q").Receipt()
		if own := r.State("q").Receipt(); tt.own && receipt != own || !tt.own && receipt.Generation != 0 {
			t.Errorf("%s: got receipt %+v, want its own, %+v: %v; or none", tt.name, receipt, own, tt.own)
		}
	}
}

// Trap 7: a holder that was removed does not go on under its old count, and its receipts
// release nothing.
func TestTrap07RemovedHolderBeginsAgain(t *testing.T) {
	t.Parallel()
	tr := &trap{t: t, table: dynamofake.New()}
	d := bucket.Definition{Kind: bucket.Slots, Burst: 2, Capacity: 2, Period: time.Minute}
	slot := zael.Charge{Name: "parallel", Definition: d, Amount: 2}
	take := func(holder string, at bucket.Instant, n int64, held *protocol.Held, known *protocol.Record) (*protocol.BucketWrite, *protocol.Record) {
		slot.Amount = n
		w := tr.write(known, coalesce.Take, at, slot)
		if w.Holder = holder; held != nil {
			w.SetHeld(*held)
		}
		for range 3 {
			r, ok := tr.send(w)
			if w.Answered(r, ok) {
				return w, r
			}
		}
		t.Fatalf("%s: not applied in 3 calls", holder)
		return nil, nil
	}
	a, r := take("A", trapTime, 2, nil, nil)
	old := coalesce.StateOf(a.Known(), &slot).Generation
	minute := bucket.Instant(time.Minute)
	_, r = take("B", trapTime+minute, 1, nil, r)
	held := a.Held()
	a, r = take("A", trapTime+minute, 1, &held, r)
	if h := a.Held(); len(h.Counts) != 1 || h.Counts[0].N != 1 || h.Generation == old {
		t.Errorf("A after it was removed: got %+v, want 1 slot of another generation than %d", h, old)
	}
	slot.Amount, slot.Receipt.Generation = -2, old
	w := tr.write(r, coalesce.Adjust, trapTime+minute, slot)
	w.Holder = "A"
	w.SetHeld(a.Held())
	if plan := w.Plan(); plan.Action == protocol.Send {
		t.Errorf("a release of slots that were lost: got a write, %s", plan.Update.Update)
	}
}

// A lowered hold counts from the first take under it.
func TestLoweredHold(t *testing.T) {
	t.Parallel()
	tr := &trap{t: t, table: dynamofake.New()}
	d := bucket.Definition{Kind: bucket.Slots, Burst: 2, Capacity: 2, Period: time.Hour}
	var r *protocol.Record
	for _, holder := range []string{"A", "B"} {
		w := tr.write(r, coalesce.Take, trapTime, zael.Charge{Name: "parallel", Definition: d, Amount: 1})
		w.Holder = holder
		r, _ = tr.send(w)
		d.Period = time.Minute
	}
	after := trapTime + bucket.Instant(time.Minute)
	w := tr.write(r, coalesce.Take, after, zael.Charge{Name: "parallel", Definition: d, Amount: 1})
	w.Holder = "C"
	if _, ok := tr.send(w); !ok {
		t.Error("a minute after B's last write, under a hold of a minute: got it refused, want B removed")
	}
}

// Trap 1: rows that set, or need absence, have no room in their condition. So more than the
// amount at once, and more slots than there are, are refused where nothing is there.
func TestTrap01MoreThanThereIsOfWhatIsMissing(t *testing.T) {
	t.Parallel()
	slots := bucket.Definition{Kind: bucket.Slots, Burst: 2, Capacity: 2, Period: time.Minute}
	for _, d := range []bucket.Definition{trapQuota(t), slots} {
		for _, there := range []bool{false, true} {
			tr := &trap{t: t, table: dynamofake.New()}
			var known *protocol.Record
			if there { // the item is, the limit not
				known, _ = tr.send(tr.write(nil, coalesce.Take, trapTime, zael.Charge{Name: "other", Definition: trapQuota(t), Amount: 1}))
			}
			w := tr.write(known, coalesce.Take, trapTime, zael.Charge{Name: "n", Definition: d, Amount: d.Burst + 1})
			w.Holder = "A"
			for range 3 {
				plan := w.Plan()
				if plan.Action == protocol.Finish {
					if plan.Outcome != coalesce.Refused {
						t.Errorf("%d of a %v of %d: got outcome %d, want refused", d.Burst+1, d.Kind, d.Burst, plan.Outcome)
					}
					break
				}
				r, ok := tr.send(w)
				if ok {
					t.Fatalf("%d of a %v of %d: got it applied", d.Burst+1, d.Kind, d.Burst)
				}
				w.Answered(r, false)
			}
		}
	}
}

// Trap 10: a lowered hold does not shorten what is written.
func TestTrap10LoweredHoldShortensNothing(t *testing.T) {
	t.Parallel()
	tr := &trap{t: t, table: dynamofake.New()}
	d := bucket.Definition{Kind: bucket.Slots, Burst: 3, Capacity: 3, Period: time.Hour}
	var r *protocol.Record
	var held *protocol.Held
	for _, at := range []bucket.Instant{trapTime, trapTime + 1} {
		w := tr.write(r, coalesce.Take, at, zael.Charge{Name: "parallel", Definition: d, Amount: 1})
		if w.Holder = "A"; held != nil {
			w.SetHeld(*held)
		}
		r, _ = tr.send(w)
		w.Answered(r, true)
		h := w.Held()
		held, d.Period = &h, time.Minute
	}
	holders := r.Slots("B").Holders
	if len(holders) != 1 || holders[0].Deadline < trapTime+bucket.Instant(time.Hour) {
		t.Errorf("got the holders %+v, want A until an hour after its first write", holders)
	}
}

// Trap 11: who needs the room of many dead holders removes them in one write, not one by one.
func TestTrap11DeadAreRemovedTogether(t *testing.T) {
	t.Parallel()
	tr := &trap{t: t, table: dynamofake.New()}
	d := bucket.Definition{Kind: bucket.Slots, Burst: protocol.MaxReclaimed, Capacity: 1, Period: time.Minute}
	var r *protocol.Record
	for i := range protocol.MaxReclaimed {
		w := tr.write(r, coalesce.Take, trapTime, zael.Charge{Name: "parallel", Definition: d, Amount: 1})
		w.Holder = "dead-" + strconv.Itoa(i)
		var ok bool
		if r, ok = tr.send(w); !ok {
			t.Fatalf("holder %d: not applied", i)
		}
	}
	w := tr.write(r, coalesce.Take, trapTime+bucket.Instant(time.Minute), zael.Charge{Name: "parallel", Definition: d, Amount: d.Burst})
	w.Holder = "A"
	after, ok := tr.send(w)
	if !ok {
		t.Fatal("all slots of the dead: got no write that takes them at once")
	}
	if holders := after.Slots("A").Holders; len(holders) != 1 || holders[0].Count("parallel") != d.Burst {
		t.Errorf("got the holders %+v, want A alone, with all slots", holders)
	}
}
