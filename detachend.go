package zael

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zeroae/zael/bucket"
)

// A LeaseVerb is a way to end a lease.
type LeaseVerb string

// The verbs. All of them free the slots of the lease.
const (
	LeaseCommit   LeaseVerb = "commit"   // what was taken stays charged
	LeaseRollback LeaseVerb = "rollback" // what was taken is given back, as far as it has not refilled
	LeaseSettle   LeaseVerb = "settle"   // amounts are charged in place of what was taken; limits that are not named keep that
	LeaseRelease  LeaseVerb = "release"  // amounts are given back of what was taken
)

// An Ending is how a lease is to be ended.
type Ending struct {
	Verb    LeaseVerb
	Amounts Amounts      // of settle and release: limits of the entity's bucket
	Also    []PartAmount // of settle and release: limits of the buckets of Request.Also
}

// A PartAmount is amounts for one part of a lease, as [Lease.On] names it.
type PartAmount struct {
	Entity   string  `json:"entity_id"`
	Resource string  `json:"resource"`
	Amounts  Amounts `json:"amounts"`
}

// An Ended is how a lease has ended.
type Ended struct {
	Verb     LeaseVerb    `json:"verb"`
	Used     Amounts      `json:"used,omitempty"` // what stays charged, by limit of the request's own bucket
	Also     []PartAmount `json:"also,omitempty"` // the same of the parts of Request.Also
	Repeated bool         `json:"-"`              // it had ended before, so: nothing was changed
}

// A Renewal is what [Limiter.RenewDetached] tells.
type Renewal struct {
	Held     bool      // the lease has its slots
	Deadline time.Time // when they are free if they are not renewed again; without slots, when the lease expires
}

// LeaseKey returns 32 random bytes that all processes which share the store agree on, to
// authenticate leases with: the first that asks keeps them in the store. In a store in memory they are
// those of the process. Errors are those of [Limiter.EndDetached].
func (l *Limiter) LeaseKey(ctx context.Context) ([]byte, error) {
	if err := l.checkOnce(); err != nil {
		return nil, err
	}
	key := newLeaseKey()
	now := l.now()
	first, err := l.adjustOnce(ctx, now, nil, Once{Key: "key/leases", Until: now.AddDate(25, 0, 0)}, key)
	if err != nil || first == nil {
		return key, err
	}
	return first, nil
}

// checkOnce returns an error unless the Limiter is open and its store an OnceStore.
func (l *Limiter) checkOnce() error {
	if err := l.checkOpen(); err != nil {
		return err
	}
	if l.onceStore == nil {
		return l.unsupported("OnceStore")
	}
	return nil
}

// checkDetached returns an error unless d is a lease that has not expired.
func (l *Limiter) checkDetached(d *DetachedLease) error {
	if err := l.checkOnce(); err != nil {
		return err
	}
	if d == nil || d.id == "" {
		return invalid("DetachedLease", nil, errNoDetached.Error())
	}
	if !l.now().Before(d.expires) {
		return fmt.Errorf("%w: it was to be ended by %s; what it took stays taken", ErrLeaseExpired, d.expires.UTC().Format(time.RFC3339))
	}
	return nil
}

// attach returns a lease of this process as d says.
func (l *Limiter) attach(d *DetachedLease) *Lease {
	leases := make([]*Lease, len(d.parts))
	for i := range d.parts {
		p := &d.parts[i]
		g := &ledger{limits: p.limits, debits: slices.Clone(p.debits)}
		for j := range g.debits {
			charges := slices.Clone(g.debits[j].Charges)
			g.debits[j].Charges = charges
			for k := range charges[:p.limits[j]] {
				c := &charges[k]
				if j > 0 && g.account(c.Name) != nil {
					continue
				}
				taken := int64(0)
				for m := range charges {
					if charges[m].Name == c.Name {
						taken += charges[m].Amount
					}
				}
				g.open(c.Name, taken, c.Definition.Kind)
			}
			if j == 0 {
				g.own = len(g.accounts)
			}
		}
		leases[i] = &Lease{
			limiter: l, stored: p.stored, degraded: p.degraded, ledger: g,
			decision: Decision{Admitted: true, Degraded: p.degraded, entity: p.entity, policy: &PolicyLimits{Resource: p.resource}},
		}
	}
	if len(leases) > 1 {
		all := &manyLease{leases: leases, keys: d.Keys()}
		for _, le := range leases {
			le.many = all
		}
	}
	return leases[0]
}

// EndDetached ends a lease, on any process that shares the store with the one that acquired it,
// at most once: whoever ends it again, however, gets the first answer with
// Ended.Repeated. It works after ctx was cancelled, within Config.Timeout. After an error that
// matches [ErrUnavailable] or [ErrContention] the lease may have ended: repeat it.
//
// The error matches [ErrLeaseExpired] if the lease is too old, or is a [*ValidationError] for an
// ending or an amount that is not valid, one that matches [ErrUnavailable], [ErrContention],
// [ErrClosed] or [errors.ErrUnsupported], or any other of the store.
func (l *Limiter) EndDetached(ctx context.Context, d *DetachedLease, e Ending) (Ended, error) {
	if err := l.checkDetached(d); err != nil {
		return Ended{}, err
	}
	whole := l.attach(d)
	undo, err := whole.record(&e)
	if err != nil {
		return Ended{}, err
	}
	ended := Ended{Verb: e.Verb}
	if d.Degraded() {
		return ended, nil
	}
	var debits []Debit
	for _, part := range whole.parts() {
		part.close(undo)
		debits = append(debits, part.ledger.finalDebits()...)
	}
	ended.Used = whole.Consumed()
	for i, part := range whole.parts()[1:] {
		p := &d.parts[i+1]
		ended.Also = append(ended.Also, PartAmount{p.entity, p.resource, part.Consumed()})
	}
	answer, err := json.Marshal(ended)
	if err != nil {
		return Ended{}, err
	}
	first, err := l.adjustOnce(ctx, l.now(), debits, Once{Key: endKey(d.id), Until: d.expires.Add(keepEnd)}, answer)
	if err == nil && first != nil {
		ended = Ended{Repeated: true}
		if err := json.Unmarshal(first, &ended); err != nil {
			return Ended{}, fmt.Errorf("zael: the answer to the end of lease %s cannot be read: %w", d.id, err)
		}
		return ended, nil
	}
	if l.observer != nil {
		for _, part := range whole.parts() {
			part.observedEnd(ctx, undo, err)
		}
	}
	if err != nil {
		return Ended{}, err
	}
	return ended, nil
}

// record records in a lease what an ending says. It reports whether all is to be given back.
func (le *Lease) record(e *Ending) (undo bool, err error) {
	switch e.Verb {
	case LeaseCommit, LeaseRollback:
		if len(e.Amounts) > 0 || len(e.Also) > 0 {
			return false, invalid("Ending.Amounts", nil, "are given to "+string(e.Verb)+", which needs none: leave them out, or use settle or release")
		}
		return e.Verb == LeaseRollback, nil
	case LeaseSettle, LeaseRelease:
	default:
		return false, invalid("Ending.Verb", string(e.Verb), "is not commit, rollback, settle or release")
	}
	if le.degraded {
		return false, nil
	}
	if err := le.recordAmounts(e.Verb, e.Amounts); err != nil {
		return false, err
	}
	for i := range e.Also {
		p := &e.Also[i]
		part := le.On(p.Entity, p.Resource)
		if part == nil {
			return false, invalid("Ending.Also", p.Entity+" on "+p.Resource, "is no part of the lease")
		}
		if err := part.recordAmounts(e.Verb, p.Amounts); err != nil {
			return false, err
		}
	}
	return false, nil
}

func (le *Lease) recordAmounts(verb LeaseVerb, amounts Amounts) error {
	if verb == LeaseRelease {
		return le.updateUsed("release", amounts, 0, func(used, n int64) int64 { return used - n })
	}
	return le.updateUsed("settle", amounts, settles, func(_, n int64) int64 { return n })
}

// adjustOnce makes a change once, even if ctx was cancelled.
func (l *Limiter) adjustOnce(ctx context.Context, now time.Time, debits []Debit, once Once, answer []byte) (first []byte, err error) {
	defer l.turns.wake(debits)
	ctx = context.WithoutCancel(ctx)
	key := Key{}
	if len(debits) > 0 {
		key = debits[0].Key
	}
	var b budget
	defer b.end()
	err = l.throughBreaker(ctx, StoreAdjust, &b, key, func(ctx context.Context) error {
		first, err = l.onceStore.AdjustOnce(ctx, now, debits, once, answer)
		return err
	})
	return first, err
}

// ConsumeOptions tune [Limiter.ConsumeDetached].
type ConsumeOptions struct {
	// IdempotencyKey makes the take once, as DetachOptions.IdempotencyKey does: a repetition
	// within ten minutes takes nothing and returns the lease that the first did. It belongs to
	// one lease and its amounts: with others, the error matches ErrKeyUsed.
	IdempotencyKey string
}

// onceOf returns how more is taken for a lease.
func (o *ConsumeOptions) onceOf(d *DetachedLease, amounts Amounts, now time.Time) (*OnceTake, error) {
	once := &OnceTake{Unless: endKey(d.id)}
	if o.IdempotencyKey == "" {
		return once, nil
	}
	if err := checkOnceKey("ConsumeOptions.IdempotencyKey", o.IdempotencyKey); err != nil {
		return nil, err
	}
	arguments, err := json.Marshal(amounts)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(arguments)
	key := sha256.Sum256([]byte(d.principal + "\x00" + d.id + "\x00" + o.IdempotencyKey))
	once.Once = Once{Key: "more/" + hex.EncodeToString(key[:16]), Hash: hex.EncodeToString(hash[:16]), Until: now.Add(keepTake)}
	return once, nil
}

// ConsumeDetached takes more for a lease, from all limits named in amounts or from none, as
// [Lease.Consume] does. It returns a lease in place of d, with the same id, which
// can end all that was taken; d itself ends only what it had. Amounts are for the bucket
// of the request; those of Request.Also take no more.
//
// Errors are those of [Limiter.Reserve]; [ErrLeaseClosed] if the lease has ended,
// [ErrLeaseExpired] if it is too old, [ErrKeyUsed], and a [*ValidationError] of the options or if
// it has taken too often.
func (l *Limiter) ConsumeDetached(ctx context.Context, d *DetachedLease, amounts Amounts, options ConsumeOptions) (*DetachedLease, error) {
	if err := l.checkDetached(d); err != nil {
		return nil, err
	}
	if d.Degraded() {
		return d, nil
	}
	if n := len(d.encode(nil, nil)); n > mostConsume {
		return nil, invalid("DetachedLease", n, fmt.Sprintf("bytes are more than the %d of a lease that can take more: end it and acquire another one", mostConsume))
	}
	a, err := l.attach(d).beginConsume(amounts)
	if err != nil {
		return nil, err
	}
	once, err := options.onceOf(d, amounts, l.now())
	if err != nil {
		return nil, err
	}
	// more returns the lease with what a take of amounts took.
	more := func(at time.Time, debits []Debit) *DetachedLease {
		whole := l.attach(d)
		whole.addConsumed(&attempt{debits: debits}, amounts, at)
		return whole.detached(d)
	}
	once.Answer = func(at time.Time, debits []Debit) []byte { return more(at, debits).encode(nil, nil) }
	a.detach = &detaching{once: once}
	at, err := l.takeMore(ctx, a)
	if errors.Is(err, errRepeated) {
		first, err := decodeLease(a.detach.first, false)
		if err != nil {
			return nil, fmt.Errorf("zael: the lease of an idempotency key cannot be read: %w", err)
		}
		first.repeated = true
		return first, nil
	}
	if err != nil {
		return nil, err
	}
	return more(at, a.debits), nil
}

// RenewDetached keeps the slots of a lease: it moves the deadline by which they are free for
// others to now and their hold. Call it each quarter of the hold. Slots that others have
// taken, as nobody renewed them in time, are lost: the work goes on uncounted, or is to be
// stopped, as the caller decides. A lease without slots holds until it expires.
//
// Errors are those of [Limiter.EndDetached], and [ErrLeaseClosed] if the lease has ended.
func (l *Limiter) RenewDetached(ctx context.Context, d *DetachedLease) (Renewal, error) {
	if err := l.checkDetached(d); err != nil {
		return Renewal{}, err
	}
	r := Renewal{Held: true, Deadline: d.expires}
	slots := d.slots()
	for i := range slots {
		deadline, held, err := l.extend(ctx, &slots[i])
		if err != nil {
			return Renewal{}, err
		}
		if r.Held = r.Held && held; !r.Held {
			r.Deadline = time.Time{}
			break
		}
		if deadline.Before(r.Deadline) {
			r.Deadline = deadline
		}
	}
	if !r.Held || len(slots) == 0 {
		return r, l.checkEnded(ctx, d)
	}
	return r, nil
}

// slots returns the slots of the lease, as debits for Extend.
func (d *DetachedLease) slots() []Debit {
	var debits []Debit
	for i := range d.parts {
		for _, all := range d.parts[i].debits {
			debit := Debit{Key: all.Key, Holder: all.Holder}
			for j := range all.Charges {
				if c := &all.Charges[j]; c.Definition.Kind == bucket.Slots && c.Amount > 0 && !all.Bypass {
					addSlots(&debit, c)
				}
			}
			if len(debit.Charges) > 0 {
				debits = append(debits, debit)
			}
		}
	}
	return debits
}

// addSlots adds a charge of slots to those of its limit.
func addSlots(d *Debit, c *Charge) {
	for i := range d.Charges {
		if d.Charges[i].Name == c.Name {
			d.Charges[i].Amount += c.Amount
			return
		}
	}
	d.Charges = append(d.Charges, Charge{Name: c.Name, Definition: c.Definition, Amount: c.Amount, Receipt: c.Receipt})
}

func (l *Limiter) extend(ctx context.Context, d *Debit) (deadline time.Time, held bool, err error) {
	var b budget
	defer b.end()
	err = l.throughBreaker(ctx, StoreAdjust, &b, d.Key, func(ctx context.Context) error {
		deadline, held, err = l.onceStore.Extend(ctx, l.now(), *d)
		return err
	})
	return deadline, held, err
}

// checkEnded returns ErrLeaseClosed if a lease has ended.
func (l *Limiter) checkEnded(ctx context.Context, d *DetachedLease) error {
	var b budget
	defer b.end()
	return l.throughBreaker(ctx, StoreRead, &b, d.Keys()[0], func(ctx context.Context) error {
		_, _, err := l.onceStore.TakeOnce(ctx, l.now(), 0, nil, OnceTake{Unless: endKey(d.id)})
		return err
	})
}

// errRepeated ends an attempt whose key was used before.
var errRepeated = errors.New("zael: the idempotency key was used before")

// askOnce asks the store once for a take by a key.
func (l *Limiter) askOnce(ctx context.Context, a *attempt, now time.Time, maxWait time.Duration) (at time.Time, err error) {
	d := a.detach
	once := *d.once
	if once.Key != "" && once.Answer == nil {
		once.Answer = d.answer()
	}
	var first []byte
	take := func(ctx context.Context) (err error) {
		at, first, err = l.onceStore.TakeOnce(ctx, now, maxWait, a.debits, once)
		return err
	}
	if err = l.throughBreaker(ctx, StoreTake, &a.budget, a.debits[0].Key, take); err == nil && first != nil {
		d.first = first
		return at, errRepeated
	}
	return at, err
}

// answer returns what makes a lease of the debits of a take, for its repetitions. It
// refers to nothing that changes.
func (d *detaching) answer() func(at time.Time, debits []Debit) []byte {
	known, shapes := d.lease, slices.Clone(d.parts)
	return func(at time.Time, debits []Debit) []byte { // for each try of the store
		lease, rest := known, debits
		for _, shape := range shapes {
			n := shape.debits
			if len(shapes) == 1 {
				n = len(rest)
			}
			part := shape.part
			part.debits, rest = rest[:n:n], rest[n:]
			for i := range part.debits {
				part.limits[i] = len(part.debits[i].Charges)
			}
			lease.parts = append(lease.parts, part)
		}
		return lease.encode(nil, &at)
	}
}
