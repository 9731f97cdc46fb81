package protocol_test

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
)

// do makes calls of a write until it is finished, and returns the item.
func (tr *trap) do(w *protocol.BucketWrite) (*protocol.Record, coalesce.Outcome) {
	tr.t.Helper()
	for range 6 {
		switch plan := w.Plan(); plan.Action {
		case protocol.Finish:
			return w.Known(), plan.Outcome
		case protocol.Read:
			w.Learn(tr.record())
		case protocol.Send:
			if r, ok := tr.send(w); w.Answered(r, ok) {
				return w.Known(), coalesce.Applied
			}
		}
	}
	tr.t.Fatal("a write: got no end after 6 calls")
	return nil, coalesce.Failed
}

func (tr *trap) record() *protocol.Record {
	tr.t.Helper()
	item := tr.table.Get("E#e", "B#r")
	if item == nil {
		return nil
	}
	r, err := recordOf(item)
	if err != nil {
		tr.t.Fatal(err)
	}
	return r
}

// Trap 3: what writes the start of a period bounds it from above: a process with a stale guess, or a
// clock that is behind, does not turn it back.
func TestTrap03StaleGuessTurnsThePeriodBack(t *testing.T) {
	t.Parallel()
	q := trapQuota(t)
	carry, other := q, q
	carry.Flags = bucket.CarryDebt
	var err error
	if other.Calendar, err = bucket.NewCalendar(bucket.CalendarSpec{Each: bucket.Daily, At: 90}); err != nil {
		t.Fatal(err)
	}
	session := bucket.Definition{Kind: bucket.Session, Burst: 10, Capacity: 10, Period: time.Hour}
	hour := bucket.Instant(time.Hour)
	for name, tt := range map[string]struct{ first, now bucket.Definition }{
		"a quota": {q, q}, "with carried debt": {carry, carry}, "a session": {session, session},
		"debt is carried from now on": {q, carry}, "another calendar": {q, other}, "a session that was a quota": {q, session},
	} {
		for _, behind := range []bucket.Instant{0, hour / 2, hour + hour/2} {
			tr := &trap{t: t, table: dynamofake.New()}
			old, _ := tr.do(tr.write(nil, coalesce.Take, trapTime, zael.Charge{Name: "q", Definition: tt.first, Amount: 1}))
			later := trapTime + 2*hour
			ahead, _ := tr.do(tr.write(old, coalesce.Take, later, zael.Charge{Name: "q", Definition: tt.first, Amount: 8}))
			before := ahead.State("q")
			after, outcome := tr.do(tr.write(old, coalesce.Take, later-behind, zael.Charge{Name: "q", Definition: tt.now, Amount: 5}))
			is := after.State("q")
			if outcome != coalesce.Refused || is.Mark < before.Mark || is.UsedAt(later) < 8 {
				t.Errorf("%s, %v behind: 5 more than 8 of 10: got outcome %d and %+v from %+v, want a refusal, and the period as it was", name, time.Duration(behind), outcome, is, before)
			}
		}
	}
}

// Trap 4: what is given back counts in the period and the generation of its receipt alone.
func TestTrap04GiveOfAnotherPeriod(t *testing.T) {
	t.Parallel()
	q := trapQuota(t)
	hour := bucket.Instant(time.Hour)
	for name, tt := range map[string]struct {
		then bucket.Instant
		as   bucket.Definition
		want int64 // used afterwards
	}{
		"its own":          {trapTime + 1, q, 2},
		"the next period":  {trapTime + hour, q, 2},
		"another kind now": {trapTime + 1, bucket.Definition{Kind: bucket.Session, Burst: 10, Capacity: 10, Period: time.Hour}, 5},
	} {
		tr := &trap{t: t, table: dynamofake.New()}
		taken := zael.Charge{Name: "q", Definition: q, Amount: 3}
		r, _ := tr.do(tr.write(nil, coalesce.Take, trapTime, taken))
		taken.Receipt = r.State("q").Receipt()
		r, _ = tr.do(tr.write(r, coalesce.Take, tt.then, zael.Charge{Name: "q", Definition: tt.as, Amount: 2}))
		taken.Amount = -3
		r, _ = tr.do(tr.write(r, coalesce.Adjust, tt.then, taken))
		if used := r.State("q").UsedAt(tt.then); used != tt.want {
			t.Errorf("%s: 3 given back after 2 more: got %d used, want %d", name, used, tt.want)
		}
	}
}

// Trap 9: an entry that is missing after a lost answer was released or removed: what was settled
// with it is not given twice. And the time when an item expires never falls.
func TestTrap09SettleIsGivenTwice(t *testing.T) {
	t.Parallel()
	for _, kind := range []coalesce.Kind{coalesce.Adjust, coalesce.Undo} {
		tr := &trap{t: t, table: dynamofake.New()}
		slot := zael.Charge{Name: "parallel", Definition: bucket.Definition{Kind: bucket.Slots, Burst: 2, Capacity: 2, Period: time.Minute}, Amount: 1}
		rate := zael.Charge{Name: "rpm", Definition: bucket.Definition{Burst: 100, Amount: 1, Period: bucket.MaxPeriod, Capacity: 1}, Amount: 10}
		w := tr.write(nil, coalesce.Take, trapTime, slot, rate)
		w.Holder = "A"
		r, _ := tr.do(w)
		held := w.Held()
		slot.Receipt, rate.Receipt = coalesce.StateOf(r, &slot).Receipt(), r.State("rpm").Receipt()
		expiry := r.Expiry()

		gives := []zael.Charge{slot, rate}
		gives[0].Amount, gives[1].Amount = -1, -10
		w = tr.write(r, kind, trapTime+1, gives...)
		if w.Holder, w.Birth = "A", r.Birth(); kind == coalesce.Adjust {
			held = held.Release(gives)
		}
		w.SetHeld(held)
		r, ok := tr.send(w)
		if !ok {
			t.Fatal("a release: got refused")
		}
		w.Lost() // its answer
		for range 4 {
			r, _ = tr.do(tr.write(r, coalesce.Take, trapTime+2, zael.Charge{Name: "rpm", Definition: rate.Definition, Amount: 20}))
		}
		r, _ = tr.do(w)
		if left := r.State("rpm").Available(trapTime + 2); left != 20 {
			t.Errorf("kind %d: 10 taken and given back, and 80 taken: got %d left, want 20", kind, left)
		}
		if h := w.Held(); len(h.Counts) != 0 || len(r.Slots("").Holders) != 0 {
			t.Errorf("kind %d: got %+v held, and %+v in the item, want none", kind, h, r.Slots("").Holders)
		}
		if r.Expiry() < expiry {
			t.Errorf("kind %d: the item expires at %d, and did at %d", kind, r.Expiry(), expiry)
		}
	}
}

// Trap 14: definitions of a grammar that a program does not know are an error, not limits that are
// missing.
func TestTrap14UnknownGrammarIsAnError(t *testing.T) {
	t.Parallel()
	tr := &trap{t: t, table: dynamofake.New()}
	tr.do(tr.write(nil, coalesce.Take, trapTime, zael.Charge{Name: "q", Definition: trapQuota(t), Amount: 1}))
	item := tr.table.Get("E#e", "B#r")
	text, ok := item["d_q"].(*types.AttributeValueMemberS)
	if !ok || !strings.HasPrefix(text.Value, "2:") {
		t.Fatalf("a quota's definition: got %v, want grammar 2", item["d_q"])
	}
	item["d_q"] = &types.AttributeValueMemberS{Value: "3:" + text.Value[2:]}
	if r, err := recordOf(item); err == nil || !strings.Contains(err.Error(), "d_q") || !strings.Contains(err.Error(), "version") {
		t.Errorf("grammar 3: got %+v (%v), want an error that names the attribute and the version", r, err)
	}
}

// Trap 15: an item expires an hour after all in it is full, so that no late copy of a write finds it
// gone: a quota at the end of its period, a session at its own, slots at their deadline.
func TestTrap15ItemsExpireAnHourLater(t *testing.T) {
	t.Parallel()
	carry := trapQuota(t)
	carry.Flags = bucket.CarryDebt
	for name, tt := range map[string]struct {
		d    bucket.Definition
		full time.Duration
	}{
		"quota":   {trapQuota(t), time.Hour},
		"carry":   {carry, time.Hour},
		"session": {bucket.Definition{Kind: bucket.Session, Burst: 10, Capacity: 10, Period: 5 * time.Hour}, 5 * time.Hour},
		"slots":   {bucket.Definition{Kind: bucket.Slots, Burst: 10, Capacity: 10, Period: 3 * time.Hour}, 3 * time.Hour},
	} {
		tr := &trap{t: t, table: dynamofake.New()}
		w := tr.write(nil, coalesce.Take, trapTime, zael.Charge{Name: "n", Definition: tt.d, Amount: 1})
		w.Holder = "A"
		r, _ := tr.do(w)
		if least := (trapTime + bucket.Instant(tt.full+time.Hour)).Time(); r.Expiry() < least.Unix() {
			t.Errorf("%s: expires at %v, want not before %v", name, time.Unix(r.Expiry(), 0).UTC(), least)
		}
	}
}

// Trap: two takes of a holder, at the same instant and of as many slots, planned from the same
// item, are told apart: the first is applied, and its answer is lost. The second finds the first
// one's entry, which differs from its own only by the write it names, and is not told that it took.
func TestTrapEntriesOfTwoWritesDiffer(t *testing.T) {
	t.Parallel()
	slots := bucket.Definition{Kind: bucket.Slots, Burst: 5, Capacity: 5, Period: time.Minute}
	rate := bucket.Definition{Burst: 5, Amount: 5, Period: time.Hour, Capacity: 5}
	for _, later := range []bucket.Instant{0, bucket.Instant(400 * time.Microsecond), -bucket.Instant(time.Second)} {
		tr := &trap{t: t, table: dynamofake.New()}
		take := func(known *protocol.Record, at bucket.Instant, held protocol.Held) *protocol.BucketWrite {
			w := tr.write(known, coalesce.Take, at, zael.Charge{Name: "parallel", Definition: slots, Amount: 1}, zael.Charge{Name: "rpm", Definition: rate, Amount: 1})
			w.Holder = "A"
			w.SetHeld(held)
			return w
		}
		before := take(nil, trapTime-bucket.Instant(10*time.Second), protocol.Held{})
		known, ok := tr.send(before)
		if !before.Answered(known, ok) {
			t.Fatal("the holder has no entry to begin with")
		}
		first, second := take(known, trapTime, before.Held()), take(known, trapTime+later, before.Held())
		if _, ok := tr.send(first); !ok { // and its answer is lost
			t.Fatal("the first take was not applied")
		}
		r, ok := tr.send(second)
		if ok || second.Answered(r, ok) {
			t.Fatalf("%d ns later: the second take was told the first one's answer", later)
		}
		if r, ok = tr.send(second); !second.Answered(r, ok) {
			t.Fatalf("%d ns later: the second take was not applied the second time", later)
		}
		if got := r.State("rpm").Available(trapTime); got != 2 {
			t.Errorf("%d ns later: %d are left, want 2 of 5 after three takes", later, got)
		}
	}
}
