package sdk_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/fakellm"
	"github.com/zeroae/zael/llm"
)

func stay() bool { return true }

// words is an answer of n chunks, of ten tokens at four bytes each.
func words(n int) []string {
	chunks := make([]string, n)
	for i := range chunks {
		chunks[i] = "forty bytes of an answer, with its space "[:40]
	}
	return chunks
}

// TestAnswersPass: each SDK reads the whole answer, plain and streamed, and what is
// settled is what the provider reported.
func TestAnswersPass(t *testing.T) {
	t.Parallel()
	answer := fakellm.Answer{Chunks: words(20), Input: 345, Cached: 45, Output: 210}
	provider := fakellm.Provider(func(*fakellm.Request) fakellm.Answer { return answer })
	policy := zael.MustPolicy("m", zael.PerMinute("rpm", 1000), zael.PerMinute("tpm", 100_000))
	var last llm.Usage
	_, l := limits(t, policy, &llm.Config{Settled: func(_ *llm.Call, u llm.Usage) { last = u }})
	for _, s := range sdks(t, l.Middleware, provider) {
		for _, stream := range []bool{false, true} {
			last = llm.Usage{}
			text, err := s.call(t.Context(), stream, stay)
			if err != nil || text != strings.Join(answer.Chunks, "") {
				t.Errorf("%s, stream %v: text %q, error %v", s.name, stream, text, err)
			}
			if want := (llm.Usage{Input: 345, CachedInput: 45, Output: 210, Reported: true}); last != want {
				t.Errorf("%s, stream %v: settled %+v, want %+v", s.name, stream, last, want)
			}
		}
	}
}

// TestRefusalsAreTheSDKsOwnErrors: they are retried at the right time, and not at all
// where waiting is hopeless.
func TestRefusalsAreTheSDKsOwnErrors(t *testing.T) {
	t.Parallel()
	for i := range 4 {
		for _, stream := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				var arrivals []time.Duration
				begin := time.Now()
				provider := fakellm.Provider(func(*fakellm.Request) fakellm.Answer {
					arrivals = append(arrivals, time.Since(begin))
					return fakellm.Answer{Chunks: words(1), Input: 10, Output: 10}
				})
				_, l := limits(t, zael.MustPolicy("m", zael.PerMinute("rpm", 2).WithBurst(1)), nil)
				s := sdks(t, l.Middleware, provider)[i]
				if _, err := s.call(t.Context(), stream, stay); err != nil {
					t.Fatal(err)
				}
				_, err := s.call(t.Context(), stream, stay)
				if s.retries && (err != nil || len(arrivals) != 2 || arrivals[1] != 30*time.Second) {
					t.Errorf("%s: error %v, calls arrived at %v, want the second after 30 s", s.name, err, arrivals)
				}
				if _, ok := s.limited(err); !s.retries && !ok {
					t.Errorf("%s: error %v, want its rate limit error", s.name, err)
				}

				// The caller has no time to wait.
				sent := len(arrivals)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				now := time.Now()
				_, err = s.call(ctx, stream, stay)
				exceeded, ok := s.limited(err)
				if !ok || time.Since(now) > 0 || len(arrivals) != sent {
					t.Errorf("%s: error %v after %s, want its rate limit error at once", s.name, err, time.Since(now))
				}
				if s.retries && (exceeded == nil || exceeded.Primary().Limit.Name != "rpm") {
					t.Errorf("%s: Refusal = %v", s.name, exceeded)
				}
			})
		}
	}
}

// TestBlockedCallsAreNotRetried: no wait helps.
func TestBlockedCallsAreNotRetried(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, l := limits(t, zael.MustPolicy("m", zael.Block("rpm")), nil)
		begin := time.Now()
		for _, s := range sdks(t, l.Middleware, fakellm.Provider(func(*fakellm.Request) fakellm.Answer {
			t.Error("a call was sent")
			return fakellm.Answer{}
		})) {
			if _, err := s.call(t.Context(), false, stay); !isLimited(s, err) || time.Since(begin) > 0 {
				t.Errorf("%s: error %v after %s, want its rate limit error at once", s.name, err, time.Since(begin))
			}
		}
	})
}

func isLimited(s sdk, err error) bool {
	_, ok := s.limited(err)
	return ok
}

// TestProvidersRefusalsBind: after one, a call that is made meanwhile is not sent before
// the provider's Retry-After is over, when the SDK sends the refused one again.
func TestProvidersRefusalsBind(t *testing.T) {
	t.Parallel()
	for i := range 4 {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var arrivals []time.Duration
			begin := time.Now()
			provider := fakellm.Provider(func(*fakellm.Request) fakellm.Answer {
				mu.Lock()
				defer mu.Unlock()
				if arrivals = append(arrivals, time.Since(begin)); len(arrivals) == 1 {
					return fakellm.Answer{Status: 429, Header: http.Header{"Retry-After": {"7"}}}
				}
				return fakellm.Answer{Chunks: words(1), Input: 12, Output: 10}
			})
			policy := zael.MustPolicy("m", zael.FromFirstUse("tokens", 100_000, time.Hour))
			limiter, l := limits(t, policy, &llm.Config{FollowProvider: true, MaxWait: time.Minute})
			s := sdks(t, l.Middleware, provider)[i]
			first := make(chan error)
			go func() {
				_, err := s.call(t.Context(), false, stay)
				first <- err
			}()
			<-time.After(time.Second)
			_, err := s.call(t.Context(), true, stay)
			if firstErr := <-first; err != nil || (firstErr == nil) != s.retries {
				t.Errorf("%s: errors %v and %v", s.name, firstErr, err)
			}
			want := []time.Duration{0, 7 * time.Second, 7 * time.Second}
			if !s.retries {
				want = want[:2]
			}
			if !slices.Equal(arrivals, want) {
				t.Errorf("%s: calls arrived after %v, want %v", s.name, arrivals, want)
			}
			left, err := limiter.Available(t.Context(), zael.Query{Entity: "team", Policy: policy})
			if used := int64(22 * (len(want) - 1)); err != nil || left["tokens"] != 100_000-used {
				t.Errorf("%s: %v are left, error %v, want %d used", s.name, left, err, used)
			}
		})
	}
}
