package zael_test

import (
	"errors"
	"testing"
	"time"

	"github.com/zeroae/zael"
)

// Traps of zae-limiter 0.17 about quotas and schedules: what went wrong there is what these
// tests are named after. Where a trap is found by another test:
//
//   - a wait that ignores the capacity of windows ahead, a balance that depends on who asked: timeline
//     8 of storetest, and TestSchedulesAgainstSteps of package bucket
//   - a quota that refills: TestKindMistakes
//   - a reset each minute that makes stored limits unreadable, and requests unlimited: the calendars of
//     TestSimulationOfKinds, and TestDamagedBucket of sqlitestore
//   - switches and their audit: TestTrapAvailabilityOfADisabledResource, TestTrapAuditTellsSwitchesApart
//   - keys with other amounts, a parent that is missing: TestTrapKeyWithOtherAmounts, storetest's parents
//   - several resources: TestTrapRefusedPartTakesNothing
//   - namespaces: TestTrapRunningInADeletedNamespace, TestTrapInterruptedPurge,
//     TestTrapNamespaceNamesAndAudit of dynamostore, TestTrapNamespacePolicies of stack
//   - stored limits: TestTrapChangedLimitsBindLiveBuckets, TestTrapTokensOfDeletedLimits,
//     TestTrapLimitsKeepFailureMode, TestTrapUncheckedLimits, TestTrapTypoInALimitName
//
// Traps with a number are those of the design of all kinds; others of them are in
// dynamostore/internal/protocol and slots_renew_test.go.

// kindAt returns a request under a limit, and sets the clock to a time.
func (r *rig) kindAt(at, limit string, n int64) zael.Request {
	r.Helper()
	l, err := zael.ParseLimit(limit)
	r.ok(err)
	t, err := time.Parse(time.RFC3339, at)
	r.ok(err)
	r.clock.set(t.Sub(t0()))
	return zael.Request{Entity: "key-1", Resource: "gpt-4", Limits: []zael.Limit{l}, Consume: zael.Amounts{l.Name: n}}
}

func TestTrapResetTimeInTheSpringGapIsSkipped(t *testing.T) {
	t.Parallel()
	for limit, at := range map[string][2]string{
		"q=5 each day at 02:30 Europe/Berlin": {"2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z"},
		"q=5 each day America/Havana":         {"2026-03-07T12:00:00Z", "2026-03-08T05:00:00Z"},
		"q=5 each day Africa/Cairo":           {"2026-04-23T12:00:00Z", "2026-04-23T22:00:00Z"},
		"q=5 each day Asia/Beirut":            {"2026-03-28T12:00:00Z", "2026-03-28T22:00:00Z"},
		"q=5 each day America/Santiago":       {"2026-09-05T12:00:00Z", "2026-09-06T04:00:00Z"},
	} {
		r := setup(t)
		r.allow(r.kindAt(at[0], limit, 5))
		after, err := time.Parse(time.RFC3339, at[1])
		r.ok(err)
		r.refuses(r.kindAt(after.Add(-time.Second).Format(time.RFC3339), limit, 1))
		r.allow(r.kindAt(at[1], limit, 5))
	}
}

func TestTrapResetTimeInTheAutumnHourFiresTwice(t *testing.T) {
	t.Parallel()
	for limit, at := range map[string][2]string{
		"q=5 each day at 02:30 Europe/Berlin":    {"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"},
		"q=5 each day at 01:30 America/New_York": {"2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z"},
		"q=5 each day America/Havana":            {"2026-11-01T04:00:00Z", "2026-11-01T05:00:00Z"},
	} {
		r := setup(t)
		r.allow(r.kindAt(at[0], limit, 5))
		r.refuses(r.kindAt(at[1], limit, 1))
	}
}

func TestTrapResetIsLookedForInOneCycleOnly(t *testing.T) {
	t.Parallel()
	for limit, at := range map[string][2]string{
		"q=5 each month on 31":   {"2026-03-30T12:00:00Z", "2026-05-05T00:00:00Z"},
		"q=5 each year on 02-29": {"2026-03-01T00:00:00Z", "2027-03-05T00:00:00Z"},
		"q=5 each day":           {"2026-03-01T00:00:00Z", "2036-03-05T00:00:00Z"},
	} {
		r := setup(t)
		r.allow(r.kindAt(at[0], limit, 5))
		r.allow(r.kindAt(at[1], limit, 5))
		r.refuses(r.kindAt(at[1], limit, 1))
	}
}

func TestTrapDay31IsNotMonthly(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for month := time.January; month <= time.December; month++ {
		last := time.Date(2026, month+1, 0, 0, 0, 0, 0, time.UTC).Format(time.RFC3339)
		r.allow(r.kindAt(last, "q=5 each month on 31", 5))
	}
}

func TestTrapAskAboveTheWholeQuotaGetsAWait(t *testing.T) {
	t.Parallel()
	for _, limit := range []string{"q=5 each day", "q=5 per 5h from first use", "q=5/min", "q=5 at once"} {
		r := setup(t)
		_, err := r.l.Acquire(r.ctx, r.kindAt("2026-06-10T12:00:00Z", limit, 6))
		if !errors.Is(err, zael.ErrNever) {
			t.Errorf("%s: got %v, want ErrNever", limit, err)
		}
	}
}

func TestTrapRemainingIsStoredInsteadOfUsed(t *testing.T) {
	t.Parallel()
	r := setup(t)
	const noon = "2026-06-10T12:00:00Z"
	left := func(limit string, want int64) {
		t.Helper()
		r.left(r.kindAt(noon, limit, 0), zael.Amounts{"q": want})
	}
	r.allow(r.kindAt(noon, "q=10 each day", 4))
	left("q=20 each day", 16)
	r.allow(r.kindAt(noon, "q=5 each day", 1))
	left("q=20 each day", 15)
}

// Trap 6 of the kinds.
func TestTrap06SettleAfterTheBoundaryDependsOnTraffic(t *testing.T) {
	t.Parallel()
	for i := range 4 {
		traffic, limit := i%2 == 1, []string{"q=10 each day", "q=10 each day carry debt"}[i/2]
		r := setup(t)
		lease := r.lease(r.kindAt("2026-06-10T23:59:00Z", limit, 3))
		next := r.kindAt("2026-06-11T00:01:00Z", limit, 1)
		if traffic {
			r.allow(next)
		}
		r.ok(lease.Settle(zael.Amounts{"q": 10}))
		r.ok(lease.Commit(r.ctx))
		want := int64(10)
		if traffic {
			want = 9
		}
		r.left(next, zael.Amounts{"q": want})
	}
}

func TestTrapLimitsOfOneSetMustShareAZone(t *testing.T) {
	t.Parallel()
	if _, err := zael.NewPolicy("gpt-4", zael.EachDay("d", 5).In("Europe/Berlin"), zael.EachMonth("m", 50)); err != nil {
		t.Errorf("got %v, want a policy", err)
	}
}

// Trap 4 of the kinds: a lease from before a reset gives nothing into what the reset has filled, and a
// top-up with a key is made once.
func TestTrap04GiveAfterAReset(t *testing.T) {
	t.Parallel()
	for _, limit := range []string{"q=10 each day", "q=10 per 5h from first use", "q=10/d"} {
		r := setup(t)
		const noon = "2026-06-10T12:00:00Z"
		lease := r.lease(r.kindAt(noon, limit, 5))
		l, err := zael.ParseLimit(limit)
		r.ok(err)
		r.set(zael.Scope{}, l)
		_, err = r.l.Reset(r.ctx, "key-1", "gpt-4", nil, zael.AdminOptions{})
		r.ok(err)
		r.allow(r.kindAt(noon, limit, 3))
		r.ok(lease.Rollback(r.ctx))
		r.left(r.kindAt(noon, limit, 0), zael.Amounts{"q": 7})
		for range 2 {
			_, err = r.l.TopUp(r.ctx, "key-1", "gpt-4", zael.Amounts{"q": 2}, zael.AdminOptions{IdempotencyKey: "top-up-1"})
			r.ok(err)
		}
		r.left(r.kindAt(noon, limit, 0), zael.Amounts{"q": 9})
	}
}

// Trap 14 of the kinds: two programs with other zone data have two calendars. The starts of both
// count, each once.
func TestTrap14TwoCalendars(t *testing.T) {
	t.Parallel()
	r := setup(t)
	admitted := int64(0)
	day := time.Date(2026, 6, 10, 12, 0, 0, 0, time.UTC)
	for step := range 48 { // two days, of which each has a start of either
		for _, limit := range []string{"q=10 each day", "q=10 each day at 01:00"} {
			for r.l.Allow(r.ctx, r.kindAt(day.Add(time.Duration(step)*time.Hour).Format(time.RFC3339), limit, 1)) == nil {
				admitted++
			}
		}
	}
	if admitted < 30 || admitted > 50 {
		t.Errorf("two days under two calendars: got %d of 10 a day admitted, want 10, and 10 more at each of 2 to 4 starts", admitted)
	}
}
