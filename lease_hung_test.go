package zael_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
)

// While the store does not answer one call of a lease the others do not wait for
// it. What comes of a Consume after the lease has ended is given back.
func TestLeaseDuringHungCall(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*zael.Lease, context.Context) error{
		"Commit": (*zael.Lease).Commit, "Rollback": (*zael.Lease).Rollback,
	} {
		synctest.Test(t, func(t *testing.T) {
			r, f := setupFake(t, nil)
			req := ask(zael.Amounts{"rpm": 5}, two()...)
			lease := r.lease(req)
			gate := make(chan struct{})
			f.take = func(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
				at, err := f.Store.Take(ctx, now, maxWait, debits)
				<-gate
				return at, err
			}
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() {
					if err := lease.Consume(r.ctx, zael.Amounts{"rpm": 10}); !errors.Is(err, zael.ErrLeaseClosed) {
						t.Errorf("%s: Consume: got %v, want ErrLeaseClosed", name, err)
					}
				})
			}
			synctest.Wait()
			r.consumed(lease, zael.Amounts{"rpm": 5, "tpm": 0})
			r.ok(lease.Settle(zael.Amounts{"tpm": 7}))
			r.ok(end(lease, r.ctx))
			want := zael.Amounts{"rpm": 55, "tpm": 593}
			if name == "Rollback" {
				want = zael.Amounts{"rpm": 60, "tpm": 600}
			}
			close(gate)
			wg.Wait()
			f.take = nil
			r.left(req, want)
		})
	}
}

// Nor is the end of a lease waited for by what needs no store.
func TestLeaseDuringHungEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, f := setupFake(t, nil)
		lease := r.lease(ask(zael.Amounts{"rpm": 5}, two()...))
		gate := make(chan struct{})
		f.adjust = func(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
			<-gate
			return f.Store.Adjust(ctx, now, debits)
		}
		r.ok(lease.Settle(zael.Amounts{"rpm": 7}))
		var wg sync.WaitGroup
		wg.Go(func() { r.ok(lease.Commit(r.ctx)) })
		synctest.Wait()
		r.consumed(lease, zael.Amounts{"rpm": 7, "tpm": 0})
		if err := lease.Settle(nil); !errors.Is(err, zael.ErrLeaseClosed) {
			t.Errorf("Settle: got %v, want ErrLeaseClosed", err)
		}
		r.ok(lease.Rollback(r.ctx))
		close(gate)
		wg.Wait()
	})
}
