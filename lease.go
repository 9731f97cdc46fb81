package zael

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/zeroae/zael/bucket"
)

// A Lease is what an acquire took, until Commit or Rollback ends it. Adjust,
// Release and Settle only record what was really used; Commit then charges or
// gives back the difference, which never refuses and may leave debt. A lease
// that is never ended keeps what was taken. Its methods may be called
// concurrently, and none waits for another.
//
// After a cascade everything counts for the parent's bucket as well.
type Lease struct {
	limiter  *Limiter
	mode     FailureMode
	stored   bool // unknown names are ignored
	degraded bool
	delay    time.Duration
	decision Decision

	mu       sync.Mutex
	closed   bool
	recorded bool // what was used, or a part of it
	rows     []row
	debits   []Debit // the charges so far, merged, with receipts; each bucket's limits come first
	limits   [2]int  // how many limits each of the debits has
	own      int     // rows of the entity's limits; the others are only the parent's

	room struct { // for the usual lease, which is one allocation then
		rows    [2]row
		debits  [1]Debit
		charges [2]Charge
	}
}

// A row is one limit's account.
type row struct {
	name  string
	taken int64 // charged so far
	used  int64 // to be charged in the end
}

// newLease copies what was taken: c is used again.
func (l *Limiter) newLease(req *Request, c *attempt, at time.Time) *Lease {
	stored := req.UseStoredLimits || req.Policy != nil && req.Policy.stored
	lease := &Lease{limiter: l, mode: req.FailureMode, stored: stored, delay: c.delay(at)}
	lease.decision, _ = c.decision(at, false, 0) // the instant is the store's own
	lease.rows = lease.room.rows[:0]
	lease.debits = lease.room.debits[:0]
	charges := append(lease.room.charges[:0], c.charges...)
	first := 0
	for i, d := range c.debits {
		end := first + len(d.Charges)
		mine := charges[first:end:end]
		first = end
		lease.limits[i] = len(mine)
		lease.debits = append(lease.debits, Debit{Key: d.Key, Charges: mine})
		for j := range mine {
			if i == 0 || lease.row(mine[j].Name) == nil {
				lease.rows = append(lease.rows, row{mine[j].Name, mine[j].Amount, mine[j].Amount})
			}
		}
		if i == 0 {
			lease.own = len(lease.rows)
		}
	}
	return lease
}

// degradedLease charges nothing and keeps account.
func (l *Limiter) degradedLease(req *Request) *Lease {
	lease := &Lease{limiter: l, mode: req.FailureMode, stored: req.UseStoredLimits, degraded: true}
	lease.decision = Decision{Admitted: true, Degraded: true}
	p, err := new(attempt).policy(req)
	if err != nil {
		return lease // the request was valid before
	}
	lease.stored = req.stored(p)
	for i, name := range p.names {
		amount := req.amount(p, i, name)
		lease.rows = append(lease.rows, row{name, amount, amount})
	}
	lease.own = len(lease.rows)
	for name, amount := range req.Consume {
		if lease.row(name) == nil {
			lease.rows = append(lease.rows, row{name, amount, amount})
		}
	}
	if lease.stored { // whose limits they are is not known
		lease.own = len(lease.rows)
	}
	return lease
}

func (le *Lease) row(name string) *row {
	for i := range le.rows {
		if le.rows[i].name == name {
			return &le.rows[i]
		}
	}
	return nil
}

// Delay is the time from the acquire until all its tokens are there; 0 without
// Request.MaxWait. Acquire has waited for it.
func (le *Lease) Delay() time.Duration { return le.delay }

// Degraded tells whether the lease was given because the store was unavailable
// and the failure mode open: nothing was or will be charged.
func (le *Lease) Degraded() bool { return le.degraded }

// Decision returns how the limits stood just after the acquire. What the lease
// has taken or given back since is not in it.
func (le *Lease) Decision() Decision { return le.decision.clone() }

// Consumed is what the entity's limits are charged in the end, as things stand.
func (le *Lease) Consumed() Amounts {
	le.mu.Lock()
	defer le.mu.Unlock()
	a := make(Amounts, le.own)
	for _, r := range le.rows[:le.own] {
		a[r.name] = r.used
	}
	return a
}

// Adjust adds to what was used, or takes off it where amounts are negative,
// down to 0.
func (le *Lease) Adjust(amounts Amounts) error {
	return le.record("Adjust", amounts, adds|signed, func(r *row, n int64) int64 { return r.used + n })
}

// Release takes amounts off what was used, down to 0.
func (le *Lease) Release(amounts Amounts) error {
	return le.record("Release", amounts, 0, func(r *row, n int64) int64 { return r.used - n })
}

// Settle says what was really used of the limits named; the others stay.
func (le *Lease) Settle(amounts Amounts) error {
	return le.record("Settle", amounts, 0, func(_ *row, n int64) int64 { return n })
}

// record changes the account of all limits named, or of none.
func (le *Lease) record(verb string, amounts Amounts, how how, use func(*row, int64) int64) error {
	le.mu.Lock()
	defer le.mu.Unlock()
	if le.closed {
		return ErrLeaseClosed
	}
	if err := le.check(verb, amounts, how); err != nil {
		return err
	}
	for name, n := range amounts {
		if r := le.row(name); r != nil {
			r.used = max(0, use(r, n))
		}
	}
	le.recorded = true
	return nil
}

// how the amounts of a call are meant.
type how uint8

const (
	adds   how = 1 << iota // to what was used
	signed                 // may be negative
)

// check finds the names and numbers that record and Consume cannot take.
func (le *Lease) check(verb string, amounts Amounts, how how) error {
	unknown, known := []string(nil), false
	for name, n := range amounts {
		least := int64(0)
		if how&signed != 0 {
			least = -bucket.MaxAmount
		}
		if err := checkAmount(verb, name, n, least); err != nil {
			return err
		}
		r := le.row(name)
		if r == nil {
			if !le.stored {
				return invalid(verb, name, "is not the name of a limit of the lease")
			}
			unknown = append(unknown, name)
			continue
		}
		known = true
		if how&adds != 0 && n > bucket.MaxAmount-r.used {
			return invalid(verb+" "+name, n, fmt.Sprintf("comes, with %d used before, to more than %d tokens", r.used, bucket.MaxAmount))
		}
	}
	if len(unknown) > 0 && !known {
		return invalid(verb, unknown[0], "is not the name of a limit of the lease, and no other name is")
	}
	if len(unknown) > 0 {
		le.limiter.stats.unknownNames.Add(1)
	}
	return nil
}

// Consume takes more now, all or nothing, as Reserve does without MaxWait. A
// refusal leaves the lease as it was. If the lease is ended meanwhile, what was
// taken is given back, and the error is ErrLeaseClosed.
func (le *Lease) Consume(ctx context.Context, amounts Amounts) error {
	c, err := le.consuming(amounts)
	if err != nil {
		return err
	}
	var at time.Time
	if !le.degraded {
		if at, err = le.limiter.takeMore(ctx, c); err != nil {
			if !le.limiter.admitsUnavailable(le.mode, err) {
				return err
			}
			c.reset() // nothing was taken
		}
	}
	if le.consumed(c, amounts, at) {
		return nil
	}
	_ = le.limiter.adjust(ctx, c.back()) // else it refills
	return ErrLeaseClosed
}

// back gives back what the call took.
func (a *attempt) back() []Debit {
	var debits []Debit
	for _, d := range a.debits {
		var charges []Charge
		for _, ch := range d.Charges {
			if ch.Amount > 0 {
				charges = append(charges, Charge{Name: ch.Name, Definition: ch.Definition, Amount: -ch.Amount, Receipt: ch.Receipt})
			}
		}
		if len(charges) > 0 {
			debits = append(debits, Debit{Key: d.Key, Charges: charges})
		}
	}
	return debits
}

// consuming is the call that takes amounts under the limits that the lease has.
func (le *Lease) consuming(amounts Amounts) (*attempt, error) {
	le.mu.Lock()
	defer le.mu.Unlock()
	if le.closed {
		return nil, ErrLeaseClosed
	}
	if err := le.check("Consume", amounts, adds); err != nil {
		return nil, err
	}
	return le.call(amounts), nil
}

// consumed adds what c took to the lease, unless that was ended.
func (le *Lease) consumed(c *attempt, amounts Amounts, at time.Time) bool {
	le.mu.Lock()
	defer le.mu.Unlock()
	if le.closed {
		return false
	}
	for i := range c.debits {
		le.debits[i].Charges = merged(append(le.debits[i].Charges, c.debits[i].Charges...), le.limits[i], at)
	}
	for name, n := range amounts {
		r := le.row(name)
		if r == nil {
			continue
		}
		if len(c.debits) > 0 {
			r.taken += n
		}
		r.used = min(r.used+n, bucket.MaxAmount) // others may have added meanwhile
	}
	le.recorded = true
	return true
}

// call asks for amounts under the limits that the lease has.
func (le *Lease) call(amounts Amounts) *attempt {
	c := &attempt{own: le.limits[0]}
	for i, d := range le.debits {
		for _, ch := range d.Charges[:le.limits[i]] {
			c.charges = append(c.charges, Charge{Name: ch.Name, Definition: ch.Definition, Amount: amounts[ch.Name]})
			c.limits = append(c.limits, &bucket.Limit{Name: ch.Name, Definition: ch.Definition})
		}
	}
	first := 0
	for i, d := range le.debits {
		end := first + le.limits[i]
		c.debits = append(c.debits, Debit{Key: d.Key, Charges: c.charges[first:end:end]})
		first = end
	}
	return c
}

// Commit ends the lease with what was used: where that is not what was taken
// the difference is charged or given back, in one call of the store. It works
// after ctx was cancelled, within Config.Timeout. If the store is unavailable
// the amounts taken stand, and it is an error unless the failure mode is open.
// A lease that was ended gives ErrLeaseClosed.
func (le *Lease) Commit(ctx context.Context) error {
	debits, err := le.end(false)
	if err != nil {
		return err
	}
	return le.settle(ctx, debits)
}

// Rollback ends the lease and gives back what has not refilled by itself. It
// does nothing after Commit or Rollback, so that it can be deferred, and works
// after ctx was cancelled, within Config.Timeout. If the store is unavailable
// the tokens refill by themselves; that is an error unless the failure mode is
// open.
func (le *Lease) Rollback(ctx context.Context) error {
	debits, err := le.end(true)
	if err != nil {
		return nil //nolint:nilerr // it was ended before
	}
	return le.settle(ctx, debits)
}

// fail ends the lease after the work has failed: with what was recorded, or, if
// nothing was, by giving everything back. It does nothing if the lease was ended.
func (le *Lease) fail(ctx context.Context) error {
	le.mu.Lock()
	recorded := le.recorded
	le.mu.Unlock()
	if !recorded {
		return le.Rollback(ctx)
	}
	if err := le.Commit(ctx); !errors.Is(err, ErrLeaseClosed) {
		return err
	}
	return nil
}

// end closes the lease and returns what brings the buckets to what was used, or
// to nothing.
func (le *Lease) end(undo bool) ([]Debit, error) {
	le.mu.Lock()
	defer le.mu.Unlock()
	if le.closed {
		return nil, ErrLeaseClosed
	}
	le.closed = true
	if undo {
		for i := range le.rows {
			le.rows[i].used = 0
		}
	}
	return le.difference(), nil
}

// settle makes the last change.
func (le *Lease) settle(ctx context.Context, debits []Debit) error {
	err := le.limiter.adjust(ctx, debits)
	if err != nil && le.limiter.admitsUnavailable(le.mode, err) {
		return nil
	}
	return err
}

// adjust makes a change that is never refused, whether or not ctx was cancelled.
func (l *Limiter) adjust(ctx context.Context, debits []Debit) error {
	if len(debits) == 0 {
		return nil
	}
	now := l.now()
	if l.local != nil {
		if _, answered, err := l.local.AdjustLocal(now, debits); answered {
			return l.localError(debits[0].Key, err)
		}
	}
	var b budget
	defer b.end()
	err := l.ask(context.WithoutCancel(ctx), &b, debits[0].Key, func(ctx context.Context) error {
		_, err := l.store.Adjust(ctx, now, debits)
		return err
	})
	if err != nil && slices.ContainsFunc(debits, gives) {
		l.stats.lostGives.Add(1)
	}
	return err
}

func gives(d Debit) bool {
	return slices.ContainsFunc(d.Charges, func(ch Charge) bool { return ch.Amount < 0 })
}

// difference is what brings the buckets from what was taken to what was used.
// Gives begin with the newest charge.
func (le *Lease) difference() []Debit {
	var debits []Debit
	for i, d := range le.debits {
		var charges []Charge
		for _, ch := range d.Charges[:le.limits[i]] {
			r := le.row(ch.Name)
			diff := r.used - r.taken
			if diff > 0 {
				charges = append(charges, Charge{Name: ch.Name, Definition: ch.Definition, Amount: diff})
			}
			for j := len(d.Charges) - 1; j >= 0 && diff < 0; j-- {
				taken := &d.Charges[j]
				if n := min(-diff, taken.Amount); taken.Name == ch.Name && n > 0 {
					charges = append(charges, Charge{
						Name: ch.Name, Definition: ch.Definition, Amount: -n, Receipt: taken.Receipt,
					})
					diff += n
				}
			}
		}
		if len(charges) > 0 {
			debits = append(debits, Debit{Key: d.Key, Charges: charges})
		}
	}
	return debits
}

// merged are charges in order of time, of which the first name the limits, as
// fewer that give back the same: so a lease that takes more very often keeps few.
func merged(charges []Charge, limits int, at time.Time) []Charge {
	now, err := bucket.At(at)
	if err != nil {
		return charges
	}
	kept := charges[:limits]
	for _, ch := range charges[limits:] {
		last := len(kept) - 1
		for kept[last].Name != ch.Name {
			last--
		}
		if !merge(&kept[last], &ch, now) {
			kept = append(kept, ch)
		}
	}
	clear(charges[len(kept):])
	return kept
}

// merge makes c one charge of both if that gives back the same: if their
// stretches (Mark − n, Mark] adjoin, or both have refilled and only count as
// usage, or one is empty. It reports whether it has.
func merge(c, later *Charge, now bucket.Instant) bool {
	d, a, b := &later.Definition, c.Receipt, later.Receipt
	if a.Axis != b.Axis || c.Amount > bucket.MaxAmount-later.Amount {
		return false
	}
	adjoin := b.Mark-later.Amount*d.Unit() == a.Mark
	refilled := a.Mark <= d.Drip(now) && b.Mark <= d.Drip(now)
	if c.Amount > 0 && later.Amount > 0 && !adjoin && !refilled {
		return false
	}
	if later.Amount > 0 {
		c.Receipt = b
	}
	c.Amount += later.Amount
	return true
}
