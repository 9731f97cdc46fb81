package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// resets returns the edit that resets limits of a bucket, all if there are no names.
func (e *env) resets(after time.Duration, k zael.Key, names ...string) zael.Edit {
	return zael.Edit{Event: e.event(after, zael.BucketReset, k.Entity, k.Resource), Names: names}
}

// topsUp returns the edit that tops limits of a bucket up.
func (e *env) topsUp(after time.Duration, k zael.Key, amounts zael.Amounts) zael.Edit {
	return zael.Edit{Event: e.event(after, zael.BucketToppedUp, k.Entity, k.Resource), Amounts: amounts}
}

// refill makes an edit of a bucket, with a key or none, and wants what is then available.
func (s *script) refill(edit zael.Edit, once zael.Once, repeated bool, want zael.Amounts) {
	s.do(func() error {
		s.e.see(edit.Event.Time)
		got, err := role[zael.AdminStore](s.e).Administer(s.ctx, edit.Event.Time, edit, once)
		if err != nil {
			return err
		}
		if !maps.Equal(got.Available, want) || got.Repeated != repeated {
			return fmt.Errorf("Administer of %s: got %v available, repeated %t; want %v and %t", edit.Event.Action, got.Available, got.Repeated, want, repeated)
		}
		return nil
	})
}

func resetFills(ctx context.Context, e *env) error {
	s := e.script(ctx)
	slow, fast := never(10), trickle(20)
	k, other := key("alice"), key("bob")
	for _, k := range []zael.Key{k, other} {
		s.admit(0, debit(k, ask("rpm", slow, 7), ask("tpm", fast, 20)))
		s.adjust(0, debit(k, ask("debt", slow, 25)))
	}
	s.refill(e.resets(time.Second, k, "rpm"), zael.Once{}, false, zael.Amounts{"rpm": 10})
	s.left(time.Second, k, "rpm", slow, 10)
	s.left(time.Second, k, "tpm", fast, 1)
	s.refill(e.resets(time.Second, k), zael.Once{}, false, zael.Amounts{"rpm": 10, "tpm": 20, "debt": 10})
	s.left(time.Second, k, "tpm", fast, 20)
	s.left(time.Second, k, "debt", slow, 10)
	s.left(time.Second, other, "rpm", slow, 3) // another's
	s.left(time.Second, other, "debt", slow, -15)
	s.admit(time.Second, debit(k, ask("rpm", slow, 10), ask("tpm", fast, 20)))
	s.refuse(time.Second, debit(k, ask("rpm", slow, 1)))
	return s.err
}

func resetEndsReceipts(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := never(10)
	k := key("alice")
	before := debit(k, ask("rpm", d, 8))
	s.admit(0, before)
	s.refill(e.resets(0, k), zael.Once{}, false, zael.Amounts{"rpm": 10})
	after := debit(k, ask("rpm", d, 9))
	s.admit(0, after)
	s.adjust(0, debit(k, back(before.Charges[0], 8)))
	s.left(0, k, "rpm", d, 1)
	s.adjust(0, debit(k, back(after.Charges[0], 4)))
	s.left(0, k, "rpm", d, 5)
	return s.err
}

func topUpGives(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := never(10)
	k := key("alice")
	taken := debit(k, ask("rpm", d, 8), ask("tpm", d, 3))
	s.admit(0, taken)
	s.refill(e.topsUp(0, k, zael.Amounts{"rpm": 5, "tpm": 1}), zael.Once{}, false, zael.Amounts{"rpm": 7, "tpm": 8})
	s.left(0, k, "rpm", d, 7)
	s.adjust(0, debit(k, back(taken.Charges[0], 1))) // which is not reset
	s.left(0, k, "rpm", d, 8)
	s.refill(e.topsUp(0, k, zael.Amounts{"rpm": bucket.MaxAmount}), zael.Once{}, false, zael.Amounts{"rpm": 10})
	s.left(0, k, "tpm", d, 8)
	s.adjust(0, debit(k, ask("rpm", d, 30)))
	s.refill(e.topsUp(0, k, zael.Amounts{"rpm": 5}), zael.Once{}, false, zael.Amounts{"rpm": -15})
	s.left(0, k, "rpm", d, -15)
	return s.err
}

func refillNeedsDefinition(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := never(10)
	k := key("alice")
	stored := []bucket.Limit{{Name: "tpm", Definition: stored(never(50), 7)}, {Name: "rpm", Definition: stored(never(60), 7)}}
	s.administer(e.resets(0, k), zael.ErrNoLimits)
	s.administer(e.topsUp(0, k, zael.Amounts{"rpm": 1}), zael.ErrNoLimits)
	edit := e.resets(0, k)
	edit.Stored = stored
	s.refill(edit, zael.Once{}, false, zael.Amounts{"rpm": 60, "tpm": 50}) // both are full
	s.admit(0, debit(k, ask("rpm", d, 4)))
	s.refill(edit, zael.Once{}, false, zael.Amounts{"rpm": 10, "tpm": 50}) // under the bucket's own
	s.administer(e.resets(0, k, "rpm", "rps"), zael.ErrNoLimits)
	s.admit(0, debit(k, ask("rpm", d, 4)))
	s.administer(e.topsUp(0, k, zael.Amounts{"rpm": 1, "rps": 1}), zael.ErrNoLimits)
	s.left(0, k, "rpm", d, 6) // all or none
	return s.err
}

func refillOnce(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := never(10)
	k := key("alice")
	once := zael.Once{Key: "k", Hash: "h", Until: e.t0.Add(time.Hour)}
	s.admit(0, debit(k, ask("rpm", d, 9)))
	s.refill(e.topsUp(0, k, zael.Amounts{"rpm": 2}), once, false, zael.Amounts{"rpm": 3})
	s.admit(0, debit(k, ask("rpm", d, 3)))
	s.refill(e.topsUp(time.Minute, k, zael.Amounts{"rpm": 2}), once, true, zael.Amounts{"rpm": 3}) // the first result
	s.left(time.Minute, k, "rpm", d, 0)
	other := once
	other.Hash = "g"
	s.once(e.topsUp(time.Minute, k, zael.Amounts{"rpm": 3}), other, false, zael.ErrKeyUsed)
	s.left(time.Minute, k, "rpm", d, 0)
	return s.err
}

func refillIsNoUsage(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := never(10)
	k := key("alice")
	s.admit(0, debit(k, ask("rpm", d, 9)))
	s.refill(e.topsUp(0, k, zael.Amounts{"rpm": 2}), zael.Once{}, false, zael.Amounts{"rpm": 3})
	s.refill(e.resets(0, k), zael.Once{}, false, zael.Amounts{"rpm": 10})
	s.admit(0, debit(k, ask("rpm", d, 1)))
	s.usage(zael.UsageQuery{Entity: k.Entity, Window: zael.Hourly},
		zael.UsageRecord{Entity: k.Entity, Resource: k.Resource, Window: zael.Hourly, Start: e.t0, Amounts: zael.Amounts{"rpm": 10}, Events: 2})
	return s.err
}

// refillTogether tops up and takes at the same time.
func refillTogether(ctx context.Context, e *env) error {
	const each, burst = 10, 1000
	s := e.script(ctx)
	d := never(burst)
	k := key("alice")
	s.admit(0, debit(k, ask("rpm", d, 500)))
	var all sync.WaitGroup
	failed := make([]error, 4)
	for i := range failed {
		all.Go(func() {
			for range each {
				var err error
				if i%2 == 0 {
					_, err = e.take(ctx, e.t0, 0, debit(k, ask("rpm", d, 3)))
				} else {
					_, err = role[zael.AdminStore](e).Administer(ctx, e.t0, e.topsUp(0, k, zael.Amounts{"rpm": 2}), zael.Once{})
				}
				failed[i] = errors.Join(failed[i], err)
			}
		})
	}
	all.Wait()
	if err := errors.Join(failed...); err != nil {
		return err
	}
	s.left(0, k, "rpm", d, burst-500-2*each*3+2*each*2)
	return s.err
}

// topsUpQuotas tops up a quota and a session of a bucket, and of one that is missing.
func topsUpQuotas(ctx context.Context, e *env) error {
	s := e.script(ctx)
	q := quotaOf("UTC") // whose period ends 10 hours after t0
	w := bucket.Definition{Burst: 10, Capacity: 10, Kind: bucket.Session, Period: time.Hour}
	k, fresh := key("alice"), key("bob")
	s.admit(0, debit(k, ask("q", q, 3), ask("w", w, 10)))
	s.refill(e.topsUp(time.Minute, k, zael.Amounts{"q": 5, "w": 2}), zael.Once{}, false, zael.Amounts{"q": 12, "w": 2})
	edit := e.topsUp(0, fresh, zael.Amounts{"q": 5})
	edit.Stored = []bucket.Limit{{Name: "q", Definition: stored(q, 7)}}
	s.refill(edit, zael.Once{}, false, zael.Amounts{"q": 15})
	s.admit(2*time.Minute, debit(k, ask("q", q, 12), ask("w", w, 2)))
	s.refuse(2*time.Minute, debit(k, ask("q", q, 1)))
	s.admit(2*time.Minute, debit(fresh, ask("q", q, 15)))
	s.admit(time.Hour, debit(k, ask("w", w, 10))) // another session
	s.admit(10*time.Hour, debit(k, ask("q", q, 10)), debit(fresh, ask("q", q, 10)))
	s.refuse(10*time.Hour, debit(fresh, ask("q", q, 1)))
	return s.err
}

func resetsPeriods(ctx context.Context, e *env) error {
	s := e.script(ctx)
	q := quotaOf("UTC")
	w := bucket.Definition{Burst: 10, Capacity: 10, Kind: bucket.Session, Period: time.Hour}
	k := key("alice")
	before := debit(k, ask("q", q, 8), ask("w", w, 9))
	s.admit(0, before)
	s.refill(e.resets(time.Minute, k), zael.Once{}, false, zael.Amounts{"q": 10, "w": 10})
	s.admit(30*time.Minute, debit(k, ask("q", q, 7), ask("w", w, 10)))
	s.adjust(30*time.Minute, debit(k, back(before.Charges[0], 8), back(before.Charges[1], 9))) // of before
	s.admit(30*time.Minute, debit(k, ask("q", q, 3)))
	s.refuse(30*time.Minute, debit(k, ask("q", q, 1)))
	s.refuse(89*time.Minute, debit(k, ask("w", w, 1))) // the session began at 30 minutes
	s.admit(90*time.Minute, debit(k, ask("w", w, 10)))
	return s.err
}

func topsUpNoOthers(ctx context.Context, e *env) error {
	k := key("alice")
	for name, d := range map[string]bucket.Definition{"blocked": bucket.Blocked(), "unlimited": bucket.Unbounded(), "slots": slotsOf(3)} {
		edit := e.topsUp(0, k, zael.Amounts{name: 1})
		edit.Stored = []bucket.Limit{{Name: name, Definition: stored(d, 7)}}
		if err := notToppedUp(ctx, e, edit); err != nil {
			return err
		}
	}
	return nil
}

// notToppedUp makes a top-up, which has to fail.
func notToppedUp(ctx context.Context, e *env, edit zael.Edit) error {
	_, err := role[zael.AdminStore](e).Administer(ctx, e.t0, edit, zael.Once{})
	if _, invalid := errors.AsType[*zael.ValidationError](err); !invalid {
		return fmt.Errorf("a top-up of %v: got %w, want a *zael.ValidationError", edit.Amounts, orNil(err))
	}
	return nil
}

// topUpComesBack tops up a quota of which nothing is used, and gives what a take had of it
// back after so long that a store forgets what is full.
func topUpComesBack(ctx context.Context, e *env) error {
	s := e.script(ctx)
	month, err := bucket.NewCalendar(bucket.CalendarSpec{Each: bucket.Monthly})
	if err != nil {
		return err
	}
	q := bucket.Definition{Burst: 10, Capacity: 10, Kind: bucket.Quota, Calendar: month}
	k := key("alice")
	edit := e.topsUp(0, k, zael.Amounts{"q": 5})
	edit.Stored = []bucket.Limit{{Name: "q", Definition: q}}
	s.refill(edit, zael.Once{}, false, zael.Amounts{"q": 15})
	taken := debit(k, ask("q", q, 5))
	s.admit(0, taken) // 10 are left, as of one that is full
	s.names(time.Second, 3*time.Hour, k)
	now := once * 3 * time.Hour
	s.adjust(now, debit(k, back(taken.Charges[0], 5)))
	s.admit(now, debit(k, ask("q", q, 15)))
	s.refuse(now, debit(k, ask("q", q, 1)))
	return s.err
}

// refillsWhatIsNow refills a name that slots and a quota have: the stored limits say which
// of them it is.
func refillsWhatIsNow(ctx context.Context, e *env) error {
	s := e.script(ctx)
	q, parallel := quotaOf("UTC"), slotsOf(3)
	k := key("alice")
	held := debit(k, ask("n", parallel, 2))
	held.Holder = "A"
	s.admit(0, debit(k, ask("n", q, 8)))
	s.admit(0, held)
	up, reset := e.topsUp(0, k, zael.Amounts{"n": 1}), e.resets(0, k)
	up.Stored = []bucket.Limit{{Name: "n", Definition: stored(parallel, 7)}}
	reset.Stored = up.Stored
	s.do(func() error { return notToppedUp(ctx, e, up) })
	s.refill(reset, zael.Once{}, false, zael.Amounts{"n": 1})
	s.refuse(0, debit(k, ask("n", q, 3)))
	up.Stored, reset.Stored = nil, nil // slots are held
	s.do(func() error { return notToppedUp(ctx, e, up) })
	s.refill(reset, zael.Once{}, false, zael.Amounts{"n": 1})
	s.refuse(0, debit(k, ask("n", q, 3)))
	up.Stored = []bucket.Limit{{Name: "n", Definition: stored(q, 7)}}
	s.refill(up, zael.Once{}, false, zael.Amounts{"n": 3})
	s.admit(0, debit(k, ask("n", q, 3)))
	s.refuse(0, debit(k, ask("n", q, 1)))
	return s.err
}
