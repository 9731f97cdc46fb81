package zael

import (
	"context"
	"slices"
	"time"
)

// adjust makes a change that is never refused, even if ctx was cancelled.
func (l *Limiter) adjust(ctx context.Context, debits []Debit) error {
	if len(debits) == 0 {
		return nil
	}
	defer l.turns.wake(debits)
	if l.slotStore == nil {
		_, err := l.askAdjust(ctx, debits)
		return err
	}
	begun := time.Now()
	_, err := l.askAdjust(ctx, debits)
	if err == nil {
		l.holdings.adjusted(debits, begun)
	}
	return err
}

// askAdjust asks the store once: first for an answer from memory, then under the deadline and
// the breaker.
func (l *Limiter) askAdjust(ctx context.Context, debits []Debit) (at time.Time, err error) {
	now := l.now()
	if l.localStore != nil {
		if at, answered, err := l.localStore.AdjustLocal(now, debits); answered {
			return at, l.localError(debits[0].Key, err)
		}
	}
	var b budget
	defer b.end()
	err = l.throughBreaker(context.WithoutCancel(ctx), StoreAdjust, &b, debits[0].Key, func(ctx context.Context) error {
		at, err = l.store.Adjust(ctx, now, debits)
		return err
	})
	if err != nil && slices.ContainsFunc(debits, gives) {
		l.stats.lostGives.Add(1)
	}
	return at, err
}

func gives(d Debit) bool {
	return slices.ContainsFunc(d.Charges, func(ch Charge) bool { return ch.Amount < 0 })
}
