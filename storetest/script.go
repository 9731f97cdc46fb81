package storetest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// A script is a timeline of steps, each at so long after env.t0 and with what
// is expected of it. After the first step that goes otherwise the rest do
// nothing, and err says what went wrong and where.
type script struct {
	ctx context.Context
	e   *env
	err error
}

func (e *env) script(ctx context.Context) *script { return &script{ctx: ctx, e: e} }

func (s *script) fail(format string, args ...any) {
	if s.err != nil {
		return
	}
	s.err = fmt.Errorf("%s: "+format, append([]any{where()}, args...)...)
}

// where is the line of the check that called a step.
func where() string {
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		f, more := frames.Next()
		if !strings.Contains(f.Function, ".(*script).") || !more {
			return fmt.Sprintf("%s:%d", filepath.Base(f.File), f.Line)
		}
	}
}

// do runs a step that is an error or nil.
func (s *script) do(step func() error) {
	if s.err == nil {
		if err := step(); err != nil {
			s.fail("%w", err)
		}
	}
}

// admit takes, and the debits have to fit.
func (s *script) admit(after time.Duration, debits ...zael.Debit) {
	s.admitWithin(after, 0, debits...)
}

// admitWithin takes with a wait, and the debits have to fit.
func (s *script) admitWithin(after, maxWait time.Duration, debits ...zael.Debit) {
	if s.err != nil {
		return
	}
	if _, err := s.e.take(s.ctx, s.e.t0.Add(after), maxWait, debits...); err != nil {
		s.fail("Take at %v of %s: got %w, want it admitted", after, debitsText(debits), err)
	}
}

// refuse takes, and the debits must not fit.
func (s *script) refuse(after time.Duration, debits ...zael.Debit) {
	s.refuseWithin(after, 0, debits...)
}

// refuseWithin takes with a wait, and the debits must not fit.
func (s *script) refuseWithin(after, maxWait time.Duration, debits ...zael.Debit) {
	if s.err != nil {
		return
	}
	at, err := s.e.take(s.ctx, s.e.t0.Add(after), maxWait, debits...)
	if !errors.Is(err, zael.ErrExceeded) {
		s.fail("Take at %v of %s: got %w, want an error matching ErrExceeded", after, debitsText(debits), orNil(err))
		return
	}
	fits := true
	for _, d := range debits {
		for _, c := range d.Charges {
			if !under(c.State, c.Definition) {
				s.fail("refused Take at %v: got state of %q: %s, want it under %+v", after, c.Name, stateText(c.State, at), c.Definition)
				return
			}
			_, ok := c.State.Take(at, c.Amount, maxWait)
			fits = fits && ok
		}
	}
	if fits {
		s.fail("refused Take at %v of %s: the states say that all of it fits", after, debitsText(debits))
	}
}

// takeEither takes, whether it fits or not.
func (s *script) takeEither(after time.Duration, debits ...zael.Debit) {
	s.do(func() error {
		_, err := s.e.take(s.ctx, s.e.t0.Add(after), 0, debits...)
		if errors.Is(err, zael.ErrExceeded) {
			return nil
		}
		return err
	})
}

// stale takes at t0, and the limits have to be too old.
func (s *script) stale(debits ...zael.Debit) {
	if s.err != nil {
		return
	}
	_, err := s.e.take(s.ctx, s.e.t0, 0, debits...)
	if !errors.Is(err, zael.ErrStaleLimits) || errors.Is(err, zael.ErrExceeded) {
		s.fail("Take of %s: got %w, want an error matching ErrStaleLimits alone", debitsText(debits), orNil(err))
	}
}

// adjust charges and gives back, which works.
func (s *script) adjust(after time.Duration, debits ...zael.Debit) {
	if s.err != nil {
		return
	}
	if _, err := s.e.adjust(s.ctx, s.e.t0.Add(after), debits...); err != nil {
		s.fail("Adjust at %v of %s: got %w", after, debitsText(debits), err)
	}
}

// state reads a limit of a bucket.
func (s *script) state(after time.Duration, k zael.Key, name string) (bucket.State, bucket.Instant) {
	if s.err != nil {
		return bucket.State{}, 0
	}
	at, got, err := s.e.read(s.ctx, s.e.t0.Add(after), k)
	if err != nil {
		s.fail("%w", err)
		return bucket.State{}, 0
	}
	return limitOf(got[0], name), at
}

// left expects so many tokens under a definition; all of them if the limit is
// not there.
func (s *script) left(after time.Duration, k zael.Key, name string, d bucket.Definition, want int64) {
	st, at := s.state(after, k, name)
	if s.err != nil {
		return
	}
	if st.Absent() {
		st = st.Redefine(d, at, 1)
	}
	if got := st.Available(at); got != want || !under(st, d) {
		s.fail("%q of %s at %v: got %d left, %s; want %d left under %+v", name, keyText(k), after, got, stateText(st, at), want, d)
	}
}

// leftOf expects so many tokens of a limit of each of some buckets, which it reads at t0 in one call.
func (s *script) leftOf(keys []zael.Key, name string, d bucket.Definition, want func(i int) int64) {
	s.do(func() error {
		at, got, err := s.e.read(s.ctx, s.e.t0, keys...)
		if err != nil {
			return err
		}
		for i, b := range got {
			st := limitOf(b, name)
			if st.Absent() {
				st = st.Redefine(d, at, 1)
			}
			if left := st.Available(at); left != want(i) || !under(st, d) {
				return fmt.Errorf("%q of %s: got %d left, %s; want %d left under %+v",
					name, keyText(keys[i]), left, stateText(st, at), want(i), d)
			}
		}
		return nil
	})
}

// stands checks that the last charge of a limit left what its receipt says.
func (s *script) stands(after time.Duration, k zael.Key, c zael.Charge) {
	got, _ := s.state(after, k, c.Name)
	if s.err == nil && got.Receipt() != c.Receipt {
		s.fail("receipt of %q: got %+v, want that of the state it left, %+v", c.Name, c.Receipt, got.Receipt())
	}
}

// holds expects a limit to be in a state, to the unit.
func (s *script) holds(after time.Duration, k zael.Key, name string, want bucket.State) {
	got, at := s.state(after, k, name)
	if s.err == nil && !sameState(got, want, at) {
		s.fail("%q of %s at %v: got %s, want %s", name, keyText(k), after, stateText(got, at), stateText(want, at))
	}
}

// orNil makes a missing error printable.
func orNil(err error) error {
	if err == nil {
		return noError{}
	}
	return err
}

type noError struct{}

func (noError) Error() string { return "no error" }
