package zael

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/zeroae/zael/bucket"
)

// A Lease holds what an acquire took, until [Lease.Commit] or [Lease.Rollback] ends
// it. [Lease.Adjust], [Lease.Release] and [Lease.Settle] record what was really used,
// without a call of the store. Commit then charges or gives back the difference: it
// is never refused, and may leave debt. If a lease is never ended, what was taken
// stays taken; slots are released when the garbage collector finds that the lease
// cannot be ended any more, so a lease with slots must be kept as long as they are.
//
// After a cascade everything applies to the parent's bucket as well. The methods of a
// Lease may be called concurrently, and none waits for another's call of the store.
// A nil Lease and the zero Lease are closed: nothing was taken.
type Lease struct {
	limiter  *Limiter
	decision Decision
	delay    time.Duration
	mode     FailureMode
	stored   bool // the limits are stored ones: unknown names are ignored
	degraded bool
	slots    bool // some of the limits are slots

	mu       sync.Mutex
	closed   bool
	recorded bool // what was used, or a part of it
	// Nearly every lease is on one bucket, with few limits, and takes nothing more: then
	// it is known by its decision and these. Otherwise it has a ledger instead.
	generations [few]uint64 // of the receipts, whose marks are those of the decision
	used        [few]int64  // to be charged in the end
	ledger      *ledger
	tether      *tether    // if the lease has slots that somebody has to release
	many        *manyLease // that this is a part of; nil if it is a lease of its own
}

// newLease returns a lease on what a took. It copies, as a is reused.
func (l *Limiter) newLease(req *Request, a *attempt, at time.Time) *Lease {
	lease := &Lease{limiter: l, mode: a.failureMode(req), stored: req.stored(), delay: a.delay(at), slots: hasSlots(a.charges)}
	lease.decision, _ = a.decision(at, false, 0) // the instant is the store's own
	if !a.plain() {
		lease.ledger = newLedger(a.debits)
		if a.detach == nil {
			lease.openSlots(a.debits, a.begun)
		}
		return lease
	}
	for i := range a.charges {
		lease.used[i], lease.generations[i] = a.charges[i].Amount, a.charges[i].Receipt.Generation
	}
	return lease
}

// degradedDecision returns that of a request that is admitted without a charge.
func degradedDecision(req *Request) Decision {
	return Decision{Admitted: true, Degraded: true, entity: req.Entity, policy: &PolicyLimits{Resource: req.resourceName()}}
}

// degradedLease returns a lease that charges nothing and only keeps accounts.
func (l *Limiter) degradedLease(req *Request, a *attempt) *Lease {
	lease := &Lease{limiter: l, mode: a.failureMode(req), stored: req.stored(), degraded: true, ledger: new(ledger)}
	lease.decision = degradedDecision(req)
	p, err := new(attempt).policyOf(req)
	if err != nil {
		return lease // the request was valid before
	}
	for i, name := range p.names {
		kind := bucket.Rate
		if i < len(p.bound.Limits) {
			kind = p.bound.Limits[i].Definition.Kind
		}
		lease.ledger.open(name, req.amount(p, i, name, kind), kind)
		lease.slots = lease.slots || kind == bucket.Slots
	}
	lease.ledger.own = len(lease.ledger.accounts)
	for name, amount := range req.Consume {
		if lease.ledger.account(name) == nil {
			lease.ledger.open(name, amount, bucket.Rate)
		}
	}
	if lease.stored { // it is not known whose limits they are
		lease.ledger.own = len(lease.ledger.accounts)
	}
	return lease
}

// expanded returns the ledger of the lease, or one made of what it has instead.
func (le *Lease) expanded() *ledger {
	if le.ledger != nil {
		return le.ledger
	}
	d := &le.decision
	charges := make([]Charge, d.n)
	for i := range charges {
		state, name, amount := d.standing(i)
		state.Generation = le.generations[i]
		charges[i] = Charge{Name: name, Definition: state.Definition, Amount: amount, Receipt: state.Receipt()}
	}
	g := newLedger([]Debit{{Key: Key{d.entity, d.policy.Resource}, Charges: charges}})
	for i := range g.accounts {
		g.accounts[i].used = le.used[i]
	}
	return g
}

// expand has the lease keep a ledger from now on.
func (le *Lease) expand() *ledger {
	if le.ledger == nil {
		if le.ledger = le.expanded(); le.tether != nil {
			le.tether.slots.ledger = le.ledger
		}
	}
	return le.ledger
}

// limitCount returns how many limits the lease has, each name once.
func (le *Lease) limitCount() int {
	if le.ledger != nil {
		return len(le.ledger.accounts)
	}
	return int(le.decision.n)
}

// limit returns limit number i, and what was used of it.
func (le *Lease) limit(i int) (name string, used *int64) {
	if le.ledger != nil {
		acc := &le.ledger.accounts[i]
		return acc.name, &acc.used
	}
	return le.decision.policy.Limits[i].Name, &le.used[i]
}

// Delay returns the time from the acquire until all its tokens are there: 0 without
// Request.MaxWait. [Limiter.Acquire] has waited for it.
func (le *Lease) Delay() time.Duration {
	if le == nil {
		return 0
	}
	return le.delay
}

// Degraded reports whether the lease was given although the store was unavailable, as
// the failure mode is open. Then nothing was charged, and nothing will be.
func (le *Lease) Degraded() bool { return le != nil && le.degraded }

// Decision returns how the limits stood just after the acquire. What the lease
// has taken or given back since is not in it. With Request.Also it has the limits of all
// parts; that of a part (see [Lease.On]) has its own.
func (le *Lease) Decision() Decision {
	if le.none() {
		return Decision{}
	}
	if many := le.many; many != nil && many.leases[0] == le {
		return many.decision
	}
	return le.decision
}

// none reports whether no Limiter has given the lease.
func (le *Lease) none() bool { return le == nil || le.limiter == nil }

// errNoLease is the error of such a lease.
var errNoLease = fmt.Errorf("%w: it is nil or the zero value: use one that Acquire returned", ErrLeaseClosed)

// Consumed returns the tokens used so far, by limit of the entity: what Commit would
// leave charged.
func (le *Lease) Consumed() Amounts {
	if le.none() {
		return Amounts{}
	}
	le.mu.Lock()
	defer le.mu.Unlock()
	n := le.limitCount()
	if le.ledger != nil {
		n = le.ledger.own
	}
	a := make(Amounts, n)
	for i := range n {
		name, used := le.limit(i)
		a[name] = *used
	}
	return a
}

// Recorded reports whether something was recorded with Settle, Adjust, Release or
// Consume.
func (le *Lease) Recorded() bool {
	if le.none() {
		return false
	}
	le.mu.Lock()
	defer le.mu.Unlock()
	return le.recorded
}

// Adjust adds amounts to what was used. Negative amounts reduce it, to no less than 0.
// Errors: a [*ValidationError] for an amount out of range and, unless the limits are
// stored ones, for a name that the lease does not have; [ErrLeaseClosed].
func (le *Lease) Adjust(amounts Amounts) error {
	return le.updateUsed("Adjust", amounts, addsToUsed|mayBeNegative|settles, func(used, n int64) int64 { return used + n })
}

// Release reduces what was used by amounts, to no less than 0. Slots are given back at
// once, by a call of the store within Config.Timeout. Errors are those of [Lease.Adjust] and,
// for slots, of [Lease.Commit].
func (le *Lease) Release(amounts Amounts) error {
	if err := le.updateUsed("Release", amounts, 0, func(used, n int64) int64 { return used - n }); err != nil {
		return err
	}
	return le.releaseSlots(amounts)
}

// Settle replaces what was used of the limits named in amounts; other limits keep what
// was recorded. Errors are those of [Lease.Adjust].
func (le *Lease) Settle(amounts Amounts) error {
	return le.updateUsed("Settle", amounts, settles, func(_, n int64) int64 { return n })
}

// updateUsed changes what was used of all limits named in amounts, or of none.
func (le *Lease) updateUsed(verb string, amounts Amounts, rule amountRule, use func(used, n int64) int64) error {
	if le.none() {
		return errNoLease
	}
	le.mu.Lock()
	defer le.mu.Unlock()
	if le.closed {
		return ErrLeaseClosed
	}
	if err := le.checkAmounts(verb, amounts, rule); err != nil {
		return err
	}
	for i := range le.limitCount() {
		name, used := le.limit(i)
		if n, ok := amounts[name]; ok {
			*used = max(0, use(*used, n))
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
	settles                  // not of slots, of which nothing is left to settle
)

// checkAmounts returns an error for names and numbers that a method cannot accept.
func (le *Lease) checkAmounts(verb string, amounts Amounts, rule amountRule) error {
	least, known := int64(0), 0
	if rule&mayBeNegative != 0 {
		least = -bucket.MaxAmount
	}
	for i := range le.limitCount() {
		name, used := le.limit(i)
		n, ok := amounts[name]
		if !ok {
			continue
		}
		known++
		if err := checkAmount(verb, name, n, least); err != nil {
			return err
		}
		if rule&settles != 0 && le.isSlots(i) {
			return invalid(verb+" "+name, n, "are slots, which are not settled: Release gives them back, and so does the end of the lease")
		}
		if rule&addsToUsed != 0 && n > bucket.MaxAmount-*used {
			return invalid(verb+" "+name, n, fmt.Sprintf("and the %d used before are more than %d tokens", *used, bucket.MaxAmount))
		}
	}
	if known == len(amounts) {
		return nil
	}
	return le.checkUnknown(verb, amounts, least, known)
}

// checkUnknown returns an error for amounts of limits that the lease does not have,
// unless its limits are stored ones and some of the names are known.
func (le *Lease) checkUnknown(verb string, amounts Amounts, least int64, known int) error {
	for name, n := range amounts {
		if le.has(name) {
			continue
		}
		if err := checkAmount(verb, name, n, least); err != nil {
			return err
		}
		if !le.stored {
			return invalid(verb, name, "is not the name of a limit of the lease")
		}
		if known == 0 {
			return invalid(verb, name, "is not the name of a limit of the lease, and no other name is")
		}
	}
	le.limiter.stats.unknownNames.Add(1)
	return nil
}

// isSlots reports whether limit number i is of slots.
func (le *Lease) isSlots(i int) bool {
	if le.ledger != nil {
		return le.ledger.accounts[i].slots
	}
	return le.slots && le.decision.policy.Limits[i].Definition.Kind == bucket.Slots
}

func (le *Lease) has(name string) bool {
	for i := range le.limitCount() {
		if n, _ := le.limit(i); n == name {
			return true
		}
	}
	return false
}

// Consume takes more, from all limits named in amounts or from none, as
// [Limiter.Reserve] does without MaxWait, under the limits that the lease has: stored ones
// that have changed since bind it where the bucket has taken under them. If it is refused
// the lease stays as it was. If the lease is ended meanwhile, Consume gives back what it
// took and returns [ErrLeaseClosed].
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
		le.openSlots(a.debits, a.begun)
		return nil
	}
	_ = le.limiter.adjust(ctx, a.undoDebits()) // if that fails, the tokens refill
	return ErrLeaseClosed
}

// beginConsume returns the attempt that takes amounts.
func (le *Lease) beginConsume(amounts Amounts) (*attempt, error) {
	if le.none() {
		return nil, errNoLease
	}
	le.mu.Lock()
	defer le.mu.Unlock()
	if le.closed {
		return nil, ErrLeaseClosed
	}
	if err := le.checkAmounts("Consume", amounts, addsToUsed); err != nil {
		return nil, err
	}
	return le.expand().attempt(amounts), nil
}

// addConsumed adds what a took to the lease. It returns false if the lease was ended.
func (le *Lease) addConsumed(a *attempt, amounts Amounts, at time.Time) bool {
	le.mu.Lock()
	defer le.mu.Unlock()
	if le.closed {
		return false
	}
	le.ledger.add(a, amounts, at)
	le.recorded = true
	return true
}

// Commit ends the lease and charges or gives back the difference between what was used
// and what was taken, in one call of the store; without a difference it makes none. It
// works after ctx was cancelled, within Config.Timeout. If the store is unavailable,
// what was taken stays taken; that is an [*UnavailableError] unless the failure mode
// is open. If the lease was ended before, it returns [ErrLeaseClosed].
func (le *Lease) Commit(ctx context.Context) error { return le.end(ctx, false) }

// Rollback ends the lease and gives back what was taken and has not refilled yet. It
// works after ctx was cancelled, within Config.Timeout. If the store is unavailable,
// the tokens refill by themselves; that is an [*UnavailableError] unless the failure
// mode is open. After Commit or Rollback it does nothing, so that it can be deferred.
func (le *Lease) Rollback(ctx context.Context) error {
	if err := le.end(ctx, true); !errors.Is(err, ErrLeaseClosed) {
		return err
	}
	return nil
}

// fail ends the lease after the work has failed: with what was recorded, or, if
// nothing was, by giving everything back. It does nothing if the lease was ended.
func (le *Lease) fail(ctx context.Context) error {
	many := le.many
	le.mu.Lock()
	recorded := le.recorded
	le.mu.Unlock()
	if many != nil {
		recorded = many.hasRecorded()
	}
	if !recorded {
		return le.Rollback(ctx)
	}
	if err := le.Commit(ctx); !errors.Is(err, ErrLeaseClosed) {
		return err
	}
	return nil
}

// end ends the lease and brings the buckets to what was used, or to nothing.
func (le *Lease) end(ctx context.Context, undo bool) error {
	if le.none() {
		return errNoLease
	}
	if many := le.many; many != nil {
		return many.end(ctx, undo)
	}
	if !le.close(undo) {
		return ErrLeaseClosed
	}
	err := le.settleUp(ctx)
	if le.limiter.observer != nil {
		le.observedEnd(ctx, undo, err)
	}
	return err
}

// close closes the lease with what was used, or with nothing. It returns false if that was
// done before.
func (le *Lease) close(undo bool) bool {
	le.mu.Lock()
	if le.closed {
		le.mu.Unlock()
		return false
	}
	le.closed = true // from now on nothing else changes
	if undo || le.slots || le.ledger != nil {
		for i := range le.limitCount() {
			if _, used := le.limit(i); undo || le.isSlots(i) {
				*used = 0
			}
		}
	}
	var renewed *slotLease
	if le.ledger != nil {
		renewed = le.ledger.slots
	}
	le.limiter.untether(le.tether)
	le.tether = nil
	le.mu.Unlock()
	if renewed != nil {
		le.limiter.holdings.remove(renewed)
	}
	return true
}

// settleUp brings the buckets to what was used.
func (le *Lease) settleUp(ctx context.Context) error {
	if le.ledger == nil && le.endQuick() {
		return nil
	}
	err := le.limiter.adjust(ctx, le.expanded().finalDebits())
	if err != nil && le.limiter.admitsUnavailable(le.mode, err) {
		return nil
	}
	return err
}
