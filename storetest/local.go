package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/zeroae/zael"
)

// localChecks are those of BucketStore, asking TakeLocal and AdjustLocal first
// as a Limiter does, and some of their own.
func localChecks() []check {
	checks := []check{{name: "an unanswered local call changes nothing", run: unansweredChangesNothing}}
	counted := check{name: "local calls are counted as usage", also: []Role{UsageStore}, run: countsTakes}
	for _, c := range append(bucketChecks(), counted) {
		run := c.run
		c.run = func(ctx context.Context, e *env) error {
			e.local = role[zael.LocalStore](e)
			return run(ctx, e)
		}
		checks = append(checks, c)
	}
	return checks
}

// unansweredChangesNothing asks locally only, of buckets that the process has
// not seen, has just charged and has just been refused by; what is not answered
// it then asks in full.
func unansweredChangesNothing(ctx context.Context, e *env) error {
	local := role[zael.LocalStore](e)
	d := trickle(10)
	a, b := key("alice"), key("bob")
	for i, tt := range []struct {
		amount  int64
		maxWait time.Duration
	}{{3, 0}, {0, 0}, {8, 0}, {8, time.Second}, {8, time.Minute}, {11, 0}, {2, 0}, {1, 0}} {
		now := e.t0.Add(time.Duration(i) * time.Millisecond)
		debits := []zael.Debit{debit(a, ask("rpm", d, tt.amount)), debit(b, ask("rpm", d, 1))}
		answered, err := e.leavesAlone(ctx, now, []zael.Key{a, b}, func() (bool, error) {
			_, answered, err := local.TakeLocal(now, tt.maxWait, debits)
			return answered, err
		})
		if err == nil && !answered {
			_, err = e.store.Take(ctx, now, tt.maxWait, debits)
		}
		if err != nil && !errors.Is(err, zael.ErrExceeded) {
			return fmt.Errorf("TakeLocal of %s: %w", debitsText(debits), err)
		}

		debits = []zael.Debit{debit(a, ask("rpm", d, 1)), debit(b, ask("tpm", d, 1))}
		answered, err = e.leavesAlone(ctx, now, []zael.Key{a, b}, func() (bool, error) {
			_, answered, err := local.AdjustLocal(now, debits)
			return answered, err
		})
		if err == nil && !answered {
			_, err = e.store.Adjust(ctx, now, debits)
		}
		if err != nil {
			return fmt.Errorf("AdjustLocal of %s: %w", debitsText(debits), err)
		}
	}
	return nil
}

// leavesAlone makes a call that, if it is not answered, must not change buckets.
func (e *env) leavesAlone(ctx context.Context, now time.Time, keys []zael.Key, call func() (answered bool, err error)) (bool, error) {
	_, before, err := e.read(ctx, now, keys...)
	if err != nil {
		return false, err
	}
	answered, err := call()
	if answered {
		return true, err
	}
	_, after, err := e.read(ctx, now, keys...)
	if err == nil && !reflect.DeepEqual(after, before) {
		err = fmt.Errorf("not answered: got buckets %+v, want them as before, %+v", after, before)
	}
	return false, err
}
