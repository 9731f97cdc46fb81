package zael_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/limiters"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/memstore"
)

// leaseLimits are limits of all kinds, in all forms.
func leaseLimits(tb testing.TB) []zael.Limit {
	tb.Helper()
	var limits []zael.Limit
	for _, text := range []string{
		"rpm=100/min", "tpm=40000/min burst 90000 capacity 7", "smooth=60/90s burst 1", "soft=5/min soft",
		"day=100 each day at 06:30 Europe/Berlin", "month=1000 each month on 31 carry debt", "window=10 per 5h from first use",
		"parallel=20 at once hold 5min", "all=unlimited", "none=0/min",
		"night=100/min when mon-fri 09:00-18:00 Europe/Berlin times 0.5 when sat-sun Europe/Berlin burst 500",
	} {
		l, err := zael.ParseLimit(text)
		if err != nil {
			tb.Fatal(err)
		}
		limits = append(limits, l)
	}
	return limits
}

// TestLeaseBytes: what is read from the bytes of a lease has the same bytes, and ends as the
// lease would have.
func TestLeaseBytes(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	all := leaseLimits(t)
	for n := range schedules.Count(t, 200) {
		clock := new(handClock)
		l := limiterOn(t, memstore.New(nil), &zael.Config{Clock: clock.now})
		limits := make([]zael.Limit, 0, len(all))
		for _, i := range r.Perm(len(all))[:1+r.IntN(len(all)-1)] {
			limits = append(limits, all[i])
		}
		req := zael.Request{Entity: "Müller", Resource: "GET /v1/chat", Limits: limits, Consume: zael.Amounts{}}
		for _, limit := range limits {
			if req.Consume[limit.Name] = int64(r.IntN(2)); limit.Kind() == zael.KindBlock {
				req.Consume[limit.Name] = 0
			}
		}
		d := detachedLease(t, l, req, zael.DetachOptions{Principal: "web", MaxAge: time.Hour})
		for range r.IntN(4) {
			clock.forward(time.Duration(r.IntN(100)) * time.Second)
			if more, err := l.ConsumeDetached(t.Context(), d, zael.Amounts{limits[r.IntN(len(limits))].Name: 0, "rpm": 0}, zael.ConsumeOptions{}); err == nil {
				d = more
			}
		}
		there := limiters.Moved(t, d)
		a, _ := d.MarshalBinary()
		b, _ := there.MarshalBinary()
		if !bytes.Equal(a, b) {
			t.Fatalf("seed %d, lease %d: got the bytes %x, want %x", seed, n, b, a)
		}
		ended(t, l, there, zael.Ending{Verb: zael.LeaseRollback})
		for name, n := range remaining(t, l, req) {
			for _, limit := range limits {
				full := limit.Burst
				if limit.Kind() == zael.KindBlock || limit.Kind() == zael.KindUnlimited {
					continue
				}
				if limit.Name == name && n < full && name != "night" {
					t.Errorf("seed %d, lease %d: got %d left of %s after a rollback, want all", seed, n, n, limit)
				}
			}
		}
	}
}

func remaining(t *testing.T, l *zael.Limiter, req zael.Request) zael.Amounts {
	t.Helper()
	n, err := l.Available(t.Context(), zael.Query{Entity: req.Entity, Resource: req.Resource, Limits: req.Limits})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// FuzzLeaseBytes: no bytes panic, what can be read has one form, and ends or says why not.
func FuzzLeaseBytes(f *testing.F) {
	l, err := zael.New(memstore.New(nil), &zael.Config{Clock: t0})
	if err != nil {
		f.Fatal(err)
	}
	req := zael.Request{Entity: "alice", Resource: "gpt-4", Limits: leaseLimits(f), Consume: zael.Amounts{"none": 0}}
	d, err := l.AcquireDetached(f.Context(), req, zael.DetachOptions{})
	if err != nil {
		f.Fatal(err)
	}
	more, err := l.ConsumeDetached(f.Context(), d, zael.Amounts{"rpm": 2}, zael.ConsumeOptions{})
	if err != nil {
		f.Fatal(err)
	}
	for _, one := range []*zael.DetachedLease{d, more} {
		b, err := one.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d := new(zael.DetachedLease)
		if err := d.UnmarshalBinary(b); err != nil {
			if !isInvalid(err) {
				t.Errorf("got %v, want a *ValidationError", err)
			}
			return
		}
		again, err := d.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if err := new(zael.DetachedLease).UnmarshalBinary(again); err != nil {
			t.Errorf("%x, of what was read: got %v", again, err)
		}
		_, _ = l.ConsumeDetached(context.Background(), d, zael.Amounts{"rpm": 1}, zael.ConsumeOptions{})
		_, _ = l.RenewDetached(context.Background(), d)
		_, _ = l.EndDetached(context.Background(), d, zael.Ending{Verb: zael.LeaseRollback})
	})
}
