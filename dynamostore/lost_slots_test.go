package dynamostore_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
)

// A lossy is a process that holds slots of a bucket, over a network that fails, and another
// process.
type lossy struct {
	*testing.T
	n        *dynamofake.Network
	l, other *zael.Limiter
	p        *zael.Policy
}

func newLossy(t *testing.T) *lossy {
	t.Helper()
	n := &dynamofake.Network{Table: dynamofake.New(), Latency: time.Millisecond}
	others := &dynamofake.Network{Table: n.Table, Latency: time.Millisecond}
	return &lossy{
		T: t, n: n, l: slotLimiter(t, n, 1), other: slotLimiter(t, others, 2),
		p: zael.MustPolicy("gpt-4", zael.AtOnce("parallel", 3).Hold(bucket.MinHold), zael.PerDay("tpd", 1000)),
	}
}

func (y *lossy) acquire() *zael.Lease {
	y.Helper()
	lease, err := y.l.Acquire(y.Context(), y.p.For("e", 1, 1))
	if err != nil {
		y.Fatal(err)
	}
	return lease
}

// free checks how many slots the other process can take.
func (y *lossy) free(want int64) {
	y.Helper()
	if _, err := y.other.Acquire(y.Context(), y.p.For("e", want+1, 0)); !errors.Is(err, zael.ErrExceeded) {
		y.Errorf("%d slots: got %v, want a refusal", want+1, err)
	}
	lease, err := y.other.Acquire(y.Context(), y.p.For("e", want, 0))
	if err == nil {
		err = lease.Commit(y.Context())
	}
	if err != nil {
		y.Errorf("%d slots: got %v", want, err)
	}
}

func (y *lossy) end(leases ...*zael.Lease) {
	y.Helper()
	for _, lease := range leases {
		if err := lease.Commit(y.Context()); err != nil {
			y.Error(err)
		}
	}
	if err := errors.Join(y.l.Close(y.Context()), y.other.Close(y.Context())); err != nil {
		y.Error(err)
	}
}

// A release that is throttled, and sent again, releases no more than its lease had.
func TestThrottledRelease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		y := newLossy(t)
		a, b := y.acquire(), y.acquire()
		y.n.Break(&types.ProvisionedThroughputExceededException{})
		repair := time.AfterFunc(300*time.Millisecond, func() { y.n.Break(nil) })
		defer repair.Stop()
		if err := a.Commit(t.Context()); err != nil {
			t.Error(err)
		}
		y.free(2)
		y.end(b)
	})
}

// A release that did not come through is made by the next write of the bucket, and so is that of
// one whose answer was lost.
func TestLostRelease(t *testing.T) {
	t.Parallel()
	for _, failure := range []error{dynamofake.SilentError{}, dynamofake.SilencedError{}} {
		t.Run(failure.Error(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				y := newLossy(t)
				a, b := y.acquire(), y.acquire()
				y.n.Break(failure)
				if err := a.Commit(t.Context()); !errors.Is(err, zael.ErrUnavailable) {
					t.Errorf("Commit: got %v, want ErrUnavailable", err)
				}
				y.n.Break(nil)
				time.Sleep(bucket.MinHold / 2) //nolint:forbidigo // in synctest's time
				if !b.Held() {
					t.Error("the other lease: got Held false")
				}
				y.free(2)
				y.end(b)
			})
		})
	}
}

// A take whose answer was lost holds nothing, and releases nothing of others when it is undone.
func TestLostTakeOfSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		y := newLossy(t)
		a := y.acquire()
		y.n.Break(dynamofake.SilencedError{})
		if _, err := y.l.Acquire(t.Context(), y.p.For("e", 1, 1)); !errors.Is(err, zael.ErrUnavailable) {
			t.Errorf("Acquire: got %v, want ErrUnavailable", err)
		}
		y.n.Break(nil)
		time.Sleep(bucket.MinHold / 10) //nolint:forbidigo // in synctest's time, until it is undone
		y.free(2)
		time.Sleep(bucket.MinHold / 2) //nolint:forbidigo // in synctest's time
		if !a.Held() {
			t.Error("the other lease: got Held false")
		}
		y.end(a)
	})
}
