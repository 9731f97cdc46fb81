package dynamostore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
)

// check compares what clients were told, what was applied and what is there.
func (w *faultWorld) check(ctx context.Context, direct *dynamodb.Client) error {
	errs := []error{w.over}
	counted := make([]int, len(w.stores)) // by each store: charges beside what was told
	for _, o := range w.ops {
		if err := w.checkAnswer(o); err != nil {
			errs = append(errs, fmt.Errorf("op %d: %w", o.number, err))
		}
		if !w.direct {
			continue
		}
		n, err := w.checkOp(o)
		counted[o.store] += n
		if err != nil {
			errs = append(errs, fmt.Errorf("op %d: %w", o.number, err))
		}
	}
	for i, s := range w.stores {
		st := s.Stats()
		w.tally.Repeated += int(st.Repeated)
		w.tally.Unanswered += int(st.Unanswered)
		w.tally.Undone += int(st.Undone)
		w.tally.Stranded += int(st.Stranded)
		w.tally.Contended += int(st.Contended)
		w.tally.Conversions += int(st.Conversions)
		if counted[i] > int(st.Repeated+st.Stranded) {
			errs = append(errs, fmt.Errorf("store %d: %d charges beside what its clients were told, of which Stats has %d repeated and %d stranded",
				i, counted[i], st.Repeated, st.Stranded))
		}
	}
	errs = append(errs, w.checkCopies())
	for _, entity := range []string{w.child, w.parent} {
		errs = append(errs, w.checkBucket(ctx, direct, entity))
	}
	return errors.Join(errs...)
}

// checkCopies: a write is applied a second time only if another came between.
func (w *faultWorld) checkCopies() error {
	all := w.applied()
	slices.SortFunc(all, func(a, b faultWrite) int { return a.done.Compare(b.done) })
	last := map[string]*faultWrite{} // by id
	for i := range all {
		second := &all[i]
		first := last[second.entity+second.id]
		last[second.entity+second.id] = second
		between := func(x faultWrite) bool {
			return x.entity == second.entity && x.id != second.id && x.done.After(first.asked) && x.asked.Before(second.done)
		}
		if first != nil && !slices.ContainsFunc(all, between) {
			return fmt.Errorf("write %s was applied twice, and no other between", second.id)
		}
	}
	return nil
}

// checkAnswer is about what a client was told.
func (w *faultWorld) checkAnswer(o *faultOp) error {
	switch {
	case o.err == nil && o.take && o.asked[place{w.child, "blocked"}] > 0:
		return errors.New("took of what is blocked")
	case o.err == nil && o.take:
		w.tally.Taken++
	case o.err == nil:
		w.tally.Adjusts++
	case errors.Is(o.err, zael.ErrExceeded) && o.take:
		w.tally.Refused++
	case errors.Is(o.err, zael.ErrUnavailable), errors.Is(o.err, context.DeadlineExceeded), errors.Is(o.err, zael.ErrContention):
		w.tally.Failed++
	default:
		return fmt.Errorf("got %w, want it done, refused or unavailable", o.err)
	}
	return nil
}

// checkOp is about one operation of which the writes are known. It returns how many
// buckets were charged beside what the client was told: twice, or though it was
// refused, failed or left.
func (w *faultWorld) checkOp(o *faultOp) (beside int, err error) {
	for _, entity := range []string{w.child, w.parent} {
		asked := map[place]int64{}
		for p, n := range o.asked {
			if p.entity == entity {
				asked[p] = n
			}
		}
		if len(asked) == 0 {
			continue
		}
		var n int
		if o.take {
			n, err = w.checkTake(o, entity, asked)
		} else {
			n, err = w.checkAdjust(o, entity, asked)
		}
		if beside += n; err != nil {
			return beside, fmt.Errorf("%s: %w", entity, err)
		}
	}
	return beside, nil
}

func (w *faultWorld) checkTake(o *faultOp, entity string, asked map[place]int64) (beside int, err error) {
	copies, undone := 0, 0
	for _, fw := range o.writes {
		if fw.entity != entity || !fw.applied {
			continue
		}
		sign := int64(1)
		switch fw.event {
		case 1:
			copies++
		case -1:
			undone++
			sign = -1
		case 0: // what was refused keeps a definition that admits sooner, or puts the holder's entry right
			if len(fw.amounts) > 0 {
				return 0, fmt.Errorf("write %s counts no event, and %v", fw.id, fw.amounts)
			}
			continue
		default:
			return 0, fmt.Errorf("write %s counts %d events, want 1 or -1", fw.id, fw.event)
		}
		for p, n := range asked {
			if got := fw.amounts[p]; got != sign*n && (sign > 0 || got != 0 || !w.kinds(entity)) { // nothing is given by a receipt that is not certain
				return 0, fmt.Errorf("write %s takes %d of %s, want %d", fw.id, got, p.limit, sign*n)
			}
		}
	}
	if undone > copies || undone > 1 {
		return 0, fmt.Errorf("given back %d times, and taken %d times", undone, copies)
	}
	switch {
	case o.err == nil:
		if copies == 0 || undone > 0 {
			return 0, fmt.Errorf("told that it took, which was applied %d times, and given back %d times", copies, undone)
		}
		if copies > 1 {
			w.tally.Doubled++
			beside = 1
		}
	case errors.Is(o.err, zael.ErrExceeded):
		if copies > undone {
			w.tally.RefusedCharged++
			beside = 1
		}
	case copies > undone:
		w.tally.FailedCharged++
		beside = 1
	}
	return beside, nil
}

func (w *faultWorld) checkAdjust(o *faultOp, entity string, asked map[place]int64) (beside int, err error) {
	given, charged := 0, 0
	gives, charges := false, false
	for p, n := range asked {
		gives, charges = gives || n < 0 && w.limits[p].Kind != bucket.Slots, charges || n > 0
	}
	for _, fw := range o.writes {
		if fw.entity != entity || !fw.applied {
			continue
		}
		for p, n := range asked {
			if got := fw.amounts[p]; got != n && (n > 0 || got != 0) {
				return 0, fmt.Errorf("write %s adjusts %s by %d, want %d", fw.id, p.limit, got, n)
			}
		}
		if fw.event != 0 {
			return 0, fmt.Errorf("write %s of an adjust counts %d events, want 0", fw.id, fw.event)
		}
		for _, n := range fw.amounts {
			if n < 0 {
				given++
				break
			}
		}
		for _, n := range fw.amounts {
			if n > 0 {
				charged++
				break
			}
		}
	}
	if given > 1 {
		return 0, fmt.Errorf("given %d times", given)
	}
	w.tally.Given += given
	if gives && given == 0 {
		w.tally.LostGives++
	}
	if o.err == nil {
		// Where an answer was lost the gives are forgotten and the charges repeated.
		// A take that is found by its id, when others have come since, may have no receipt.
		forgotten := (charges || w.kinds(entity)) && w.stores[o.store].Stats().Unanswered > 0 || w.converts
		switch {
		case charges && charged == 0:
			err = errors.New("told that it was charged, and it was not")
		case gives && given == 0 && !forgotten:
			err = errors.New("told that it was given back, and it was not")
		case charged > 1:
			w.tally.Doubled++
			beside = 1
		}
	}
	return beside, err
}

// checkBucket compares a bucket with what was applied to it.
func (w *faultWorld) checkBucket(ctx context.Context, direct *dynamodb.Client, entity string) error {
	out, err := direct.GetItem(ctx, &dynamodb.GetItemInput{TableName: aws.String(w.table), ConsistentRead: aws.Bool(true), Key: map[string]types.AttributeValue{
		"PK": &types.AttributeValueMemberS{Value: "E#" + entity}, "SK": &types.AttributeValueMemberS{Value: "B#gpt-4"},
	}})
	if err != nil {
		return err
	}
	r, err := dynamostore.RecordOf(out.Item)
	if err != nil {
		return err
	}
	w.tally.Removals += int(r.Removals())
	for p, d := range w.limits {
		if p.entity != entity || d.Kind == bucket.Slots || d.Flags&bucket.Block != 0 {
			continue
		}
		state := bucket.State{}
		if r != nil {
			state = r.State(p.limit)
		}
		if w.flavor == flowing && d.Kind == bucket.Rate {
			err = errors.Join(w.least(p, d, state), w.most(p, d))
		} else {
			err = w.exact(p, d, state)
		}
		if err != nil {
			return fmt.Errorf("%v: %w", p, err)
		}
	}
	return nil
}

// exact: nothing has refilled, so that what is missing is what was applied, but for
// a unit here and there that the real clock brings, and for the pad of a take that
// aimed above the drip. It is no less than what clients were told.
func (w *faultWorld) exact(p place, d bucket.Definition, state bucket.State) error {
	var applied, given, told int64
	for _, fw := range w.applied() {
		applied += fw.amounts[p]
		given += max(0, -fw.amounts[p])
	}
	for _, o := range w.ops {
		if n := o.asked[p]; n < 0 || o.err == nil {
			told += n
		}
	}
	level, unit, few, pad := int64(0), int64(1), int64(0), int64(0)
	at := must(bucket.At(w.ops[0].from))
	if !state.Absent() {
		d = state.Definition
	}
	switch {
	case d.Kind != bucket.Rate && !state.Absent():
		level = state.UsedAt(at)
	case d.Kind == bucket.Rate:
		unit, few, pad = d.Unit(), 20, protocol.PadFor(d, 0)
		if !state.Full(at) {
			level = state.Mark - d.Drip(at)
		}
	}
	if w.converts { // tokens are rounded up
		few, pad = max(few, unit), pad+2*unit
	}
	if w.kinds(p.entity) { // what a receipt does not own is given back in usage alone
		pad += given * unit
	}
	if off := level - applied*unit; off > few+pad || off < -few {
		return fmt.Errorf("%d units are missing from the bucket, and %d tokens were applied", level, applied)
	}
	if level < told*unit-few {
		return fmt.Errorf("%d units are missing from the bucket, and clients were told of %d tokens: charges were lost", level, told)
	}
	return nil
}

func must(at bucket.Instant, err error) bucket.Instant {
	if err != nil {
		panic(err)
	}
	return at
}

// told are the charges that clients were told of, in order of when they were asked.
func (w *faultWorld) told(p place) []*faultOp {
	var told []*faultOp
	for _, o := range w.ops {
		if o.err == nil && o.asked[p] > 0 {
			told = append(told, o)
		}
	}
	slices.SortFunc(told, func(a, b *faultOp) int { return a.from.Compare(b.from) })
	return told
}

// undone is what undos gave: by a clock that is behind, which has not seen what
// others did meanwhile, they may give what has refilled.
func (w *faultWorld) undone(p place) (units int64) {
	for _, fw := range w.applied() {
		if fw.event < 0 {
			units -= fw.amounts[p] * w.limits[p].Unit()
		}
	}
	return units
}

// least: whatever the order in which charges are applied, the mark is at or above
// the drip when the first of them was asked plus all of them.
func (w *faultWorld) least(p place, d bucket.Definition, state bucket.State) error {
	sum := -w.undone(p)
	for _, o := range slices.Backward(w.told(p)) {
		sum += o.asked[p] * d.Unit()
		if mark := d.Drip(must(bucket.At(o.from))) + sum; state.Absent() || state.Mark < mark {
			return fmt.Errorf("the mark is %d, and clients were told of charges since %v that leave it at %d or above: charges were lost", state.Mark, o.from, mark)
		}
	}
	return nil
}

// most is I1: takes at instants from a to b are at most the burst and the refill
// from a to b, and what they waited for.
func (w *faultWorld) most(p place, d bucket.Definition) error {
	told := w.told(p)
	for i, first := range told {
		sum, last := -w.undone(p), first.at
		for _, o := range told[i:] {
			if !o.take {
				continue // debts have no bound
			}
			sum += o.asked[p] * d.Unit()
			if end := o.at.Add(o.maxWait); end.After(last) {
				last = end
			}
			if most := d.Burst*d.Unit() + d.Drip(must(bucket.At(last))) - d.Drip(must(bucket.At(first.from))); sum > most {
				return fmt.Errorf("%d units taken from %v to %v, want at most %d", sum, first.from, last, most)
			}
		}
	}
	return nil
}
