package zael

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/line"
)

// A waitKey identifies a line: its callers wait for the same limits of the same buckets.
type waitKey struct {
	entity, parent, resource string
	own                      int // how many limits are the entity's; the others are the parent's
	settings                 [2]int64
	limits                   string // their names and definitions
}

// wait takes what a asks for as soon as it is there, at once or in line, within maxWait.
// The receipts are in a. at is the instant of the take.
func (l *Limiter) wait(ctx context.Context, a *attempt, req *Request, maxWait time.Duration) (at time.Time, err error) {
	if (!a.rates() || a.detach != nil && a.detach.once != nil) && !a.bypassed() {
		return l.waitTurn(ctx, a, req, maxWait)
	}
	if a.bypassed() { // it need not wait, nor can it stand in line: a place is a charge
		return l.charge(ctx, a, l.now(), 0, req)
	}
	until := time.Now().Add(maxWait)
	for range 4 {
		key, parts := a.waitKey()
		refused, stands := l.line.Stands(key, parts)
		if !stands {
			now := l.now()
			if at, err = l.charge(ctx, a, now, 0, req); !errors.Is(err, ErrExceeded) || errors.Is(err, ErrNever) {
				return at, err
			}
			key, parts = a.waitKey() // the limits may have changed
			if refused, err = a.refusal(at); err != nil {
				return at, err
			}
		} else if a.aboveBurst() {
			return refused.At.Time(), a.refuse(refused, maxWait)
		}
		grant, err := l.line.Wait(ctx, key, parts, time.Until(until), line.Answer{At: refused.At, States: refused.States})
		switch {
		case err == nil:
			for i := range a.charges {
				a.charges[i].Receipt = grant.Receipts[i]
			}
			return grant.At.Time(), nil
		case errors.As(err, &refused):
			return refused.At.Time(), a.refuse(refused, maxWait)
		case errors.Is(err, ErrStaleLimits):
			l.stats.staleLimits.Add(1)
			if err := l.prepare(ctx, req, age{l.now(), refreshAfter}, a); err != nil {
				return at, err
			}
		case errors.Is(err, ErrStaleSettings):
			if err := l.refreshSettings(ctx, a, false); err != nil {
				return at, err
			}
			if a.bypassed() {
				return l.charge(ctx, a, l.now(), 0, req)
			}
		case errors.Is(err, line.ErrClosed):
			return at, ErrClosed
		case ctx.Err() != nil:
			return at, fmt.Errorf("zael: left the line: %w", ctx.Err())
		default:
			return at, err
		}
	}
	return at, fmt.Errorf("%w: its limits keep changing", ErrContention)
}

// waitKey returns the line for what a asks for, and its parts.
func (a *attempt) waitKey() (waitKey, []line.Part) {
	key := waitKey{entity: a.debits[0].Key.Entity, resource: a.debits[0].Key.Resource, own: a.own}
	for i := range a.debits {
		key.settings[i] = a.debits[i].SettingsRev
	}
	if len(a.debits) > 1 {
		key.parent = a.debits[1].Key.Entity
	}
	parts := make([]line.Part, len(a.charges))
	var text strings.Builder
	for i := range a.charges {
		ch := &a.charges[i]
		parts[i] = line.Part{Name: ch.Name, Definition: ch.Definition, Amount: ch.Amount}
		text.WriteString(ch.Name)
		d := &ch.Definition
		if !d.Plain() {
			text.WriteString("=" + limitOf(ch.Name, *d).text())
		}
		for _, n := range []int64{d.Burst, d.Amount, int64(d.Period), d.Capacity, d.Rev} {
			text.WriteByte(' ')
			text.WriteString(strconv.FormatInt(n, 10))
		}
	}
	key.limits = text.String()
	return key, parts
}

// aboveBurst reports whether a asks for more of a limit than it can ever have.
func (a *attempt) aboveBurst() bool {
	for i := range a.charges {
		if a.charges[i].Amount > a.charges[i].Definition.Burst {
			return true
		}
	}
	return false
}

// refusal returns the limits as the store showed them at an instant.
func (a *attempt) refusal(at time.Time) (*line.RefusedError, error) {
	instant, err := bucket.At(at)
	if err != nil {
		return nil, err
	}
	r := &line.RefusedError{At: instant, States: make([]bucket.State, len(a.charges))}
	for i := range a.charges {
		r.States[i] = a.charges[i].State
	}
	return r, nil
}

// refuse returns the refusal of a, whose limits stand as r says: behind everybody in line.
func (a *attempt) refuse(r *line.RefusedError, maxWait time.Duration) error {
	for i := range a.charges {
		a.charges[i].State = r.States[i]
	}
	return a.exceededError(r.At.Time(), maxWait)
}

// refusedBehind returns a refusal if others of this process wait for what a asks for, as
// a request that does not wait would overtake them.
func (l *Limiter) refusedBehind(a *attempt) error {
	if l.line.Len() == 0 {
		return nil
	}
	key, parts := a.waitKey()
	if refused, stands := l.line.Stands(key, parts); stands {
		return a.refuse(refused, 0)
	}
	return nil
}

// A lineStore is the store as package line uses it: within Config.Timeout, and not while
// the breaker is open.
type lineStore struct{ *Limiter }

// Take implements line.Store.
func (s lineStore) Take(ctx context.Context, key waitKey, parts []line.Part, now bucket.Instant, ahead time.Duration) line.Answer {
	a := &attempt{own: key.own}
	defer a.end()
	for _, p := range parts {
		a.charges = append(a.charges, Charge{Name: p.Name, Definition: p.Definition, Amount: p.Amount})
	}
	a.debits = key.debits(a.charges)
	at, err := s.askStore(ctx, a, now.Time(), ahead)
	if err != nil && !errors.Is(err, ErrExceeded) {
		return line.Answer{Err: err}
	}
	answer := line.Answer{Taken: err == nil, States: make([]bucket.State, len(parts))}
	if answer.At, err = bucket.At(at); err != nil {
		return line.Answer{Err: err}
	}
	for i := range a.charges {
		if ch := &a.charges[i]; answer.Taken {
			answer.States[i] = ch.Taken()
		} else {
			answer.States[i] = ch.State
		}
	}
	return answer
}

// Give implements line.Store.
func (s lineStore) Give(ctx context.Context, key waitKey, parts []line.Part, stretches []line.Back, now bucket.Instant) line.Answer {
	charges := make([]Charge, len(parts))
	for i, p := range parts {
		charges[i] = Charge{Name: p.Name, Definition: p.Definition, Amount: -stretches[i].Amount, Receipt: stretches[i].Receipt}
	}
	var debits []Debit
	for _, d := range key.debits(charges) {
		var gives []Charge
		for _, ch := range d.Charges {
			if ch.Amount < 0 {
				gives = append(gives, ch)
			}
		}
		if len(gives) > 0 {
			debits = append(debits, Debit{Key: d.Key, Charges: gives})
		}
	}
	if err := s.adjust(ctx, debits); err != nil {
		return line.Answer{Err: err}
	}
	answer := line.Answer{At: now, States: make([]bucket.State, len(parts))}
	i := 0
	for _, d := range debits {
		for _, ch := range d.Charges { // in the order of parts, of which some gave nothing
			for charges[i].Amount == 0 {
				i++
			}
			answer.States[i] = ch.State
			i++
		}
	}
	return answer
}

// debits divides charges between the entity and its parent.
func (k *waitKey) debits(charges []Charge) []Debit {
	debits := []Debit{{Key: Key{k.entity, k.resource}, Charges: charges[:k.own:k.own], SettingsRev: k.settings[0]}}
	if k.own < len(charges) {
		debits = append(debits, Debit{Key: Key{k.parent, k.resource}, Charges: charges[k.own:], SettingsRev: k.settings[1]})
	}
	return debits
}
