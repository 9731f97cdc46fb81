package dynamostore_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
)

// slotLimiter returns a Limiter on a store of its own.
func slotLimiter(t *testing.T, n *dynamofake.Network, seed uint64) *zael.Limiter {
	t.Helper()
	l, err := zael.New(storeOn(t, n, seed), nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestRenewalsCost: slots of a bucket that nobody uses otherwise cost four writes a hold, however
// many leases have them, and those of a busy bucket none.
func TestRenewalsCost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const hold, acquires = time.Minute, 60
		n := &dynamofake.Network{Table: dynamofake.New(), Latency: time.Millisecond}
		l := slotLimiter(t, n, 1)
		p := zael.MustPolicy("gpt-4", zael.PerMinute("rpm", 1000), zael.AtOnce("parallel", 20).Hold(hold))
		acquire := func() *zael.Lease {
			lease, err := l.Acquire(t.Context(), p.For("e", 1, 1))
			if err != nil {
				t.Fatal(err)
			}
			return lease
		}
		leases := []*zael.Lease{acquire(), acquire(), acquire()}
		writes := func() int {
			synctest.Wait()
			return n.Writes()
		}
		before := writes()
		for range acquires {
			time.Sleep(hold / 8) //nolint:forbidigo // in synctest's time
			if err := acquire().Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := writes() - before; got != 2*acquires {
			t.Errorf("%d acquires and commits beside 3 leases: got %d writes, want %d", acquires, got, 2*acquires)
		}
		before = writes()
		time.Sleep(10*hold + hold/8) //nolint:forbidigo // in synctest's time
		if got := writes() - before; got < 36 || got > 40 {
			t.Errorf("10 holds of 3 leases: got %d renewals, want at most 4 a hold", got)
		}
		for _, lease := range leases {
			if !lease.Held() {
				t.Error("got Held false")
			}
			if err := lease.Commit(t.Context()); err != nil {
				t.Error(err)
			}
		}
		before = writes()
		time.Sleep(10 * hold) //nolint:forbidigo // in synctest's time
		if got := writes() - before; got != 0 {
			t.Errorf("nothing is held: got %d writes, want none", got)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestLostTakeOfSlotsThatWereRemoved: slots that are taken again after a silence are taken
// once, though the answer is lost.
func TestLostTakeOfSlotsThatWereRemoved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hold := bucket.MinHold
		n := &dynamofake.Network{Table: dynamofake.New(), Latency: time.Millisecond}
		l := slotLimiter(t, n, 1)
		others := &dynamofake.Network{Table: n.Table, Latency: time.Millisecond}
		other := slotLimiter(t, others, 2)
		p := zael.MustPolicy("gpt-4", zael.AtOnce("parallel", 5).Hold(hold))
		a, err := l.Acquire(t.Context(), p.For("e", 3))
		if err != nil {
			t.Fatal(err)
		}
		n.Break(dynamofake.SilentError{})
		time.Sleep(hold + time.Second) //nolint:forbidigo // in synctest's time
		theirs, err := other.Acquire(t.Context(), p.For("e", 3))
		if err != nil {
			t.Fatalf("after a silence of more than the hold: got %v", err)
		}
		if err := theirs.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		n.Break(dynamofake.SilencedError{})
		time.Sleep(2 * hold) //nolint:forbidigo // in synctest's time
		if a.Held() {
			t.Error("nothing was answered: got Held")
		}
		n.Break(nil)
		time.Sleep(hold / 2) //nolint:forbidigo // in synctest's time
		if !a.Held() {
			t.Error("there is room: got Held false")
		}
		if _, err := other.Acquire(t.Context(), p.For("e", 3)); !errors.Is(err, zael.ErrExceeded) {
			t.Errorf("3 beside 3 of 5: got %v, want a refusal", err)
		}
		if theirs, err = other.Acquire(t.Context(), p.For("e", 2)); err != nil {
			t.Errorf("2 beside 3 of 5: got %v", err)
		}
		for _, err := range []error{a.Commit(t.Context()), theirs.Commit(t.Context()), l.Close(t.Context()), other.Close(t.Context())} {
			if err != nil {
				t.Error(err)
			}
		}
	})
}
