package dynamostore_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/testrig/schedules"
)

// storeOn is one on a table, in a bubble.
func storeOn(t *testing.T, n *dynamofake.Network, seed uint64) *dynamostore.Store {
	t.Helper()
	n.Seed(seed)
	s, err := dynamostore.New(n, "fake", nil)
	return opened(t, s, err)
}

// counter is a number attribute of a bucket.
func counter(t *testing.T, table *dynamofake.Table, entity, name string) int64 {
	t.Helper()
	v, ok := table.Get("E#"+entity, "B#gpt-4")[name].(*types.AttributeValueMemberN)
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(v.Value, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A chaos is a schedule of many callers of several processes on a few buckets.
type chaos struct {
	lost, silent, cap float64
	leave             bool // callers leave early
	cascade           bool
	flip              bool // two definitions of the same limits
}

// Whatever gets lost, whoever leaves: nobody is admitted whom the table did not
// charge, and the table never charges more than the limit and its refill.
func TestCoalescedNeverOversells(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]chaos{
		"calm":            {},
		"callers leave":   {leave: true},
		"answers lost":    {lost: 0.05, silent: 0.1},
		"throttled":       {cap: 200},
		"cascade":         {cascade: true},
		"cascade, chaos":  {cascade: true, lost: 0.02, silent: 0.05, leave: true, cap: 400},
		"everything":      {lost: 0.05, silent: 0.05, leave: true, cap: 300},
		"cascade, leaves": {cascade: true, leave: true},
		"two definitions": {cascade: true, flip: true},
		"flips and chaos": {cascade: true, flip: true, lost: 0.03, silent: 0.03, leave: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seeds := 2
			if c.lost > 0 {
				seeds = 4 // what goes wrong is rare
			}
			for seed := range schedules.Seeds(t, seeds) {
				synctest.Test(t, func(t *testing.T) { c.run(t, seed) })
			}
		})
	}
}

func (c *chaos) run(t *testing.T, seed uint64) {
	t.Helper()
	const processes, callers = 3, 30
	each := 12
	if testing.Short() {
		each = 4
	}
	d := define(100, 100, time.Second)
	less, wide := define(30, 60, time.Second), define(200, 250, time.Second)
	table := dynamofake.New()
	var limit *dynamofake.Cap
	if c.cap > 0 {
		limit = &dynamofake.Cap{PerSecond: int(c.cap)}
	}
	var stores []*dynamostore.Store
	for p := range uint64(processes) {
		n := &dynamofake.Network{Table: table, Cap: limit, Latency: 2 * time.Millisecond, Lost: c.lost, Silent: c.silent, Reset: 0.5}
		stores = append(stores, storeOn(t, n, seed*100+p))
	}
	begin := time.Now()
	var mine, unsure, told, toldTakes [2]atomic.Int64 // net tokens that callers hold, what of them they may hold besides, gross tokens, takes
	entities := []string{"child", "parent"}
	var wg sync.WaitGroup
	for i := range processes * callers {
		s := stores[i%processes]
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() {
			for range each {
				n := 1 + rng.Int64N(5)
				child, parent := d, wide
				if c.flip && rng.IntN(4) == 0 {
					child = less
				}
				if c.flip && rng.IntN(4) == 0 {
					parent = d
				}
				debits := []zael.Debit{debit("child", ask("rpm", child, n))}
				if c.cascade {
					debits = append(debits, debit("parent", ask("rpm", parent, n)))
				}
				timeout := time.Second
				if c.leave && rng.IntN(4) == 0 {
					timeout = time.Duration(rng.Int64N(int64(8 * time.Millisecond)))
				}
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				wait := time.Duration(rng.IntN(3)) * 20 * time.Millisecond
				_, err := s.Take(ctx, time.Now(), wait, debits)
				cancel()
				if err == nil {
					for j := range debits {
						mine[j].Add(n)
						told[j].Add(n)
						toldTakes[j].Add(1)
					}
					if rng.IntN(3) == 0 { // gives some of it back
						for j := range debits {
							debits[j].Charges[0].Amount = -n
						}
						_, err := s.Adjust(t.Context(), time.Now(), debits)
						for j := range debits {
							if mine[j].Add(-n); err != nil { // it may have been given
								unsure[j].Add(n)
							}
						}
					}
				} else if !errors.Is(err, zael.ErrExceeded) && !errors.Is(err, zael.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, zael.ErrContention) {
					t.Errorf("Take: got %v", err)
				}
				time.Sleep(time.Duration(rng.Int64N(int64(30 * time.Millisecond)))) //nolint:forbidigo // of the bubble
			}
		})
	}
	wg.Wait()
	for _, s := range stores {
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := dynamostore.Kept(s); n != 0 {
			t.Errorf("seed %d: kept of %d buckets after Close, want none", seed, n)
		}
	}
	// Where definitions change all the time a write may be given up (ErrContention), an undoing too: it refills.
	calm := c.lost == 0 && c.silent == 0 && !c.leave && !c.flip
	for j, entity := range entities {
		if j == 1 && !c.cascade {
			continue
		}
		charged, events := counter(t, table, entity, "c_rpm"), counter(t, table, entity, "e")
		if held := mine[j].Load(); charged < held || calm && charged != held+unsure[j].Load() {
			t.Errorf("seed %d, %s: charged %d net, want at least the %d that callers hold, and as many if nothing went wrong", seed, entity, charged, held)
		}
		if takes := toldTakes[j].Load(); events < takes || calm && c.cap == 0 && events != takes {
			t.Errorf("seed %d, %s: counted %d takes, want at least the %d that callers were told of, and as many if nothing went wrong", seed, entity, events, takes)
		}
		def := []bucket.Definition{d, wide}[j]
		first, _ := bucket.At(begin.Add(-time.Second))
		last, _ := bucket.At(time.Now().Add(time.Second))
		// What was given back may be taken again.
		most := def.Burst + (def.Drip(last)-def.Drip(first))/def.Unit() + told[j].Load() - mine[j].Load()
		if got := told[j].Load(); got > most {
			t.Errorf("seed %d, %s: told %d tokens, want %d at most", seed, entity, got, most)
		}
		if told[j].Load() == 0 {
			t.Errorf("seed %d, %s: nobody was admitted", seed, entity)
		}
	}
}

// Leases that a changed limit outlives are settled together, as others are: none of
// them changes the bucket's definition.
func TestOldLeasesShareWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &dynamofake.Network{Table: dynamofake.New(), Latency: 3 * time.Millisecond}
		l, err := zael.New(storeOn(t, n, 1), nil)
		if err != nil {
			t.Fatal(err)
		}
		set := func(burst int64) {
			t.Helper()
			if err := l.SetLimits(t.Context(), zael.Scope{Entity: "e", Resource: "gpt-4"}, []zael.Limit{zael.PerHour("rpm", burst)}); err != nil {
				t.Fatal(err)
			}
		}
		set(1000)
		var leases []*zael.Lease
		for range 500 {
			lease, err := l.Acquire(t.Context(), zael.Request{Entity: "e", Resource: "gpt-4", UseStoredLimits: true, Consume: zael.Amounts{"rpm": 2}})
			if err != nil {
				t.Fatal(err)
			}
			leases = append(leases, lease)
		}
		set(2000)
		before := n.Writes()
		var wg sync.WaitGroup
		for i, lease := range leases {
			wg.Go(func() {
				settle := lease.Commit
				if i%2 == 0 {
					settle = lease.Rollback
				} else if err := lease.Adjust(zael.Amounts{"rpm": 1}); err != nil {
					t.Error(err)
				}
				if err := settle(t.Context()); err != nil {
					t.Errorf("lease %d: got %v, want it settled", i, err)
				}
			})
		}
		wg.Wait()
		if got := n.Writes() - before; got > 4 {
			t.Errorf("writes: got %d, want 4 at most", got)
		}
		if got := counter(t, n.Table, "e", "c_rpm"); got != 750 {
			t.Errorf("charged: got %d net, want 750: 250 leases of 3", got)
		}
	})
}

// The wait of a take that was queued counts from when its write was sent: its caller never
// waits for longer than MaxWait.
func TestWaitCountsFromTheWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &dynamofake.Network{Table: dynamofake.New(), Latency: 100 * time.Millisecond}
		l, err := zael.New(storeOn(t, n, 1), nil)
		if err != nil {
			t.Fatal(err)
		}
		req := zael.Request{
			Entity: "e", Resource: "r", Limits: []zael.Limit{zael.PerSecond("rpm", 1)}, Consume: zael.Amounts{"rpm": 1}, MaxWait: 900 * time.Millisecond,
		}
		if err := l.Allow(t.Context(), zael.Request{Entity: "another", Resource: "r", Limits: req.Limits}); err != nil {
			t.Fatal(err) // nobody waits for the engine's time then
		}
		var leases [2]*zael.Lease
		var errs [2]error
		var wg sync.WaitGroup
		for i := range leases {
			wg.Go(func() { leases[i], errs[i] = l.Reserve(t.Context(), req) })
			synctest.Wait()
		}
		wg.Wait()
		if err := errors.Join(errs[:]...); err != nil {
			t.Fatal(err)
		}
		if got := leases[1].Delay(); got <= 0 || got > req.MaxWait {
			t.Errorf("delay of the second: got %v, want more than 0 and at most %v", got, req.MaxWait)
		}
	})
}
