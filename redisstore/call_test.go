package redisstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/rueidis"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/redistest"
	"github.com/zeroae/zael/internal/trial"
	"github.com/zeroae/zael/redisstore"
)

// A call ends at most CallTimeout after it has begun, and goes on when its caller has left; within
// what its caller has it leaves time for another one.
func TestCallsEndInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const most = 160 * time.Millisecond
		s, err := redisstore.New(struct{ rueidis.Client }{}, &redisstore.Config{CallTimeout: most})
		if err != nil {
			t.Fatal(err)
		}
		lasts := func(caller context.Context) time.Duration {
			begun := time.Now()
			ctx, cancel := s.CallContext(caller)
			defer cancel()
			<-ctx.Done()
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				t.Errorf("a call that takes too long: got %v, want context.DeadlineExceeded", ctx.Err())
			}
			return time.Since(begun)
		}
		left, leave := context.WithCancel(t.Context())
		leave()
		if got := lasts(left); got != most {
			t.Errorf("a call of a caller who has left: got %v, want %v", got, most)
		}
		short, cancel := context.WithTimeout(t.Context(), most)
		defer cancel()
		if got := lasts(short); got != most/2 {
			t.Errorf("a call whose caller has %v left: got %v, want half", most, got)
		}
	})
}

// Rows are packed: names of all lengths come out as they went in.
func TestRowsOfLongNames(t *testing.T) {
	t.Parallel()
	client := newClient(t, engines.Address(t, redistest.Redis))
	config := redisstore.Config{Namespace: newNamespace(), CallTimeout: time.Minute}
	var stores []*redisstore.Store
	for range 2 {
		s, err := redisstore.NewTrial(client, &config, trial.Options{VirtualTime: true, Direct: true})
		stores = append(stores, opened(t, s, err))
	}
	d := define(100, 1, time.Hour)
	for _, n := range []int{1, 30, 31, 32, 255, 256, 65_534, 65_535, 70_000} {
		name := strings.Repeat("n", n)
		key := zael.Key{Entity: "alice", Resource: strings.Repeat("r", n)}
		calls := func() uint64 { return stores[0].Stats().Calls + stores[1].Stats().Calls }
		before := calls()
		for i := range 4 { // each store in turn, so that the second, third and fourth go by rows
			debits := []zael.Debit{{Key: key, Charges: []zael.Charge{ask(name, d, 1), ask("m"+name, d, 2)}}}
			if _, err := stores[i%2].Take(t.Context(), t0, 0, debits); err != nil {
				t.Fatalf("a name of %d bytes, take %d: %v", n, i, err)
			}
		}
		if got := calls() - before; got != 4 {
			t.Errorf("a name of %d bytes: got %d calls for 4 takes, want one each", n, got)
		}
		for name, want := range map[string]int64{name: 96, "m" + name: 92} {
			if got := state(t, stores[0], t0, key, name).Available(mustInstant(t, t0)); got != want {
				t.Errorf("a name of %d bytes: got %d left, want %d", len(name), got, want)
			}
		}
	}
}
