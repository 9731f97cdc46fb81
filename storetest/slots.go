package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/zeroae/zael"
)

func slotChecks() []check {
	return []check{
		{name: "a holder is renewed", run: renews},
		{name: "a renewal is for the longest hold", run: renewsLongest},
		{name: "a holder that was removed is not renewed, and takes again", run: renewsNoOther},
		{name: "callers who leave hold no slots", run: slotLeavers},
	}
}

// renew renews the holder of a debit that was taken, and wants it held or not.
func (s *script) renew(after time.Duration, d zael.Debit, want bool) {
	s.do(func() error {
		held, err := role[zael.SlotStore](s.e).Renew(s.ctx, s.e.t0.Add(after), d)
		if err == nil && held != want {
			return fmt.Errorf("Renew at %v: got held %t, want %t", after, held, want)
		}
		return err
	})
}

func renews(ctx context.Context, e *env) error {
	s := e.script(ctx)
	a, b := held("holder-a", 2), held("holder-b", 1)
	s.admit(0, a)
	s.admit(0, b)
	s.renew(50*time.Second, a, true)
	s.refuse(50*time.Second, held("holder-c", 1))
	s.admit(70*time.Second, held("holder-c", 1)) // that of b
	s.refuse(70*time.Second, held("holder-d", 1))
	s.renew(115*time.Second, a, true) // late, but nobody needed them
	s.refuse(120*time.Second, held("holder-d", 2))
	return s.err
}

func renewsLongest(ctx context.Context, e *env) error {
	s := e.script(ctx)
	long := slotsOf(3)
	long.Period = 10 * time.Minute
	both := held("holder-a", 3)
	both.Charges = append(both.Charges, ask("long", long, 3))
	s.admit(0, both)
	short := both
	short.Charges = both.Charges[:1]
	s.renew(50*time.Second, short, true)
	s.refuse(10*time.Minute, held("holder-b", 1))
	s.admit(11*time.Minute, held("holder-b", 1))
	return s.err
}

// renewsNoOther renews a holder whose slots others have taken since: also more than once, as
// a Limiter does that has not heard the answer.
func renewsNoOther(ctx context.Context, e *env) error {
	s := e.script(ctx)
	a := held("holder-a", 2)
	s.renew(0, a, false)
	s.admit(0, a)
	b := held("holder-b", 3)
	s.admit(70*time.Second, b)
	s.renew(71*time.Second, a, false)
	s.adjust(72*time.Second, debitBack(b))
	s.renew(72*time.Second, a, false) // there is room, but a renewal takes nothing
	s.renew(72*time.Second, a, false)
	again := held("holder-a", 2)
	s.admit(73*time.Second, again)
	s.renew(74*time.Second, a, false) // the slots of another take
	s.renew(75*time.Second, again, true)
	s.refuse(76*time.Second, held("holder-c", 2))
	s.admit(76*time.Second, held("holder-c", 1))
	return s.err
}

// debitBack returns the debit that releases what a debit took.
func debitBack(d zael.Debit) zael.Debit {
	back := d
	back.Charges = nil
	for _, c := range d.Charges {
		c.Amount = -c.Amount
		back.Charges = append(back.Charges, c)
	}
	return back
}

// slotLeavers has callers leave whose takes are in flight: what they took is free again when the
// store knows of it, and the holder has written the bucket once more.
func slotLeavers(ctx context.Context, e *env) error {
	each := int64(30) // of a worker
	if e.short {
		each = 8
	}
	d := slotsOf(leaveWorkers*each + 1)
	first := debit(key("alice"), ask("slots", d, 1))
	first.Holder = "holder-a"
	if _, err := e.take(ctx, e.t0, 0, first); err != nil {
		return err
	}
	told := make([]int64, leaveWorkers)
	err := together(leaveWorkers, func(w int) error {
		rng := rand.New(rand.NewPCG(e.seed, uint64(w)))
		for range each {
			took, err := e.takeOrLeave(ctx, time.Duration(rng.Int64N(int64(leaveLongest))), ask("slots", d, 1))
			if err != nil {
				return err
			}
			if took {
				told[w]++
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	want := d.Burst - 1
	for _, n := range told {
		want -= n
	}
	return soon(ctx, func(ctx context.Context) error {
		if held, err := role[zael.SlotStore](e).Renew(ctx, e.t0, first); err != nil || !held {
			return fmt.Errorf("Renew: got held %t (%w), want true", held, orNil(err))
		}
		at, got, err := e.read(ctx, e.t0, key("alice"))
		if err != nil {
			return err
		}
		if free := limitOf(got[0], "slots").Available(at); free != want {
			return fmt.Errorf("after callers left: got %d slots free, want the %d that nobody was told of", free, want)
		}
		return nil
	})
}

// takeOrLeave takes slots for a caller who leaves after a time.
func (e *env) takeOrLeave(ctx context.Context, after time.Duration, c zael.Charge) (took bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, after)
	defer cancel()
	d := debit(key("alice"), c)
	d.Holder = "holder-a"
	_, err = e.take(ctx, e.t0, 0, d)
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil && errors.Is(err, ctx.Err()), errors.Is(err, zael.ErrContention):
		return false, nil
	}
	return false, fmt.Errorf("Take of slots that are free, of a caller who leaves: got %w, want it admitted or the context's error", err)
}
