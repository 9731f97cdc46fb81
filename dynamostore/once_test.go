package dynamostore_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/trial"
)

// TestCallsOfDetachedLeases: what docs/dynamodb.md says of their calls.
func TestCallsOfDetachedLeases(t *testing.T) {
	t.Parallel()
	c, wire := newClient(t)
	s, err := dynamostore.New(c, newTable(t, c), patient())
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
		d, err = l.ConsumeDetached(t.Context(), d, zael.Amounts{"tpd": 5}, zael.ConsumeOptions{})
		return err
	})
	first := d
	consume := func() (err error) {
		d, err = l.ConsumeDetached(t.Context(), first, zael.Amounts{"tpd": 5}, zael.ConsumeOptions{IdempotencyKey: "c"})
		return err
	}
	calls("a consume with a key", 2, consume)
	calls("a repeated consume", 1, consume)
	settle := end(zael.Ending{Verb: zael.LeaseSettle, Amounts: zael.Amounts{"tpd": 3}})
	calls("a settle after a transaction", 2, settle) // which did not show the bucket
	calls("a repeated end", 2+1, end(commit))        // nor did this one
	if err := acquire(zael.DetachOptions{})(); err != nil {
		t.Fatal(err)
	}
	calls("a settle", 1, settle)
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

// TestReceiptsOfKeys: receipts that are kept with keys are those of the writes, though others have
// written meanwhile: no two own a token together.
func TestReceiptsOfKeys(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	const stores, takes = 4, 50
	marks := make([][]int64, stores)
	var all sync.WaitGroup
	for i := range stores {
		s, err := dynamostore.NewTrial(table, "fake", patient(), trial.Options{VirtualTime: true})
		opened(t, s, err)
		all.Go(func() {
			for n := range takes {
				charge := zael.Charge{Name: "rpm", Definition: bucket.Definition{Burst: 1000, Amount: 1, Period: bucket.MaxPeriod, Capacity: 1000}, Amount: 1}
				debits := []zael.Debit{{Key: zael.Key{Entity: "alice", Resource: "gpt-4"}, Charges: []zael.Charge{charge}}}
				now := time.Date(2026, time.January, 13, 14, 0, 0, 0, time.UTC)
				once := zael.OnceTake{
					Once: zael.Once{Key: fmt.Sprint(i, " ", n), Until: now.Add(time.Hour)}, Answer: func(time.Time, []zael.Debit) []byte { return []byte("taken") },
				}
				_, _, err := s.TakeOnce(t.Context(), now, 0, debits, once)
				for errors.Is(err, zael.ErrContention) {
					_, _, err = s.TakeOnce(t.Context(), now, 0, debits, once)
				}
				if err != nil {
					t.Error(err)
					return
				}
				marks[i] = append(marks[i], debits[0].Charges[0].Receipt.Mark)
			}
		})
	}
	all.Wait()
	sorted := slices.Concat(marks...)
	slices.Sort(sorted)
	if n := len(slices.Compact(sorted)); n != stores*takes {
		t.Errorf("got %d receipts that differ, want %d", n, stores*takes)
	}
}
