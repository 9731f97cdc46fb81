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

// A Lease holds what an acquire took, until [Lease.Commit] or [Lease.Rollback] ends
// it. [Lease.Adjust], [Lease.Release] and [Lease.Settle] record what was really used,
// without a call of the store. Commit then charges or gives back the difference: it
// is never refused, and may leave debt. If a lease is never ended, what was taken
// stays taken.
//
// After a cascade everything applies to the parent's bucket as well. The methods of a
// Lease may be called concurrently, and none waits for another's call of the store.
type Lease struct {
	limiter  *Limiter
	mode     FailureMode
	stored   bool // the limits are stored ones: unknown names are ignored
	degraded bool
	delay    time.Duration
	decision Decision

	mu       sync.Mutex
	closed   bool
	recorded bool // what was used, or a part of it
	accounts []account
	debits   []Debit // the charges so far, merged, with receipts; each bucket's limits come first
	limits   [2]int  // rule many limits each of the debits has
	own      int     // accounts of the entity's limits; the others are only the parent's

	inline struct { // holds the usual lease, which then is one allocation
		accounts [2]account
		debits   [1]Debit
		charges  [2]Charge
	}
}

// An account is what was taken and used of one limit.
type account struct {
	name  string
	taken int64 // charged so far
	used  int64 // to be charged in the end
}

// newLease returns a lease on what a took. It copies, as a is reused.
func (l *Limiter) newLease(req *Request, a *attempt, at time.Time) *Lease {
	stored := req.UseStoredLimits || req.Policy != nil && req.Policy.stored
	lease := &Lease{limiter: l, mode: req.FailureMode, stored: stored, delay: a.delay(at)}
	lease.decision, _ = a.decision(at, false, 0) // the instant is the store's own
	lease.accounts = lease.inline.accounts[:0]
	lease.debits = lease.inline.debits[:0]
	charges := append(lease.inline.charges[:0], a.charges...)
	first := 0
	for i, d := range a.debits {
		end := first + len(d.Charges)
		mine := charges[first:end:end]
		first = end
		lease.limits[i] = len(mine)
		lease.debits = append(lease.debits, Debit{Key: d.Key, Charges: mine})
		for j := range mine {
			if i == 0 || lease.account(mine[j].Name) == nil {
				lease.accounts = append(lease.accounts, account{mine[j].Name, mine[j].Amount, mine[j].Amount})
			}
		}
		if i == 0 {
			lease.own = len(lease.accounts)
		}
	}
	return lease
}

// degradedLease returns a lease that charges nothing and only keeps accounts.
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
		lease.accounts = append(lease.accounts, account{name, amount, amount})
	}
	lease.own = len(lease.accounts)
	for name, amount := range req.Consume {
		if lease.account(name) == nil {
			lease.accounts = append(lease.accounts, account{name, amount, amount})
		}
	}
	if lease.stored { // it is not known whose limits they are
		lease.own = len(lease.accounts)
	}
	return lease
}

func (le *Lease) account(name string) *account {
	for i := range le.accounts {
		if le.accounts[i].name == name {
			return &le.accounts[i]
		}
	}
	return nil
}

// Delay returns the time from the acquire until all its tokens are there: 0 without
// Request.MaxWait. [Limiter.Acquire] has waited for it.
func (le *Lease) Delay() time.Duration { return le.delay }

// Degraded reports whether the lease was given although the store was unavailable, as
// the failure mode is open. Then nothing was charged, and nothing will be.
func (le *Lease) Degraded() bool { return le.degraded }

// Decision returns how the limits stood just after the acquire. What the lease
// has taken or given back since is not in it.
func (le *Lease) Decision() Decision { return le.decision.clone() }

// Consumed returns the tokens used so far, by limit of the entity: what Commit would
// leave charged.
func (le *Lease) Consumed() Amounts {
	le.mu.Lock()
	defer le.mu.Unlock()
	a := make(Amounts, le.own)
	for _, acc := range le.accounts[:le.own] {
		a[acc.name] = acc.used
	}
	return a
}

// Adjust adds amounts to what was used. Negative amounts reduce it, to no less than 0.
// Errors: a [*ValidationError] for an amount out of range and, unless the limits are
// stored ones, for a name that the lease does not have; [ErrLeaseClosed].
func (le *Lease) Adjust(amounts Amounts) error {
	return le.updateUsed("Adjust", amounts, addsToUsed|mayBeNegative, func(acc *account, n int64) int64 { return acc.used + n })
}

// Release reduces what was used by amounts, to no less than 0. Errors are those of
// [Lease.Adjust].
func (le *Lease) Release(amounts Amounts) error {
	return le.updateUsed("Release", amounts, 0, func(acc *account, n int64) int64 { return acc.used - n })
}

// Settle replaces what was used of the limits named in amounts; other limits keep what
// was recorded. Errors are those of [Lease.Adjust].
func (le *Lease) Settle(amounts Amounts) error {
	return le.updateUsed("Settle", amounts, 0, func(_ *account, n int64) int64 { return n })
}

// updateUsed changes the accounts of all limits named in amounts, or of none.
func (le *Lease) updateUsed(verb string, amounts Amounts, rule amountRule, use func(*account, int64) int64) error {
	le.mu.Lock()
	defer le.mu.Unlock()
	if le.closed {
		return ErrLeaseClosed
	}
	if err := le.checkAmounts(verb, amounts, rule); err != nil {
		return err
	}
	for name, n := range amounts {
		if acc := le.account(name); acc != nil {
			acc.used = max(0, use(acc, n))
		}
	}
	le.recorded = true
	return nil
}

// An amountRule says how the amounts of a method are meant.
type amountRule uint8

const (
	addsToUsed    amountRule = 1 << iota
	mayBeNegative            // may be negative
)

// checkAmounts returns an error for names and numbers that a method cannot accept.
func (le *Lease) checkAmounts(verb string, amounts Amounts, rule amountRule) error {
	unknown, known := []string(nil), false
	for name, n := range amounts {
		least := int64(0)
		if rule&mayBeNegative != 0 {
			least = -bucket.MaxAmount
		}
		if err := checkAmount(verb, name, n, least); err != nil {
			return err
		}
		acc := le.account(name)
		if acc == nil {
			if !le.stored {
				return invalid(verb, name, "is not the name of a limit of the lease")
			}
			unknown = append(unknown, name)
			continue
		}
		known = true
		if rule&addsToUsed != 0 && n > bucket.MaxAmount-acc.used {
			return invalid(verb+" "+name, n, fmt.Sprintf("and the %d used before are more than %d tokens", acc.used, bucket.MaxAmount))
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

// Consume takes more, from all limits named in amounts or from none, as
// [Limiter.Reserve] does without MaxWait. If it is refused the lease stays as it was.
// If the lease is ended meanwhile, Consume gives back what it took and returns
// [ErrLeaseClosed].
func (le *Lease) Consume(ctx context.Context, amounts Amounts) error {
	a, err := le.beginConsume(amounts)
	if err != nil {
		return err
	}
	var at time.Time
	if !le.degraded {
		if at, err = le.limiter.takeMore(ctx, a); err != nil {
			if !le.limiter.admitsUnavailable(le.mode, err) {
				return err
			}
			a.reset() // nothing was taken
		}
	}
	if le.addConsumed(a, amounts, at) {
		return nil
	}
	_ = le.limiter.adjust(ctx, a.undoDebits()) // if that fails, the tokens refill
	return ErrLeaseClosed
}

// undoDebits returns the debits that give back what a took.
func (a *attempt) undoDebits() []Debit {
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

// beginConsume returns the attempt that takes amounts.
func (le *Lease) beginConsume(amounts Amounts) (*attempt, error) {
	le.mu.Lock()
	defer le.mu.Unlock()
	if le.closed {
		return nil, ErrLeaseClosed
	}
	if err := le.checkAmounts("Consume", amounts, addsToUsed); err != nil {
		return nil, err
	}
	return le.attemptFor(amounts), nil
}

// addConsumed adds what a took to the lease. It returns false if the lease was ended.
func (le *Lease) addConsumed(a *attempt, amounts Amounts, at time.Time) bool {
	le.mu.Lock()
	defer le.mu.Unlock()
	if le.closed {
		return false
	}
	for i := range a.debits {
		le.debits[i].Charges = mergeCharges(append(le.debits[i].Charges, a.debits[i].Charges...), le.limits[i], at)
	}
	for name, n := range amounts {
		acc := le.account(name)
		if acc == nil {
			continue
		}
		if len(a.debits) > 0 {
			acc.taken += n
		}
		acc.used = min(acc.used+n, bucket.MaxAmount) // others may have added meanwhile
	}
	le.recorded = true
	return true
}

// attemptFor returns an attempt that takes amounts under the limits of the lease.
func (le *Lease) attemptFor(amounts Amounts) *attempt {
	a := &attempt{own: le.limits[0]}
	for i, d := range le.debits {
		for _, ch := range d.Charges[:le.limits[i]] {
			a.charges = append(a.charges, Charge{Name: ch.Name, Definition: ch.Definition, Amount: amounts[ch.Name]})
			a.limits = append(a.limits, &bucket.Limit{Name: ch.Name, Definition: ch.Definition})
		}
	}
	first := 0
	for i, d := range le.debits {
		end := first + le.limits[i]
		a.debits = append(a.debits, Debit{Key: d.Key, Charges: a.charges[first:end:end]})
		first = end
	}
	return a
}

// Commit ends the lease and charges or gives back the difference between what was used
// and what was taken, in one call of the store; without a difference it makes none. It
// works after ctx was cancelled, within Config.Timeout. If the store is unavailable,
// what was taken stays taken; that is an [*UnavailableError] unless the failure mode
// is open. If the lease was ended before, it returns [ErrLeaseClosed].
func (le *Lease) Commit(ctx context.Context) error {
	debits, err := le.close(false)
	if err != nil {
		return err
	}
	return le.finish(ctx, debits)
}

// Rollback ends the lease and gives back what was taken and has not refilled yet. It
// works after ctx was cancelled, within Config.Timeout. If the store is unavailable,
// the tokens refill by themselves; that is an [*UnavailableError] unless the failure
// mode is open. After Commit or Rollback it does nothing, so that it can be deferred.
func (le *Lease) Rollback(ctx context.Context) error {
	debits, err := le.close(true)
	if err != nil {
		return nil //nolint:nilerr // the lease was ended before
	}
	return le.finish(ctx, debits)
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

// close ends the lease and returns the debits that bring the buckets to what was used,
// or to nothing.
func (le *Lease) close(undo bool) ([]Debit, error) {
	le.mu.Lock()
	defer le.mu.Unlock()
	if le.closed {
		return nil, ErrLeaseClosed
	}
	le.closed = true
	if undo {
		for i := range le.accounts {
			le.accounts[i].used = 0
		}
	}
	return le.finalDebits(), nil
}

// finish makes the last change of a lease.
func (le *Lease) finish(ctx context.Context, debits []Debit) error {
	err := le.limiter.adjust(ctx, debits)
	if err != nil && le.limiter.admitsUnavailable(le.mode, err) {
		return nil
	}
	return err
}

// adjust makes a change that is never refused, even if ctx was cancelled.
func (l *Limiter) adjust(ctx context.Context, debits []Debit) error {
	if len(debits) == 0 {
		return nil
	}
	now := l.now()
	if l.localStore != nil {
		if _, answered, err := l.localStore.AdjustLocal(now, debits); answered {
			return l.localError(debits[0].Key, err)
		}
	}
	var b budget
	defer b.end()
	err := l.throughBreaker(context.WithoutCancel(ctx), &b, debits[0].Key, func(ctx context.Context) error {
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

// finalDebits returns what brings the buckets from what was taken to what was used. It
// gives back the newest charges first.
func (le *Lease) finalDebits() []Debit {
	var debits []Debit
	for i, d := range le.debits {
		var charges []Charge
		for _, ch := range d.Charges[:le.limits[i]] {
			acc := le.account(ch.Name)
			diff := acc.used - acc.taken
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

// mergeCharges returns charges as fewer that give back the same, so that a lease which
// takes more very often keeps few. Charges are in order of time; the first name the
// limits.
func mergeCharges(charges []Charge, limits int, at time.Time) []Charge {
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
		if !mergeCharge(&kept[last], &ch, now) {
			kept = append(kept, ch)
		}
	}
	clear(charges[len(kept):])
	return kept
}

// mergeCharge makes c one charge of both if that gives back the same: if their
// stretches (Mark − n, Mark] adjoin, or both have refilled and only count as usage,
// or one is empty. It reports whether it did.
func mergeCharge(c, later *Charge, now bucket.Instant) bool {
	d, a, b := &later.Definition, c.Receipt, later.Receipt
	if a.Generation != b.Generation || c.Amount > bucket.MaxAmount-later.Amount {
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
