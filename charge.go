package zael

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zeroae/zael/bucket"
)

// Charge charges what has been used without asking, and can no longer be refused: all that
// req asks for, from each of its limits. What does not fit becomes debt, as when a lease is
// settled to more than it took, and until that has refilled the limit refuses others. The
// decision is always admitted; a [Status] with less than 0 available is in debt.
//
// Slots cannot be charged, and nothing waits: req.MaxWait must be 0. Once the store is asked,
// the charge is made even if ctx is cancelled, within Config.Timeout. Errors are those of
// [Limiter.Reserve] except ErrExceeded; after one that matches ErrUnavailable the charge may
// have been made. An [Observer] is told of the call of the store alone.
func (l *Limiter) Charge(ctx context.Context, req Request) (Decision, error) {
	return l.unasked(ctx, &req, l.chargeNow)
}

// Credit gives back what req names of the tokens that are used, whoever took them: it is
// for those who know that something was charged which was not used, and have no [Lease].
// What has refilled is not given back, nor what was not used: a limit has at most its burst
// afterwards, or what it had. A quota gets back what was used in its period.
//
// It reads the buckets and then gives back, in two calls of the store. What others do in
// between counts, but two credits at once may find the same tokens used: the limit is then
// full, and no more, after a moment, and usage counts both for a rate. Errors are those of
// [Limiter.Charge].
func (l *Limiter) Credit(ctx context.Context, req Request) (Decision, error) {
	return l.unasked(ctx, &req, l.creditNow)
}

// unasked makes the debits of all parts of req, has do make the change that they stand for,
// and returns how the limits stand.
func (l *Limiter) unasked(ctx context.Context, req *Request, do func(*manyTake) error) (Decision, error) {
	m := &manyTake{}
	defer m.end()
	err := l.prepareUnasked(ctx, req, m)
	if err == nil {
		defer l.turns.wake(m.debits)
		err = do(m)
	}
	switch {
	case err == nil:
		return m.decision(false), nil
	case len(m.attempts) > 0 && l.admitsUnavailable(m.mode(l), err):
		return degradedDecision(req), nil
	}
	return Decision{}, err
}

func (l *Limiter) prepareUnasked(ctx context.Context, req *Request, m *manyTake) (err error) {
	if err := errors.Join(l.checkOpen(), ctx.Err()); err != nil {
		return err
	}
	if req.MaxWait != 0 {
		return invalid("Request.MaxWait", req.MaxWait, "has no meaning where nothing is refused: leave it 0")
	}
	if m.requests, err = req.requests(); err != nil {
		return err
	}
	return l.prepareMany(ctx, m, l.now(), true, (*attempt).checkNoSlots)
}

// checkNoSlots returns an error if a charges slots.
func (a *attempt) checkNoSlots() error {
	for i := range a.charges {
		if c := &a.charges[i]; c.Definition.Kind == bucket.Slots && c.Amount > 0 {
			return invalid("Request.Consume "+c.Name, c.Amount, fmt.Sprintf("are slots, which are held and released: leave them out, or acquire %s", c.Name))
		}
	}
	return nil
}

// chargeNow charges the debits.
func (l *Limiter) chargeNow(m *manyTake) (err error) {
	m.at, err = l.askAdjust(m.ctx, m.debits)
	m.eachCharge(func(c *Charge) { c.Receipt = c.State.Receipt() })
	return err
}

// creditNow gives the debits back, as far as they are used.
func (l *Limiter) creditNow(m *manyTake) error {
	wanted, err := l.receiveUsed(m)
	if err != nil {
		return err
	}
	if m.at, err = l.askAdjust(m.ctx, m.debits); err != nil {
		return err
	}
	// Another credit was faster: what it gave back was no longer used.
	var again []Debit
	for _, d := range m.debits {
		for i := range d.Charges {
			c := &d.Charges[i]
			if used := c.State.Used; c.Amount < 0 && used < 0 && c.State.Definition.Kind != bucket.Slots {
				again = append(again, Debit{Key: d.Key, SettingsRev: d.SettingsRev, Bypass: d.Bypass, Charges: []Charge{
					{Name: c.Name, Definition: c.Definition, Amount: min(-used, -c.Amount), Receipt: c.State.Receipt()},
				}})
				c.State.Used = 0
			}
		}
	}
	if len(again) > 0 {
		if _, err := l.askAdjust(m.ctx, again); err != nil {
			return err
		}
	}
	i := 0
	m.eachCharge(func(c *Charge) {
		c.Receipt = c.State.Receipt()
		c.Amount = wanted[i]
		i++
	})
	return nil
}

// receiveUsed reads the buckets of the debits, and gives each charge the receipt of what is
// used, and the amount, negative, that is to be given back of it. It returns the amounts
// that were asked for.
func (l *Limiter) receiveUsed(m *manyTake) (wanted []int64, err error) {
	keys := make([]Key, len(m.debits))
	for i := range m.debits {
		keys[i] = m.debits[i].Key
	}
	var at time.Time
	var buckets []Bucket
	err = l.throughBreaker(m.ctx, StoreRead, &m.budget, keys[0], func(ctx context.Context) error {
		at, buckets, err = l.store.Buckets(ctx, l.now(), keys)
		return err
	})
	if err != nil {
		return nil, err
	}
	instant, err := instantOf(at)
	if err != nil {
		return nil, err
	}
	for i, d := range m.debits {
		for j := range d.Charges {
			c := &d.Charges[j]
			wanted = append(wanted, c.Amount)
			state := buckets[i].stateOf(c)
			c.Receipt = state.Receipt()
			used := int64(0)
			if !state.Absent() {
				used = max(0, state.Definition.Burst-state.Available(instant))
			}
			c.Amount = -min(c.Amount, used)
		}
	}
	return wanted, nil
}

func (m *manyTake) eachCharge(f func(*Charge)) {
	for _, d := range m.debits {
		for i := range d.Charges {
			f(&d.Charges[i])
		}
	}
}
