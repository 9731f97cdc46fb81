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
	each := int64(e.times(30)) // of a worker
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

// slotTimeline is timeline 9: two slots with a hold of a minute, of holders that renew, release and
// die.
func slotTimeline(ctx context.Context, e *env) error {
	charges := map[string]zael.Charge{}
	for _, st := range []struct {
		at     time.Duration
		holder string
		does   string
		wait   time.Duration // of a take that is refused
		free   int64         // afterwards
	}{
		{at: 0, holder: "A", does: "take", free: 1},
		{at: 10 * time.Second, holder: "B", does: "take"},
		{at: 20 * time.Second, holder: "C", does: "take", wait: 40 * time.Second},
		{at: 30 * time.Second, holder: "A", does: "renew"},
		{at: 35 * time.Second, holder: "B", does: "release", free: 1},
		{at: 36 * time.Second, holder: "C", does: "take"},
		{at: 40 * time.Second, holder: "D", does: "take", wait: 50 * time.Second},
		{at: 89 * time.Second, holder: "D", does: "take", wait: time.Second},
		{at: 90 * time.Second, holder: "D", does: "take"}, // A is dead
		{at: 91 * time.Second, holder: "A", does: "release"},
		{at: 96 * time.Second, does: "nothing", free: 1}, // C is dead
	} {
		fail := func(format string, args ...any) error {
			return fmt.Errorf("%s at %v, %s: %w", st.holder, st.at, st.does, fmt.Errorf(format, args...))
		}
		holder := "timeline-9-" + st.holder
		switch st.does {
		case "take":
			c, err := e.takeSlots(ctx, st.at, holder, 1)
			if st.wait > 0 {
				if got := c.State.Wait(mustAt(e.t0.Add(st.at)), 1); !errors.Is(err, zael.ErrExceeded) || got != st.wait {
					return fail("got %w and a wait of %v, want a refusal and %v", orNil(err), got, st.wait)
				}
			} else if err != nil {
				return fail("%w", err)
			} else {
				charges[st.holder] = c
			}
		case "renew":
			d := debit(key("key-1"), charges[st.holder])
			d.Holder = holder
			if _, held, err := role[zael.OnceStore](e).Extend(ctx, e.t0.Add(st.at), d); err != nil || !held {
				return fail("got held %t (%w)", held, orNil(err))
			}
		case "release":
			if err := e.release(ctx, st.at, holder, charges[st.holder]); err != nil {
				return fail("%w", err)
			}
		}
		at, got, err := e.read(ctx, e.t0.Add(st.at), key("key-1"))
		if err != nil {
			return err
		}
		if free := limitOf(got[0], "parallel").Available(at); free != st.free {
			return fail("got %d free, want %d", free, st.free)
		}
	}
	return nil
}
