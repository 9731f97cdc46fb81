package zael_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/limiters"
	"github.com/zeroae/zael/memstore"
)

func TestIdempotencyKeys(t *testing.T) {
	t.Parallel()
	replicas(t, func(t *testing.T, clock *handClock, l [2]*zael.Limiter) {
		t.Helper()
		ctx := t.Context()
		p := zael.MustPolicy("gpt-4", zael.EachMonth("tpm", 100), zael.AtOnce("parallel", 5), zael.PerDay("rpd", 1000))
		o := zael.DetachOptions{IdempotencyKey: "key 1", Principal: "web"}
		d := detachedLease(t, l[0], p.For("alice", 40, 1, 2), o)
		clock.forward(time.Minute)
		again := detachedLease(t, l[1], p.For("alice", 40, 1, 2), o)
		if !again.Repeated() || d.Repeated() || again.ID() != d.ID() {
			t.Errorf("got %+v, want the first lease, repeated", again)
		}
		if got, want := asJSON(t, again.Decision()), asJSON(t, d.Decision()); got != want {
			t.Errorf("got %s, want the first decision, %s", got, want)
		}
		if _, err := l[1].AcquireDetached(ctx, p.For("alice", 41, 1, 2), o); !errors.Is(err, zael.ErrKeyUsed) {
			t.Errorf("got %v, want ErrKeyUsed of another request", err)
		}
		other := o
		other.Principal = "batch"
		if got := detachedLease(t, l[1], p.For("alice", 40, 1, 2), other); got.Repeated() {
			t.Errorf("got %+v, want another lease for another principal", got)
		}
		o.IdempotencyKey = "key 2"
		if _, err := l[0].AcquireDetached(ctx, p.For("alice", 21, 0, 0), o); !errors.Is(err, zael.ErrExceeded) {
			t.Errorf("got %v, want a refusal", err)
		}
		ended(t, l[0], limiters.Moved(t, again), zael.Ending{Verb: zael.LeaseRollback})
		if got := detachedLease(t, l[1], p.For("alice", 21, 0, 0), o); got.Repeated() {
			t.Errorf("got %+v, want a new lease: the refusal kept no key", got)
		}
		o.IdempotencyKey = "key 1"
		clock.forward(10 * time.Minute)
		if got := detachedLease(t, l[1], p.For("alice", 39, 0, 0), o); got.Repeated() {
			t.Errorf("got %+v, want a new lease after the key's time", got)
		}
		if got := left(t, l[0], "alice", p); got != 0 {
			t.Errorf("got %d left, want 0", got)
		}
	})
}

// TestIdempotencyKeyTogether: of many that acquire at once with one key, one takes.
func TestIdempotencyKeyTogether(t *testing.T) {
	t.Parallel()
	replicas(t, func(t *testing.T, _ *handClock, l [2]*zael.Limiter) {
		t.Helper()
		p := zael.MustPolicy("gpt-4", zael.EachDay("tpd", 100))
		var firsts atomic.Int64
		ids := make([]string, 16)
		var all sync.WaitGroup
		for i := range ids {
			all.Go(func() {
				d := detachedLease(t, l[i%2], p.For("alice", 1), zael.DetachOptions{IdempotencyKey: "k"})
				if ids[i] = d.ID(); !d.Repeated() {
					firsts.Add(1)
				}
			})
		}
		all.Wait()
		for _, id := range ids {
			if id != ids[0] {
				t.Errorf("got the leases %v, want one", ids)
				break
			}
		}
		if got := left(t, l[0], "alice", p); firsts.Load() != 1 || got != 99 {
			t.Errorf("got %d takes and %d left, want 1 and 99", firsts.Load(), got)
		}
	})
}

// TestIdempotencyKeyWaits: a request with a key waits in turns, also for rates.
func TestIdempotencyKeyWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := limiterOn(t, memstore.New(nil), nil)
		defer func() { _ = l.Close(t.Context()) }()
		p := zael.MustPolicy("gpt-4", zael.PerMinute("rpm", 60))
		if err := l.Allow(t.Context(), p.For("alice", 60)); err != nil {
			t.Fatal(err)
		}
		req := p.For("alice", 5)
		req.MaxWait = time.Minute
		begun := time.Now()
		d := detachedLease(t, l, req, zael.DetachOptions{IdempotencyKey: "k"})
		if took := time.Since(begun); took < 5*time.Second || took > 6*time.Second || d.Delay() != took {
			t.Errorf("got a lease after %v with delay %v, want 5 s", took, d.Delay())
		}
		if again := detachedLease(t, l, req, zael.DetachOptions{IdempotencyKey: "k"}); again.ID() != d.ID() || time.Since(begun) > 6*time.Second {
			t.Errorf("got %s after %v, want %s at once", again.ID(), time.Since(begun), d.ID())
		}
		req.MaxWait = time.Second
		if _, err := l.AcquireDetached(t.Context(), req, zael.DetachOptions{IdempotencyKey: "k2"}); !errors.Is(err, zael.ErrExceeded) {
			t.Errorf("got %v, want a refusal", err)
		}
	})
}

// A restless store asks for the answer of a take more than once, as one that has to try again does.
type restless struct{ *memstore.Store }

func (s restless) TakeOnce(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit, once zael.OnceTake) (time.Time, []byte, error) {
	if answer := once.Answer; answer != nil {
		once.Answer = func(at time.Time, debits []zael.Debit) []byte {
			_ = answer(at, debits)
			return answer(at, debits)
		}
	}
	return s.Store.TakeOnce(ctx, now, maxWait, debits, once)
}

// TestAnswersOfTries: what is kept with a key is of the last try, so that a repetition gives back what was
// taken, once.
func TestAnswersOfTries(t *testing.T) {
	t.Parallel()
	l := limiterOn(t, restless{memstore.New(nil)}, nil)
	p, tools := zael.MustPolicy("gpt-4", zael.EachYear("n", 100)), zael.MustPolicy("tools", zael.EachYear("n", 100))
	for _, also := range [][]zael.Part{nil, {tools.PartFor("alice", 10)}} {
		req, o := p.For("alice", 10), zael.DetachOptions{IdempotencyKey: fmt.Sprint("k", len(also))}
		req.Also = also
		_ = detachedLease(t, l, req, o)
		again := detachedLease(t, l, req, o)
		decision := again.Decision()
		if !again.Repeated() || len(again.Keys()) != 1+len(also) || decision.Len() != 1+len(also) {
			t.Errorf("got the parts %v, want %d", again.Keys(), 1+len(also))
		}
		var more *zael.DetachedLease
		for range 2 {
			var err error
			if more, err = l.ConsumeDetached(t.Context(), again, zael.Amounts{"n": 5}, zael.ConsumeOptions{IdempotencyKey: "more"}); err != nil {
				t.Fatal(err)
			}
		}
		if got := left(t, l, "alice", p); got != 85 {
			t.Errorf("got %d left, want 85", got)
		}
		ended(t, l, more, zael.Ending{Verb: zael.LeaseRollback})
		if got := left(t, l, "alice", p); got != 100 {
			t.Errorf("got %d left, want 100", got)
		}
	}
}

// TestConsumeKeys: a consume that is repeated by its key takes once, on any process, and the lease of
// either answer gives back all that was taken.
func TestConsumeKeys(t *testing.T) {
	t.Parallel()
	replicas(t, func(t *testing.T, clock *handClock, l [2]*zael.Limiter) {
		t.Helper()
		ctx := t.Context()
		p := zael.MustPolicy("gpt-4", zael.EachMonth("tpm", 100), zael.AtOnce("parallel", 5))
		d, other := detachedLease(t, l[0], p.For("alice", 10, 1), zael.DetachOptions{}), detachedLease(t, l[0], p.For("alice", 10, 1), zael.DetachOptions{})
		consume := func(i int, d *zael.DetachedLease, key string, n int64) *zael.DetachedLease {
			more, err := l[i].ConsumeDetached(ctx, limiters.Moved(t, d), zael.Amounts{"tpm": n, "parallel": 1}, zael.ConsumeOptions{IdempotencyKey: key})
			if err != nil {
				t.Fatal(err)
			}
			return more
		}
		first := consume(0, d, "k", 30)
		clock.forward(time.Second)
		again := consume(1, d, "k", 30)
		if first.Repeated() || !again.Repeated() || again.ID() != d.ID() {
			t.Errorf("got %+v and %+v, want the first lease, repeated", first, again)
		}
		if got := left(t, l[1], "alice", p); got != 50 {
			t.Errorf("got %d left, want 50: taken once", got)
		}
		if _, err := l[1].ConsumeDetached(ctx, limiters.Moved(t, d), zael.Amounts{"tpm": 31}, zael.ConsumeOptions{IdempotencyKey: "k"}); !errors.Is(err, zael.ErrKeyUsed) {
			t.Errorf("got %v, want ErrKeyUsed of other amounts", err)
		}
		if got := consume(1, other, "k", 1); got.Repeated() {
			t.Errorf("got %+v, want more for another lease", got)
		}
		if _, err := l[1].ConsumeDetached(ctx, limiters.Moved(t, d), zael.Amounts{"tpm": 1}, zael.ConsumeOptions{IdempotencyKey: "\n"}); !isValidation(err, "ConsumeOptions.IdempotencyKey") {
			t.Errorf("got %v, want the key refused", err)
		}
		ended(t, l[0], limiters.Moved(t, again), zael.Ending{Verb: zael.LeaseRollback})
		if got := left(t, l[1], "alice", p); got != 89 {
			t.Errorf("got %d left, want 89: all of the first lease is given back", got)
		}
		if got := consume(0, d, "k", 30); !got.Repeated() {
			t.Errorf("got %+v, want the first answer", got)
		}
		if got := left(t, l[1], "alice", p); got != 89 {
			t.Errorf("got %d left, want 89: a repetition takes nothing", got)
		}
	})
}

func isValidation(err error, field string) bool {
	v, ok := errors.AsType[*zael.ValidationError](err)
	return ok && v.Field == field
}

// TestIdempotencyKeyOfTooLargeALease: what is given back, as the lease has too many bytes to leave
// the process, is not given to a repetition either.
func TestIdempotencyKeyOfTooLargeALease(t *testing.T) {
	t.Parallel()
	replicas(t, func(t *testing.T, _ *handClock, l [2]*zael.Limiter) {
		t.Helper()
		limits := make([]zael.Limit, 90)
		amounts := make([]int64, len(limits))
		for i := range limits {
			limits[i], amounts[i] = zael.PerDay(fmt.Sprintf("l%063d", i), 10), 1
		}
		p := zael.MustPolicy("gpt-4", limits...)
		req := p.For("alice", amounts...)
		for _, entity := range []string{"bob", "carol", "dave"} {
			req.Also = append(req.Also, p.PartFor(entity, amounts...))
		}
		for _, replica := range []*zael.Limiter{l[0], l[0], l[1]} {
			_, err := replica.AcquireDetached(t.Context(), req, zael.DetachOptions{IdempotencyKey: "key 1"})
			if _, ok := errors.AsType[*zael.ValidationError](err); !ok {
				t.Errorf("got %v, want a *ValidationError", err)
			}
		}
		if got := left(t, l[0], "alice", zael.MustPolicy("gpt-4", limits[0])); got != 10 {
			t.Errorf("got %d left, want 10", got)
		}
	})
}
