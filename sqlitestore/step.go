package sqlitestore

import (
	"errors"
	"math/rand/v2"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// find reads the buckets of debits, in their order. err is about one of them;
// fatal that nothing can be done with the file.
func (t *txn) find(debits []zael.Debit, buf []*row) (rows []*row, err, fatal error) {
	for i := range debits {
		r, err := t.row(debits[i].Key)
		if errors.Is(err, errDamaged) {
			return nil, err, nil
		}
		if err != nil {
			return nil, nil, err
		}
		buf = append(buf, r)
	}
	return buf, nil, nil
}

// seen is the latest instant known of a bucket.
func (r *row) seen(at bucket.Instant) bucket.Instant {
	if len(r.limits) == 0 {
		return at
	}
	return max(at, r.latest)
}

// under brings a limit's state under a definition, at the latest instant known
// of the bucket: at an older one the change would count for the time between.
// A limit that is not there may have been forgotten when it was full: it is as
// full as it was then.
func (t *txn) under(r *row, state bucket.State, d bucket.Definition, at bucket.Instant) bucket.State {
	if !state.Absent() {
		return state.Under(d, r.seen(at), 0)
	}
	state = state.Under(d, at, rand.Uint64())
	if at < t.forgotten {
		state.Mark = max(state.Mark, d.Drip(t.forgotten))
	}
	return state
}

// take does zael.BucketStore.Take. err is the answer, fatal as in find.
func (t *txn) take(o *op) (err, fatal error) {
	var buf [2]*row
	rows, err, fatal := t.find(o.debits, buf[:0])
	if err != nil || fatal != nil {
		return err, fatal
	}
	fits := true
	for i := range o.debits {
		charges := o.debits[i].Charges
		for j := range charges {
			ch := &charges[j]
			kept := rows[i].state(ch.Name)
			if kept.Stale(ch.Definition) {
				showKept(rows, o.debits)
				return zael.ErrStaleLimits, nil
			}
			state := t.under(rows[i], kept, ch.Definition, o.at)
			next, ok := state.Take(o.at, ch.Amount, o.maxWait)
			ch.State, ch.Receipt = next, bucket.Receipt{Mark: state.Mark} // the mark before, for refuse
			fits = fits && ok
		}
	}
	if !fits {
		t.refuse(rows, o)
		return zael.ErrExceeded, nil
	}
	for i := range o.debits {
		charges := o.debits[i].Charges
		for j := range charges {
			charges[j].Receipt = charges[j].State.Receipt()
		}
		t.keep(rows[i], &o.debits[i], o, 1)
	}
	return nil, nil
}

// keep writes the states of a debit into its row and counts usage. A charge of
// 0 makes no new limit.
func (t *txn) keep(r *row, debit *zael.Debit, o *op, events int64) {
	fresh := len(r.limits) == 0
	for j := range debit.Charges {
		ch := &debit.Charges[j]
		if o.kind == undoes && ch.Amount == 0 {
			continue
		}
		r.set(ch.Name, &ch.State, ch.Amount > 0)
	}
	if len(r.limits) > 0 {
		r.latest = max(r.latest, o.at)
		if fresh {
			r.latest = o.at
			t.owed += rowsForNew
		}
		t.touch(r)
	}
	t.count(r, debit.Charges, o.hour, events)
}

// refuse undoes what take wrote into the debits, and keeps definitions that
// would admit sooner.
func (t *txn) refuse(rows []*row, o *op) {
	for i := range o.debits {
		for j := range o.debits[i].Charges {
			ch := &o.debits[i].Charges[j]
			ch.State.Mark, ch.Receipt = ch.Receipt.Mark, bucket.Receipt{}
			if kept := rows[i].state(ch.Name); !kept.Absent() && kept.Definition != ch.Definition &&
				ch.State.Wait(o.at, ch.Amount) < kept.Wait(o.at, ch.Amount) {
				rows[i].set(ch.Name, &ch.State, false)
				t.touch(rows[i])
			}
		}
	}
}

// showKept writes the states as they are kept into the debits.
func showKept(rows []*row, debits []zael.Debit) {
	for i := range debits {
		for j := range debits[i].Charges {
			ch := &debits[i].Charges[j]
			ch.State, ch.Receipt = rows[i].state(ch.Name), bucket.Receipt{}
		}
	}
}

// adjust does zael.BucketStore.Adjust, and undoes takes.
func (t *txn) adjust(o *op) (err, fatal error) {
	var buf [2]*row
	rows, err, fatal := t.find(o.debits, buf[:0])
	if err != nil || fatal != nil {
		return err, fatal
	}
	for i := range o.debits {
		charges := o.debits[i].Charges
		for j := range charges {
			ch := &charges[j]
			state := rows[i].state(ch.Name)
			for k := range j {
				if charges[k].Name == ch.Name {
					state = charges[k].State
				}
			}
			if ch.State, err = t.adjusted(rows[i], state, ch, o.at); err != nil {
				return &zael.ValidationError{Field: "amount of " + ch.Name, Value: ch.Amount, Reason: err.Error()}, nil
			}
		}
	}
	events := int64(0)
	if o.kind == undoes {
		events = -1
	}
	for i := range o.debits {
		t.keep(rows[i], &o.debits[i], o, events)
	}
	return nil, nil
}

// adjusted is a limit's state after one charge.
func (t *txn) adjusted(r *row, state bucket.State, ch *zael.Charge, at bucket.Instant) (bucket.State, error) {
	if ch.Amount < 0 {
		return state.Give(r.seen(at), -ch.Amount, ch.Receipt), nil
	}
	if !state.Stale(ch.Definition) && (ch.Amount > 0 || !state.Absent()) {
		state = t.under(r, state, ch.Definition, at)
	}
	return state.Charge(at, ch.Amount)
}
