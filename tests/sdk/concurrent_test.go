package sdk_test

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/fakellm"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/llm"
)

// The limit of TestFiftyConcurrentStreams: a token a millisecond.
const (
	burstOfStreams  = 4000
	minuteOfStreams = 60_000
	inputOfStreams  = 12 // tokens of each prompt
)

// A books is what calls have taken, kept beside the limiter by their numbers: what they
// reserve before they are sent, and what they settle to.
type books struct {
	t     *testing.T
	begin time.Time

	mu                    sync.Mutex
	calls                 map[string]*booked
	ended                 int64 // tokens of those that have ended
	excess                int64 // of ended: beyond what was reserved, of calls that ended at this instant
	excessAt              time.Time
	reported, cutCalls    int
	cutSettled, cutActual int64
}

// A booked is a call. Its tokens are at least those that the bucket is charged with for it.
type booked struct {
	reserved int64
	sent     bool
	seen     int64 // tokens that the provider has used
	output   int64 // that the provider reports at the end
}

const callHeader = "X-Call"

// amounts is a Config.Amounts that changes nothing: it is called with the estimate, before
// the call is sent.
func (b *books) amounts(call *llm.Call, u llm.Usage) zael.Amounts {
	b.mu.Lock()
	defer b.mu.Unlock()
	id := call.Request.Header.Get(callHeader)
	if c := b.calls[id]; c == nil {
		b.calls[id] = &booked{reserved: min(u.Input+u.Output, burstOfStreams)}
	} else { // it settles, and may give back before settled is called
		c.reserved = min(c.reserved, u.Input+u.Output)
	}
	return nil
}

// settled is a Config.Settled.
func (b *books) settled(call *llm.Call, u llm.Usage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	id, n := call.Request.Header.Get(callHeader), u.Input+u.Output
	c := b.calls[id]
	b.ended += n
	if now := time.Now(); !b.excessAt.Equal(now) {
		b.excess, b.excessAt = 0, now
	}
	b.excess += max(0, n-c.reserved)
	delete(b.calls, id)
	switch {
	case u.Reported:
		b.reported++
		if n != inputOfStreams+c.output {
			b.t.Errorf("a call settles to %d tokens, and the provider has reported %d", n, inputOfStreams+c.output)
		}
	case n > 0: // not one that failed
		b.cutCalls++
		b.cutSettled += n
		b.cutActual += c.seen
	}
}

// arrives checks what is taken when a call arrives at the provider, just after it was
// admitted. Between such instants it only falls, but for what calls use beyond what they
// have reserved.
func (b *books) arrives(id string, output int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.calls[id]
	c.sent, c.output = true, output
	taken := b.ended
	for _, c := range b.calls {
		if c.sent {
			taken += c.reserved
		}
	}
	if time.Now().Equal(b.excessAt) {
		taken -= b.excess
	}
	refill := time.Since(b.begin).Milliseconds() * minuteOfStreams / 60_000
	if taken-refill > burstOfStreams+1 {
		b.t.Errorf("after %s, %d tokens are taken that have not been refilled, of %d", time.Since(b.begin), taken-refill, burstOfStreams)
	}
}

// uses books what the provider has used for a call that has not ended.
func (b *books) uses(id string, tokens int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.calls[id]; c != nil {
		c.seen += tokens
	}
}

// TestFiftyConcurrentStreams: on a limit of tokens, with callers that leave and calls that
// fail and are retried, what is taken at any instant is never more than the burst, the
// refill, and what calls in flight have used beyond their estimates. What is reported
// settles to the token; calls that are cut, within a quarter of what the provider has used.
func TestFiftyConcurrentStreams(t *testing.T) {
	t.Parallel()
	rounds := max(2, schedules.Count(t, 8))
	someLeft, someFail := int64(5*rounds), int64(5*rounds/2)
	if testing.Short() { // so few vary much
		someLeft, someFail = 1, 1
	}
	synctest.Test(t, func(t *testing.T) {
		policy := zael.MustPolicy("m", zael.PerMinute("tpm", minuteOfStreams).WithBurst(burstOfStreams), zael.AtOnce("inflight", 50))
		var mu sync.Mutex
		random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // of a test
		below := func(n int) int {
			mu.Lock()
			defer mu.Unlock()
			return random.IntN(n)
		}
		b := &books{t: t, begin: time.Now(), calls: map[string]*booked{}}
		var failures atomic.Int64
		provider := fakellm.Provider(func(r *fakellm.Request) fakellm.Answer {
			id := r.Header.Get(callHeader)
			if below(100) < 10 {
				b.arrives(id, 0)
				failures.Add(1)
				return fakellm.Answer{Status: 503}
			}
			n := 5 + below(30)
			b.arrives(id, int64(10*n))
			b.uses(id, inputOfStreams)
			return fakellm.Answer{Chunks: words(n), Input: inputOfStreams, Output: int64(10 * n), Before: func(chunk int) bool {
				<-time.After(50 * time.Millisecond)
				if chunk < n {
					b.uses(id, 10)
				}
				return true
			}}
		})
		limiter, l := limits(t, policy, &llm.Config{MaxWait: time.Hour, Amounts: b.amounts, Settled: b.settled})
		var calls atomic.Int64
		all := sdks(t, func(r *http.Request, next func(*http.Request) (*http.Response, error)) (*http.Response, error) {
			r = r.Clone(r.Context())
			r.Header.Set(callHeader, strconv.FormatInt(calls.Add(1), 10))
			return l.Middleware(r, next)
		}, provider)
		var group sync.WaitGroup
		var failed, left atomic.Int64
		for i := range 50 {
			s := all[i%len(all)]
			group.Go(func() {
				for range rounds {
					leaves, chunks := below(100) < 20, 0
					_, err := s.call(t.Context(), true, func() bool { chunks++; return !leaves || chunks < 4 })
					switch {
					case errors.Is(err, errLeft):
						left.Add(1)
					case err != nil:
						failed.Add(1)
					}
				}
			})
		}
		group.Wait()
		synctest.Wait()
		t.Logf("%d calls, %d failed at the provider; %d reported, %d cut, %d failed for good; %d tokens settled in %s",
			calls.Load(), failures.Load(), b.reported, b.cutCalls, failed.Load(), b.ended, time.Since(b.begin))
		if b.reported < 25*rounds || left.Load() < someLeft || failures.Load() < someFail || int(left.Load()) != b.cutCalls || len(b.calls) != 0 {
			t.Errorf("%d reported, %d left, %d failed, %d cut, %d without end", b.reported, left.Load(), failures.Load(), b.cutCalls, len(b.calls))
		}
		if b.cutSettled < b.cutActual*3/4 || b.cutSettled > b.cutActual*5/4 {
			t.Errorf("%d tokens are settled of cut calls, for which the provider has used %d", b.cutSettled, b.cutActual)
		}
		<-time.After(time.Hour)
		state, err := limiter.Available(t.Context(), zael.Query{Entity: "team", Policy: policy})
		if err != nil || state["tpm"] != burstOfStreams || state["inflight"] != 50 {
			t.Errorf("an hour later %v are left, error %v", state, err)
		}
	})
}
