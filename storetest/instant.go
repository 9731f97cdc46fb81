package storetest

import (
	"context"
	"fmt"
	"time"

	"github.com/zeroae/zael"
)

func instantChecks() []check {
	return []check{
		{name: "the latest instant is one that the store was given", run: latestWasGiven},
		{name: "the latest instant is not before the last change of a bucket", run: latestOfBucket},
	}
}

// instantLag is how far LatestInstant may lag behind.
const instantLag = time.Second

// latestWasGiven tells the store instants that rise and fall.
func latestWasGiven(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := trickle(10)
	store := role[zael.InstantStore](e)
	if got := store.LatestInstant(); !got.IsZero() {
		return fmt.Errorf("LatestInstant of a new store: got %s, want the zero Time", clock(got))
	}
	latest := func(after time.Duration) {
		s.do(func() error {
			got, want := store.LatestInstant(), e.t0.Add(after)
			if got.After(want) || got.Before(want.Add(-instantLag)) {
				return fmt.Errorf("LatestInstant: got %s, want %s, or up to %v earlier", clock(got), clock(want), instantLag)
			}
			return nil
		})
	}
	k := key("alice")
	s.admit(0, debit(k, ask("rpm", d, 10)))
	latest(0)
	s.refuse(10*time.Millisecond, debit(k, ask("rpm", d, 1)))
	s.admit(time.Hour, debit(k, ask("rpm", d, 1)))
	latest(time.Hour)
	s.admit(0, debit(key("bob"), ask("rpm", d, 1)))
	latest(time.Hour)
	s.adjust(2*time.Hour, debit(k, ask("rpm", d, 1)))
	latest(2 * time.Hour)
	s.left(4*time.Hour, k, "rpm", d, 10) // a read is no change
	latest(2 * time.Hour)
	s.refuse(3*time.Hour, debit(k, ask("rpm", d, 11)))
	latest(3 * time.Hour)
	return s.err
}

// latestOfBucket changes buckets within the time by which LatestInstant may lag
// behind, and has a caller with an older clock take from them or read them.
func latestOfBucket(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := trickle(10)
	store := role[zael.InstantStore](e)
	at := time.Duration(0)
	for i, older := range []func(k zael.Key){
		func(k zael.Key) { s.refuse(-time.Hour, debit(k, ask("rpm", d, 9))) },
		func(k zael.Key) { s.admit(at-10*time.Microsecond, debit(k, ask("rpm", d, 1))) },
		func(k zael.Key) { s.admitWithin(-time.Hour, 2*time.Hour, debit(k, ask("rpm", d, 5))) },
		func(k zael.Key) {
			s.refuse(-time.Hour, debit(key("other"), ask("rpm", d, 1)), debit(k, ask("rpm", d, 9)))
		},
		func(k zael.Key) {
			s.do(func() error {
				_, _, err := e.read(ctx, e.t0.Add(-time.Hour), k)
				return err
			})
		},
	} {
		for _, change := range []func(k zael.Key){
			func(k zael.Key) { s.admit(at, debit(k, ask("rpm", d, 2))) },
			func(k zael.Key) { s.adjust(at, debit(k, ask("rpm", d, 2))) },
		} {
			at += 20 * time.Microsecond
			k := key(fmt.Sprintf("entity-%d-%d", i, at))
			change(k)
			older(k)
			s.do(func() error {
				if got, want := store.LatestInstant(), e.t0.Add(at); !got.Equal(want) {
					return fmt.Errorf("LatestInstant: got %s, want %s, when the bucket was changed last", clock(got), clock(want))
				}
				return nil
			})
		}
	}
	return s.err
}
