package dynamostore_test

import (
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
)

// TestCallsOfDetachedLeases: what docs/dynamodb.md says of their calls.
func TestCallsOfDetachedLeases(t *testing.T) {
	t.Parallel()
	c, wire := newClient(t)
	s, err := dynamostore.New(c, newTable(t, c), nil)
	opened(t, s, err)
	l, err := zael.New(s, &zael.Config{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	p := zael.MustPolicy("gpt-4", zael.PerDay("tpd", 100_000), zael.AtOnce("parallel", 100))
	var d *zael.DetachedLease
	calls := func(what string, want int64, f func() error) {
		t.Helper()
		before := wire.requests.Load()
		if err := f(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if got := wire.requests.Load() - before; got != want {
			t.Errorf("%s: got %d calls, want %d", what, got, want)
		}
	}
	acquire := func(o zael.DetachOptions) func() error {
		return func() (err error) {
			d, err = l.AcquireDetached(t.Context(), p.For("alice", 10, 1), o)
			return err
		}
	}
	end := func(e zael.Ending) func() error {
		return func() error { return second(l.EndDetached(t.Context(), d, e)) }
	}
	commit := zael.Ending{Verb: zael.LeaseCommit}
	if err := acquire(zael.DetachOptions{})(); err != nil { // settings, the clock and the first sight of the bucket
		t.Fatal(err)
	}
	calls("an acquire", 1, acquire(zael.DetachOptions{}))
	calls("a renewal", 2, func() error { return second(l.RenewDetached(t.Context(), d)) })
	calls("a consume", 2, func() (err error) {
		d, err = l.ConsumeDetached(t.Context(), d, zael.Amounts{"tpd": 5})
		return err
	})
	calls("a settle", 1, end(zael.Ending{Verb: zael.LeaseSettle, Amounts: zael.Amounts{"tpd": 3}}))
	calls("a repeated end", 2+1, end(commit)) // the bucket is read, as a transaction does not show it
	calls("an acquire with a key", 2, acquire(zael.DetachOptions{IdempotencyKey: "k"}))
	calls("a repeated acquire", 1, acquire(zael.DetachOptions{IdempotencyKey: "k"}))
	plain := zael.MustPolicy("gpt-4", zael.PerDay("tpd", 100_000))
	p = plain
	acquire = func(o zael.DetachOptions) func() error {
		return func() (err error) {
			d, err = l.AcquireDetached(t.Context(), plain.For("bob", 10), o)
			return err
		}
	}
	if err := acquire(zael.DetachOptions{})(); err != nil {
		t.Fatal(err)
	}
	calls("a commit of what was taken", 1, end(commit))
	calls("a repeated commit", 2, end(commit))
}

func second[T any](_ T, err error) error { return err }
