package postgresstore

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/hourly"
	"github.com/zeroae/zael/internal/saturate"
	"github.com/zeroae/zael/internal/storearg"
)

const (
	// idle is how long a limit must have been full to be forgotten. Callers whose clocks differ
	// by less do not notice.
	idle = bucket.Instant(time.Second)

	// fewLimits is how many limits of a bucket are not searched for those that can be forgotten.
	fewLimits = 32
)

// A step performs ops on rows in memory. What it leaves is to be written in one transaction.
type step struct {
	store   *Store
	rows    map[zael.Key]*row
	changed map[*row]bool
	usage   map[usageKey]int64 // to be added to the table
}

// A usageKey is the key of a row of the table usage, within a namespace.
type usageKey struct {
	entity   string
	hour     int64
	resource string
	name     string // of the limit; "" for acquires, and with overdrawnMark for those that left it overdrawn
}

// overdrawnMark is before the name of a limit, which has none, where usage counts the acquires that
// left it overdrawn.
const overdrawnMark = "!"

func newStep(s *Store, rows []*row) *step {
	t := &step{store: s, rows: make(map[zael.Key]*row, len(rows)), changed: map[*row]bool{}}
	for _, r := range rows {
		t.rows[r.key] = r
	}
	return t
}

// perform performs an op, and sets what it answers.
func (t *step) perform(o *op) {
	o.held = false
	switch o.kind {
	case takeOp:
		o.err = t.take(o)
	case adjustOp, undoOp:
		o.err = t.adjust(o)
	case extendOp:
		r := t.find(o, 0)
		if o.deadline, o.held = r.Extend(o.charges, o.at); o.held {
			t.touch(r, o.at)
		}
		o.err = nil
	}
}

// find returns the row of a debit.
func (t *step) find(o *op, i int) *row {
	r := t.rows[o.debits[i].Key]
	r.Own = o.debits[i].Holder
	return r
}

// take does zael.BucketStore.Take.
func (t *step) take(o *op) error {
	for i := range o.debits {
		if t.find(o, i).settings > o.debits[i].SettingsRev {
			return zael.ErrStaleSettings
		}
	}
	outcome := bucket.Fits
	for i := range o.debits {
		if !o.debits[i].Bypass {
			outcome = max(outcome, t.find(o, i).Take(o.debits[i].Charges, o.at, o.maxWait, rand.Uint64()))
		}
	}
	t.finish(outcome, o, 1)
	switch outcome {
	case bucket.Exceeds:
		for i := range o.debits {
			t.find(o, i).refuses = true
		}
		return zael.ErrExceeded
	case bucket.StaleLimits:
		return zael.ErrStaleLimits
	}
	return nil
}

// adjust does zael.BucketStore.Adjust, and undoes takes.
func (t *step) adjust(o *op) error {
	for i := range o.debits {
		charges := o.debits[i].Charges
		if o.debits[i].Bypass {
			continue
		}
		if bad, err := t.find(o, i).Adjust(charges, o.at, rand.Uint64()); err != nil {
			return storearg.Invalid("amount of "+charges[bad].Name, charges[bad].Amount, err.Error())
		}
	}
	events := int64(0)
	if o.kind == undoOp {
		events = -1
	}
	t.finish(bucket.Fits, o, events)
	return nil
}

// finish completes an op on all its rows, and counts its usage.
func (t *step) finish(outcome bucket.Outcome, o *op, events int64) {
	for i := range o.debits {
		r, charges := t.find(o, i), o.debits[i].Charges
		fresh := len(r.Limits) == 0
		if o.debits[i].Bypass {
			r.Pass(charges, o.at)
			if outcome == bucket.Fits && t.count(r, charges, o.hour, events) && !fresh {
				t.touch(r, o.at)
			}
			continue
		}
		t.forgetLimits(r, charges, o.at-idle)
		if r.Finish(outcome, charges, o.at) {
			if r.birth == 0 {
				r.birth = r.Limits[0].State.Generation
			}
			t.touch(r, o.at)
		}
		if outcome == bucket.Fits {
			t.count(r, charges, o.hour, events)
			t.countOverdrawn(r, o.overdrew(i), o.hour, events)
		}
	}
}

// touch marks r to be written.
func (t *step) touch(r *row, at bucket.Instant) {
	t.changed[r] = true
	r.expire(at)
}

// forgetLimits forgets the limits of a bucket that have been full since an instant and that
// no charge names, if they are half of many.
func (t *step) forgetLimits(r *row, charges []zael.Charge, full bucket.Instant) {
	if len(r.Limits) < fewLimits {
		return
	}
	n := 0
	for i := range r.Limits {
		if r.Limits[i].State.Forgettable(full) {
			n++
		}
	}
	if n < len(r.Limits)/2 {
		return
	}
	hour := r.hour
	t.endHour(r)
	r.hour = hour
	if r.Forget(full, charges) > 0 {
		t.touch(r, full)
	}
}

// count adds what charges take and give back, and events, to the usage of an hour: in the row,
// if the bucket exists and the row is not in a later hour, which it reports; otherwise in the
// table.
func (t *step) count(r *row, charges []zael.Charge, hour, events int64) (inRow bool) {
	nothing := events == 0
	for j := range charges {
		nothing = nothing && charges[j].Amount == 0
	}
	if nothing || !t.store.config.Usage {
		return false
	}
	inRow = len(r.Limits) > 0 && hour >= r.hour
	if inRow {
		if hour > r.hour {
			t.endHour(r)
			r.hour = hour
		}
		r.events += events
	} else {
		t.addUsage(r.key, hour, "", events)
	}
	for j := range charges {
		ch := &charges[j]
		if ch.Definition.Kind == bucket.Slots && ch.Amount < 0 && events >= 0 {
			continue // released: they were used
		}
		if ch.Amount == 0 || inRow && r.used.Count(r.Limits, ch.Name, ch.Amount) {
			continue
		}
		t.addUsage(r.key, hour, ch.Name, ch.Amount)
	}
	return inRow
}

// countOverdrawn adds acquires that left limits overdrawn to the usage of an hour, in the place
// where count adds the rest.
func (t *step) countOverdrawn(r *row, names []string, hour, acquires int64) {
	if !t.store.config.Usage {
		return
	}
	for _, name := range names {
		if hour != r.hour || !r.used.Overdraw(r.Limits, name, acquires) {
			t.addUsage(r.key, hour, overdrawnMark+name, acquires)
		}
	}
}

func (t *step) addUsage(key zael.Key, hour int64, name string, n int64) {
	if t.usage == nil {
		t.usage = map[usageKey]int64{}
	}
	k := usageKey{key.Entity, hour, key.Resource, name}
	t.usage[k] = saturate.Add(t.usage[k], n)
}

// endHour moves the usage of a row to the table.
func (t *step) endHour(r *row) {
	if r.hour == hourly.None {
		return
	}
	for name, n := range r.usage() {
		t.addUsage(r.key, r.hour, name, n)
	}
	r.events, r.used, r.hour = 0, r.used[:0], hourly.None
}

// usage returns the usage of a row by names as in the table.
func (r *row) usage() map[string]int64 {
	all := map[string]int64{"": r.events}
	for i, u := range r.used {
		if u.Counted {
			all[r.Limits[i].Name] = saturate.Add(all[r.Limits[i].Name], u.Tokens)
		}
		if u.Overdrawn != 0 {
			all[overdrawnMark+r.Limits[i].Name] = u.Overdrawn
		}
	}
	return all
}

// usageRows returns what is to be added to the table, in the order of its key.
func (t *step) usageRows() (keys []usageKey) {
	for k := range t.usage {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b usageKey) int {
		return cmp.Or(cmp.Compare(a.entity, b.entity), cmp.Compare(a.hour, b.hour), cmp.Compare(a.resource, b.resource), cmp.Compare(a.name, b.name))
	})
	return keys
}

func compareKeys(a, b zael.Key) int {
	return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Resource, b.Resource))
}
