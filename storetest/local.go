package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/zeroae/zael"
)

// localChecks are those of BucketStore, asking TakeLocal first as a Limiter
// does, and some of its own.
func localChecks() []check {
	checks := []check{{name: "an unanswered local take changes nothing", run: unansweredChangesNothing}}
	counted := check{name: "local takes are counted as usage", also: []Role{UsageStore}, run: countsTakes}
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
// not seen, has just charged and has just been refused by.
func unansweredChangesNothing(ctx context.Context, e *env) error {
	local := role[zael.LocalStore](e)
	d := trickle(10)
	a, b := key("alice"), key("bob")
	for i, tt := range []struct {
		amount  int64
		maxWait time.Duration
	}{{3, 0}, {0, 0}, {8, 0}, {8, time.Second}, {8, time.Minute}, {11, 0}, {2, 0}, {1, 0}} {
		now := e.t0.Add(time.Duration(i) * time.Millisecond)
		_, before, err := e.read(ctx, now, a, b)
		if err != nil {
			return err
		}
		debits := []zael.Debit{debit(a, ask("rpm", d, tt.amount)), debit(b, ask("rpm", d, 1))}
		_, taken, takeErr := local.TakeLocal(now, tt.maxWait, debits)
		charge := []zael.Debit{debit(a, ask("rpm", d, 1))}
		if taken {
			continue
		}
		if _, adjusted, err := local.AdjustLocal(now, charge); adjusted {
			if err != nil {
				return err
			}
			continue
		}
		_, after, err := e.read(ctx, now, a, b)
		if err != nil {
			return err
		}
		if !reflect.DeepEqual(after, before) {
			return fmt.Errorf("TakeLocal of %s and AdjustLocal, not answered (%w): got buckets %+v, want them as before, %+v",
				debitsText(debits), orNil(takeErr), after, before)
		}
		if _, err := e.store.Take(ctx, now, tt.maxWait, debits); err != nil && !errors.Is(err, zael.ErrExceeded) {
			return err
		}
	}
	return nil
}
