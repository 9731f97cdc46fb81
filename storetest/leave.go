package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/zeroae/zael"
)

// A leaving is a check of callers whose contexts end while their takes are in
// flight: each takes 3 from a child and from its parent.
type leaving struct {
	e        *env
	limit    int64
	children []zael.Key
	parent   zael.Key
	told     map[string]int64 // takes that their callers were told of, by entity
}

const (
	leaveWorkers = 8
	leaveAmount  = 3
	leaveLongest = 3 * time.Millisecond // that a caller stays
)

// leave has 400 callers, or more, leave, in an order that the seed gives.
func (e *env) leave(ctx context.Context) (*leaving, error) {
	each := e.times(50) // of a worker
	if e.short {
		each = 15
	}
	l := &leaving{e: e, limit: int64(leaveWorkers * each * leaveAmount), parent: key("parent"), told: map[string]int64{}}
	for i := range leaveWorkers {
		l.children = append(l.children, key(fmt.Sprintf("child-%d", i)))
	}
	told := make([]map[string]int64, leaveWorkers)
	err := together(leaveWorkers, func(w int) error {
		told[w] = map[string]int64{}
		rng := rand.New(rand.NewPCG(e.seed, uint64(w)))
		for range each {
			child := l.children[rng.IntN(len(l.children))]
			took, err := l.take(ctx, child, time.Duration(rng.Int64N(int64(leaveLongest))))
			if err != nil {
				return err
			}
			if took {
				told[w][child.Entity]++
			}
		}
		return nil
	})
	for _, told := range told {
		for entity, n := range told {
			l.told[entity] += n
			l.told[l.parent.Entity] += n
		}
	}
	return l, err
}

// take is that of a caller who leaves after a time.
func (l *leaving) take(ctx context.Context, child zael.Key, after time.Duration) (took bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, after)
	defer cancel()
	d := never(l.limit)
	_, err = l.e.take(ctx, l.e.t0, 0, debit(child, ask("rpm", d, leaveAmount)), debit(l.parent, ask("rpm", d, leaveAmount)))
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil && errors.Is(err, ctx.Err()), errors.Is(err, zael.ErrContention):
		return false, nil
	}
	return false, fmt.Errorf("Take within the burst, of a caller who leaves: got %w, want it admitted or the context's error", err)
}

// charged compares what is charged with what callers were told.
func (l *leaving) charged(ctx context.Context) error {
	keys := append([]zael.Key{l.parent}, l.children...)
	at, got, err := l.e.read(ctx, l.e.t0, keys...)
	if err != nil {
		return err
	}
	for i, b := range got {
		state := limitOf(b, "rpm")
		want := l.told[keys[i].Entity] * leaveAmount
		if taken := level(state, at); taken != want*state.Definition.Unit() && (taken != 0 || want != 0) {
			return fmt.Errorf("%s, whose callers were told that they took %d tokens: got %s", keyText(keys[i]), want, stateText(state, at))
		}
	}
	return nil
}

// counted compares usage with what callers were told.
func (l *leaving) counted(ctx context.Context) error {
	for _, k := range append([]zael.Key{l.parent}, l.children...) {
		records, err := collect(role[zael.UsageStore](l.e).Usage(ctx, zael.UsageQuery{Entity: k.Entity}))
		if err != nil {
			return err
		}
		var events, amount int64
		for _, r := range records {
			events, amount = events+r.Events, amount+r.Amounts["rpm"]
		}
		if want := l.told[k.Entity]; events != want || amount != want*leaveAmount {
			return fmt.Errorf("usage of %s, whose callers were told of %d takes of %d: got %d takes, %d tokens", k.Entity, want, leaveAmount, events, amount)
		}
	}
	return nil
}

// soon waits until is returns nil, or for half of the time that the check has.
func soon(ctx context.Context, is func(context.Context) error) error {
	deadline, _ := ctx.Deadline()
	give := time.NewTimer(time.Until(deadline) / 2)
	defer give.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := is(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-give.C:
			return err
		case <-tick.C:
		}
	}
}

func leaversHoldNothing(ctx context.Context, e *env) error {
	l, err := e.leave(ctx)
	if err != nil {
		return err
	}
	return soon(ctx, l.charged)
}

func leaversAreNotCounted(ctx context.Context, e *env) error {
	l, err := e.leave(ctx)
	if err != nil {
		return err
	}
	return soon(ctx, l.counted)
}
