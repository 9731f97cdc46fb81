// Package limiters has limiters and stores for tests of the edges, and what tests do with leases.
package limiters

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

// A Still is a limiter in memory whose clock stands until it is moved.
type Still struct {
	*zael.Limiter
	ns atomic.Int64 // after begin
}

// begin is when the clock of a Still begins: a full hour.
func begin() time.Time { return time.Date(2026, time.January, 13, 14, 0, 0, 0, time.UTC) }

// New returns a Still.
func New(tb testing.TB) *Still {
	tb.Helper()
	s := new(Still)
	var err error
	s.Limiter, err = zael.New(memstore.New(nil), &zael.Config{Clock: func() time.Time { return begin().Add(time.Duration(s.ns.Load())) }})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// Forward moves the clock.
func (s *Still) Forward(d time.Duration) { s.ns.Add(int64(d)) }

// A failing store answers every take with an error.
type failing struct {
	*memstore.Store
	err error
}

// Take implements zael.BucketStore.
func (f failing) Take(_ context.Context, now time.Time, _ time.Duration, _ []zael.Debit) (time.Time, error) {
	return now, f.err
}

// TakeLocal implements zael.LocalStore.
func (f failing) TakeLocal(now time.Time, _ time.Duration, _ []zael.Debit) (time.Time, bool, error) {
	return now, false, nil
}

// Dead returns a store that is unavailable, as "the cable is cut".
func Dead() zael.Store {
	return failing{memstore.New(nil), fmt.Errorf("the cable is cut: %w", zael.ErrUnavailable)}
}

// Denied returns a store that denies access.
func Denied() zael.Store { return failing{memstore.New(nil), errors.New("access denied")} }

// Moved returns a lease as another process reads it.
func Moved(tb testing.TB, d *zael.DetachedLease) *zael.DetachedLease {
	tb.Helper()
	b, err := d.MarshalBinary()
	if err != nil {
		tb.Fatal(err)
	}
	there := new(zael.DetachedLease)
	if err := there.UnmarshalBinary(b); err != nil {
		tb.Fatal(err)
	}
	return there
}
