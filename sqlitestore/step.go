package sqlitestore

import (
	"errors"
	"math/rand/v2"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/storearg"
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
		r.Forgotten, r.Own = t.file.forgotten, debits[i].Holder
		buf = append(buf, r)
	}
	return buf, nil, nil
}

// take does zael.BucketStore.Take. err is the answer, fatal as in find.
func (t *txn) take(o *op) (err, fatal error) {
	var buf [2]*row
	rows, err, fatal := t.find(o.debits, buf[:0])
	if err != nil || fatal != nil {
		return err, fatal
	}
	outcome := bucket.Fits
	for i, r := range rows {
		if r.settingsRev > o.debits[i].SettingsRev {
			return zael.ErrStaleSettings, nil
		}
	}
	for i, r := range rows {
		if o.debits[i].Bypass {
			continue
		}
		outcome = max(outcome, r.Take(o.debits[i].Charges, o.at, o.maxWait, rand.Uint64()))
	}
	t.finish(outcome, rows, o, 1)
	switch outcome {
	case bucket.Exceeds:
		return zael.ErrExceeded, nil
	case bucket.StaleLimits:
		return zael.ErrStaleLimits, nil
	}
	return nil, nil
}

// adjust does zael.BucketStore.Adjust, and undoes takes.
func (t *txn) adjust(o *op) (err, fatal error) {
	var buf [2]*row
	rows, err, fatal := t.find(o.debits, buf[:0])
	if err != nil || fatal != nil {
		return err, fatal
	}
	for i, r := range rows {
		charges := o.debits[i].Charges
		if o.debits[i].Bypass {
			continue
		}
		if bad, err := r.Adjust(charges, o.at, rand.Uint64()); err != nil {
			return storearg.Invalid("amount of "+charges[bad].Name, charges[bad].Amount, err.Error()), nil
		}
	}
	events := int64(0)
	if o.kind == undoOp {
		events = -1
	}
	t.finish(bucket.Fits, rows, o, events)
	return nil, nil
}

// finish completes an op on all its rows, and counts its usage.
func (t *txn) finish(outcome bucket.Outcome, rows []*row, o *op, events int64) {
	for i, r := range rows {
		charges, fresh := o.debits[i].Charges, len(r.Limits) == 0
		if o.debits[i].Bypass {
			r.Pass(charges, o.at)
			if outcome == bucket.Fits {
				t.count(r, charges, o.hour, events)
				if !fresh {
					t.touch(r)
				}
			}
			continue
		}
		t.forgetLimits(r, charges, o.at-idle)
		if r.Finish(outcome, charges, o.at) {
			t.touch(r)
			if fresh {
				t.owed += rowsForNew
			}
		}
		if outcome == bucket.Fits {
			t.count(r, charges, o.hour, events)
			t.countOverdrawn(r, o.overdrew(i), o.hour, events)
		}
	}
}
