package enginecall_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/enginecall"
)

func TestTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const most = 400 * time.Millisecond
		if got := enginecall.Time(t.Context(), most); got != most {
			t.Errorf("without a deadline: got %v, want %v", got, most)
		}
		for left, want := range map[time.Duration]time.Duration{
			time.Minute: most, 800 * time.Millisecond: most, 600 * time.Millisecond: 300 * time.Millisecond,
			80 * time.Millisecond: 50 * time.Millisecond, 40 * time.Millisecond: most, -time.Second: most,
		} {
			ctx, cancel := context.WithTimeout(t.Context(), left)
			if got := enginecall.Time(ctx, most); got != want {
				t.Errorf("with %v left: got %v, want %v", left, got, want)
			}
			cancel()
		}
	})
}

func TestRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fates := map[error]enginecall.Fate{
			errors.New("rejected"): enginecall.Rejected, errors.New("not applied"): enginecall.NotApplied, errors.New("unknown"): enginecall.Unknown,
		}
		r := enginecall.Retries{FateOf: func(err error) enginecall.Fate { return fates[err] }, Most: 3, Base: time.Millisecond, Longest: time.Second}
		for wrong, fate := range fates {
			want := 4
			if fate == enginecall.Rejected {
				want = 1
			}
			for succeeds := range 6 { // the first call that does
				calls := 0
				err := r.Read(t.Context(), func() error {
					if calls++; calls > succeeds {
						return nil
					}
					return wrong
				})
				if made := min(want, succeeds+1); calls != made || (err == nil) != (succeeds < want) {
					t.Errorf("%v until call %d: got %v after %d calls, want %d calls", wrong, succeeds, err, calls, made)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			calls := 0
			err := r.Read(ctx, func() error {
				calls++
				cancel()
				return wrong
			})
			if calls != 1 || !errors.Is(err, wrong) {
				t.Errorf("%v, and nobody waits: got %v after %d calls, want one", wrong, err, calls)
			}
		}
	})
}

func TestError(t *testing.T) {
	t.Parallel()
	cause := errors.New("dial tcp: refused")
	err := error(&enginecall.Error{Doing: "store: reading", Kind: zael.ErrUnavailable, Cause: cause, Text: "refused"})
	if err.Error() != "store: reading: refused" || !errors.Is(err, cause) || !errors.Is(err, zael.ErrUnavailable) {
		t.Errorf("got %v, want one that matches both", err)
	}
	if err := error(&enginecall.Error{Cause: cause}); !errors.Is(err, cause) || errors.Is(err, zael.ErrUnavailable) {
		t.Errorf("without a kind: got %v, want one that matches its cause alone", err)
	}
}
