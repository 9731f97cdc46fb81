package dynamostore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore"
)

// addKinds gives the child's bucket limits of other kinds: in place of one of its rates a
// quota or a session, which some stores take for a rate or for each other, and beside them
// slots, a soft limit and a blocked one.
func (w *faultWorld) addKinds(rng *rand.Rand) error {
	quota, session, err := faultPeriods()
	if err != nil {
		return err
	}
	if w.flavor != flowing && w.seed%4 != 1 {
		w.limits[place{w.child, "tpm"}] = []bucket.Definition{quota, session}[w.seed%2]
		w.converts = w.mixed && rng.IntN(2) == 0
	}
	if w.seed%5 == 0 {
		return nil
	}
	w.limits[place{w.child, "parallel"}] = bucket.Definition{Kind: bucket.Slots, Burst: 5, Capacity: 5, Period: bucket.MaxHold}
	soft := quota
	soft.Burst, soft.Capacity, soft.Flags = 3, 3, bucket.Soft
	w.limits[place{w.child, "soft"}] = soft
	w.limits[place{w.child, "blocked"}] = bucket.Blocked()
	return nil
}

// faultPeriods are a quota and a session that do not end in a schedule.
func faultPeriods() (quota, session bucket.Definition, err error) {
	quota = bucket.Definition{Kind: bucket.Quota, Burst: 25, Capacity: 25}
	quota.Calendar, err = bucket.NewCalendar(bucket.CalendarSpec{Each: bucket.Each365Days})
	return quota, bucket.Definition{Kind: bucket.Session, Burst: 25, Capacity: 25, Period: bucket.MaxPeriod}, err
}

// other is a limit by the definition of the other stores: with another number for reports, or
// of another kind.
func (w *faultWorld) other(d bucket.Definition) bucket.Definition {
	switch {
	case d.Flags&bucket.Block != 0:
		return d
	case d.Kind == bucket.Rate:
		d.Capacity++
		return d
	case !w.converts || d.Burst != 25:
		d.Capacity--
		return d
	}
	quota, session, _ := faultPeriods()
	switch {
	case w.seed%3 == 0:
		return define(25, 1, bucket.MaxPeriod)
	case d.Kind == bucket.Quota:
		return session
	default:
		return quota
	}
}

// kinds reports whether a bucket has limits of other kinds than plain rates, so that a write is
// known by its id when others have come since.
func (w *faultWorld) kinds(entity string) bool {
	for p, d := range w.limits {
		if p.entity == entity && !d.Plain() {
			return true
		}
	}
	return false
}

// faultHolder is the holder that a store is: a process.
func faultHolder(store int) string { return fmt.Sprintf("store-%02d", store) }

// askKinds has a take ask for some of the limits of other kinds.
func (w *faultWorld) askKinds(rng *rand.Rand, store int, d *zael.Debit, charge func(entity, limit string, n int64) zael.Charge) {
	if _, ok := w.limits[place{w.child, "parallel"}]; !ok {
		return
	}
	if rng.IntN(2) == 0 {
		d.Holder = faultHolder(store)
		d.Charges = append(d.Charges, charge(w.child, "parallel", 1+rng.Int64N(2)))
	}
	if rng.IntN(3) == 0 {
		d.Charges = append(d.Charges, charge(w.child, "soft", 1+rng.Int64N(3)))
	}
	if rng.IntN(4) == 0 {
		d.Charges = append(d.Charges, charge(w.child, "blocked", rng.Int64N(3)/2))
	}
}

// checkSlots: without faults, when each store has written once more, the entry of each says
// what its clients hold, and the total is their sum.
func (w *faultWorld) checkSlots(ctx context.Context, direct *dynamodb.Client) error {
	p := place{w.child, "parallel"}
	d, ok := w.limits[p]
	if !ok {
		return nil
	}
	w.mu.Lock()
	w.calm = true
	want, told := make([]int64, len(w.stores)), false
	for _, o := range w.ops {
		if n := o.asked[p]; n < 0 || n > 0 && o.err == nil {
			want[o.store] += n
			told = true
		}
	}
	w.mu.Unlock()
	deadline := time.Now().Add(time.Minute) // a slow engine leaves calls without answers, too
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		err := w.putRight(ctx, direct, d, want)
		if err == nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			if told {
				w.tally.Slots++
			}
			return nil
		}
		if time.Now().After(deadline) { // what clients that have left took is given back by then
			return err
		}
	}
}

func (w *faultWorld) putRight(ctx context.Context, direct *dynamodb.Client, d bucket.Definition, want []int64) error {
	now := t0.Add(time.Minute)
	for i, s := range w.stores {
		if w.flavor == walled {
			now = w.wall(i)()
		}
		renewal := debit(w.child, ask("parallel", d, 1))
		renewal.Holder = faultHolder(i)
		if _, err := s.Renew(ctx, now, renewal); err != nil {
			return fmt.Errorf("the renewal of store %d: %w", i, err)
		}
	}
	out, err := direct.GetItem(ctx, &dynamodb.GetItemInput{TableName: aws.String(w.table), ConsistentRead: aws.Bool(true), Key: map[string]types.AttributeValue{
		"PK": &types.AttributeValueMemberS{Value: "E#" + w.child}, "SK": &types.AttributeValueMemberS{Value: "B#gpt-4"},
	}})
	if err != nil {
		return err
	}
	r, err := dynamostore.RecordOf(out.Item)
	if err != nil {
		return err
	}
	slots, sum := r.Slots(""), int64(0)
	for i, n := range want {
		sum += n
		got := int64(0)
		for j := range slots.Holders {
			if h := &slots.Holders[j]; h.ID == faultHolder(i) {
				got = h.Count("parallel")
			}
		}
		if got != n {
			err = errors.Join(err, fmt.Errorf("store %d: its entry says %d slots, and its clients hold %d", i, got, n))
		}
	}
	for _, l := range slots.Limits {
		if l.State.Used != sum {
			err = errors.Join(err, fmt.Errorf("%d slots are held, and clients hold %d", l.State.Used, sum))
		}
	}
	return err
}
