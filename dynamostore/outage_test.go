package dynamostore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
)

// A herd is many callers at once, in a bubble where time is exact.
type herd struct {
	net     *dynamofake.Network
	store   *dynamostore.Store
	limiter *zael.Limiter
	request func(i int) zael.Request
	mode    zael.FailureMode // of each call; 0: the limiter's
}

// herdSize is more than one batch reads.
const herdSize = 120

// outcome is what they were told, and how long the last of them waited.
type outcome struct {
	admitted, degraded, refused, unavailable, other int64
	last                                            time.Duration
	err                                             error // one of the others
}

func (h *herd) run(ctx context.Context, callers int) outcome {
	var o outcome
	var mu sync.Mutex
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range callers {
		wg.Go(func() {
			req := h.request(i)
			req.FailureMode = h.mode
			lease, err := h.limiter.Acquire(ctx, req)
			mu.Lock()
			defer mu.Unlock()
			o.last = max(o.last, time.Since(begin))
			switch {
			case err == nil && lease.Degraded():
				o.degraded++
			case err == nil:
				o.admitted++
			case errors.Is(err, zael.ErrExceeded):
				o.refused++
			case errors.Is(err, zael.ErrUnavailable):
				o.unavailable++
			default:
				o.other++
				o.err = err
			}
		})
	}
	wg.Wait()
	return o
}

// I8: the store refuses connections, says nothing, or fails: callers in a crowd
// are told within the timeout, the first ones of a process too; then the breaker
// is open, and they are told at once, without a call; and within a second of its
// repair the store is asked again.
func TestOutage(t *testing.T) {
	t.Parallel()
	d := []zael.Limit{zael.PerSecond("rpm", 1_000_000)}
	plain := func(keys int) func(i int) zael.Request {
		return func(i int) zael.Request {
			return zael.Request{Entity: fmt.Sprintf("e%d", i%keys), Resource: "gpt-4", Limits: d, Consume: zael.Amounts{"rpm": 1}}
		}
	}
	for load, request := range map[string]func(i int) zael.Request{
		"one key": plain(1), "a key each": plain(herdSize),
		"stored limits and a parent": func(i int) zael.Request {
			req := plain(10)(i)
			req.UseStoredLimits, req.Cascade = true, true
			return req
		},
	} {
		for name, fault := range map[string]error{
			"refused": errDial, "silent": dynamofake.SilentError{}, "reset": errReset, "failing": errInternal, "throttled": errThrottle,
		} {
			for _, warm := range []bool{false, true} {
				for _, mode := range []zael.FailureMode{zael.FailClosed, zael.FailOpen} {
					if mode == zael.FailOpen && name != "silent" && name != "refused" {
						continue // they are told apart no further than here
					}
					t.Run(fmt.Sprintf("%s/%s/warm=%v/mode=%d", load, name, warm, mode), func(t *testing.T) {
						t.Parallel()
						synctest.Test(t, func(t *testing.T) { outage(t, fault, request, warm, mode) })
					})
				}
			}
		}
	}
}

func outage(t *testing.T, fault error, request func(int) zael.Request, warm bool, mode zael.FailureMode) {
	t.Helper()
	const timeout = time.Second
	callers := herdSize
	if testing.Short() {
		callers /= 10
	}
	n := &dynamofake.Network{Table: dynamofake.New(), Latency: 2 * time.Millisecond}
	s := storeOn(t, n, 1)
	config := &zael.Config{Timeout: timeout, FailureMode: mode}
	h := &herd{net: n, store: s, request: request}
	if ofCall := warm; ofCall {
		config.FailureMode = zael.FailOpen + zael.FailClosed - mode // and each call says otherwise
		h.mode = mode
	}
	l, err := zael.New(s, config)
	if err != nil {
		t.Fatal(err)
	}
	h.limiter = l
	if warm {
		if o := h.run(t.Context(), callers); o.admitted != int64(callers) {
			t.Fatalf("before: got %+v, want all admitted", o)
		}
	}
	told := func(what string, o outcome, within time.Duration) {
		t.Helper()
		if mode == zael.FailOpen {
			o.unavailable, o.degraded = o.degraded, o.unavailable
		}
		if o.unavailable != int64(callers) || o.last > within {
			t.Errorf("%s: got %+v after %v (unavailable and degraded count as one), want all unavailable within %v", what, o, o.last, within)
		}
	}
	n.Break(fault)
	told("first", h.run(t.Context(), callers), timeout)
	synctest.Wait()
	if l.Stats().Breaks == 0 {
		t.Fatal("the breaker: got it closed, want it open")
	}
	// The breaker lets one caller try every 250 ms; then it is open for all again.
	<-time.After(300 * time.Millisecond)
	req := request(0)
	req.FailureMode = zael.FailClosed
	if err := l.Allow(t.Context(), req); !errors.Is(err, zael.ErrUnavailable) {
		t.Errorf("the one that tries: got %v, want ErrUnavailable", err)
	}
	counted := n.Calls
	if warm {
		counted = n.Writes // what nobody waits for, the undoing of takes whose fate is unknown, reads
	}
	calls := counted()
	told("open", h.run(t.Context(), callers), 0)
	if got := counted(); got != calls {
		t.Errorf("calls while the breaker is open: got %d, want none", got-calls)
	}
	for range 3 { // it tries again and again, one caller at a time
		<-time.After(300 * time.Millisecond)
		told("later", h.run(t.Context(), callers), timeout)
	}
	n.Break(nil)
	begin := time.Now()
	for {
		req := request(0)
		req.FailureMode = h.mode
		lease, err := l.Acquire(t.Context(), req)
		if err == nil && !lease.Degraded() {
			break
		}
		if time.Since(begin) > time.Second {
			t.Fatalf("a second after the repair: got %v, want it admitted", err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// Denied access and a missing table are errors as they are, in both modes, and
// do not open the breaker.
func TestPlainErrors(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]error{"denied": errDenied, "missing": errMissing} {
		for _, mode := range []zael.FailureMode{zael.FailClosed, zael.FailOpen} {
			t.Run(fmt.Sprintf("%s/mode=%d", name, mode), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					n := &dynamofake.Network{Table: dynamofake.New(), Latency: 2 * time.Millisecond}
					s := storeOn(t, n, 1)
					l, err := zael.New(s, &zael.Config{FailureMode: mode})
					if err != nil {
						t.Fatal(err)
					}
					n.Break(fault)
					h := &herd{n, s, l, func(int) zael.Request {
						return zael.Request{Entity: "e", Resource: "r", Limits: []zael.Limit{zael.PerSecond("rpm", 10)}, Consume: zael.Amounts{"rpm": 1}}
					}, 0}
					for range 2 {
						if o := h.run(t.Context(), herdSize); o.other != herdSize || !errors.Is(o.err, fault) {
							t.Errorf("got %+v, want all to be told %v", o, fault)
						}
					}
					if got := l.Stats().Breaks; got != 0 {
						t.Errorf("breaker opened: got %d times, want never", got)
					}
				})
			})
		}
	}
}

// A bucket that is known to be exhausted refuses while its table is down, and
// the breaker stays as it is.
func TestRefusalsOutliveTheTable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &dynamofake.Network{Table: dynamofake.New(), Latency: 2 * time.Millisecond}
		s := storeOn(t, n, 1)
		l, err := zael.New(s, nil)
		if err != nil {
			t.Fatal(err)
		}
		req := zael.Request{Entity: "e", Resource: "r", Limits: []zael.Limit{zael.PerHour("rpm", 1)}, Consume: zael.Amounts{"rpm": 1}}
		for _, want := range []error{nil, zael.ErrExceeded} {
			if err := l.Allow(t.Context(), req); !errors.Is(err, want) {
				t.Fatalf("Allow: got %v, want %v", err, want)
			}
		}
		n.Break(dynamofake.SilentError{})
		h := &herd{n, s, l, func(int) zael.Request { return req }, zael.FailOpen}
		if o := h.run(t.Context(), herdSize); o.refused != herdSize || o.last > 0 {
			t.Errorf("got %+v, want all refused at once", o)
		}
	})
}
