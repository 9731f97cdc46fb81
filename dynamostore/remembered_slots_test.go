package dynamostore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
)

// slotsOf returns n slots with the least hold.
func slotsOf(n int64) bucket.Definition {
	return bucket.Definition{Burst: n, Capacity: n, Kind: bucket.Slots, Period: bucket.MinHold}
}

// heldBy returns a debit that takes n of two slots for a holder.
func heldBy(holder string, n int64) zael.Debit {
	d := debit("e", ask("parallel", slotsOf(2), n))
	d.Holder = holder
	return d
}

// A refusal by slots alone is remembered for 100 ms, and not beyond the deadline of a holder
// that is in the way. What this process releases counts at once.
func TestSlotRefusalIsRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &dynamofake.Network{Table: dynamofake.New(), Latency: time.Millisecond}
		s, other := storeOn(t, n, 1), storeOn(t, n, 2)
		begun := time.Now()
		admit(t, other, heldBy("other", 2))
		take := func(d zael.Debit, fits bool, writes int) {
			t.Helper()
			before := n.Writes()
			_, err := s.Take(t.Context(), time.Now(), 0, []zael.Debit{d})
			if fits != (err == nil) || err != nil && !errors.Is(err, zael.ErrExceeded) {
				t.Errorf("after %v: got %v, want it admitted: %v", time.Since(begun), err, fits)
			}
			if got := n.Writes() - before; got != writes {
				t.Errorf("after %v: got %d writes, want %d", time.Since(begun), got, writes)
			}
		}
		until := func(after time.Duration) {
			time.Sleep(after - time.Since(begun)) //nolint:forbidigo // in synctest's time
		}
		take(heldBy("own", 1), false, 1)
		for range 100 {
			take(heldBy("own", 1), false, 0)
		}
		asked := time.Since(begun)
		until(asked + 90*time.Millisecond)
		take(heldBy("own", 1), false, 0)
		until(asked + 101*time.Millisecond)
		take(heldBy("own", 1), false, 1)

		until(bucket.MinHold - 40*time.Millisecond)
		take(heldBy("own", 1), false, 1)
		take(heldBy("own", 1), false, 0)
		until(bucket.MinHold + 40*time.Millisecond) // the other is dead
		both := heldBy("own", 2)
		take(both, true, 1)
		take(heldBy("own", 1), false, 0) // as the answer to what was taken shows
		both.Charges[0].Amount = -1
		if _, err := s.Adjust(t.Context(), time.Now(), []zael.Debit{both}); err != nil {
			t.Fatal(err)
		}
		take(heldBy("own", 1), true, 1)
	})
}

// 16 processes want 4 slots, each for 50 ms, and ask again every 10 ms: by a refusal that is
// remembered they save calls, but none is kept from slots that others release. How fair that is
// shows in half a minute.
func TestSlotsAreSharedFairly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const processes = 16
		seconds, fair := 30, 2.0/5 // served, the least of the most
		if testing.Short() {
			seconds, fair = 5, 0.01
		}
		n := &dynamofake.Network{Table: dynamofake.New(), Latency: time.Millisecond}
		p := zael.MustPolicy("gpt-4", zael.AtOnce("parallel", 4))
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(seconds)*time.Second)
		defer cancel()
		served, asked := make([]int, processes), make([]int, processes)
		var limiters [processes]*zael.Limiter
		for i := range limiters {
			var err error
			if limiters[i], err = zael.New(storeOn(t, n, uint64(i)+1), nil); err != nil {
				t.Fatal(err)
			}
		}
		var all sync.WaitGroup
		for i, l := range limiters {
			all.Go(func() {
				for time.Sleep(time.Duration(i) * time.Millisecond); ctx.Err() == nil; asked[i]++ { //nolint:forbidigo // in synctest's time
					lease, err := l.Reserve(ctx, p.For("e", 1))
					if err != nil {
						time.Sleep(10 * time.Millisecond) //nolint:forbidigo // in synctest's time
						continue
					}
					time.Sleep(50 * time.Millisecond) //nolint:forbidigo // in synctest's time
					if err := lease.Rollback(t.Context()); err != nil {
						t.Error(err)
					}
					served[i]++
				}
				if err := l.Close(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		least, most, total, asks := slices.Min(served), slices.Max(served), 0, 0
		for i := range served {
			total, asks = total+served[i], asks+asked[i]
		}
		t.Logf("least/most served %.2f, %d a second, %d writes for %d requests a second", float64(least)/float64(most), total/seconds, n.Writes()/seconds, asks/seconds)
		if float64(least) < fair*float64(most) {
			t.Errorf("served: got %v, want the least at %.2f of the most", served, fair)
		}
		if n.Writes() > asks/2 {
			t.Errorf("got %d writes for %d requests, want most refusals to be remembered", n.Writes(), asks)
		}
	})
}

// Holders that have died go though the slots are never all taken: with a renewal, and with one
// write of slots in 16.
func TestDeadHoldersAreTidied(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &dynamofake.Network{Table: dynamofake.New(), Latency: time.Millisecond}
		s := storeOn(t, n, 1)
		d := slotsOf(1000)
		held := func(holder string) []zael.Debit {
			debit := debit("e", ask("parallel", d, 1))
			debit.Holder = holder
			return []zael.Debit{debit}
		}
		for i := range 20 {
			if _, err := s.Take(t.Context(), time.Now(), 0, held(fmt.Sprint("dead-", i))); err != nil {
				t.Fatal(err)
			}
		}
		holders := func() (count int) {
			for attribute := range n.Get("E#e", "B#gpt-4") {
				if strings.HasPrefix(attribute, "h_dead-") {
					count++
				}
			}
			return count
		}
		time.Sleep(2 * bucket.MinHold) //nolint:forbidigo // in synctest's time
		if got := holders(); got != 20 {
			t.Fatalf("before anybody writes: got %d holders, want 20", got)
		}
		own := held("own")
		if _, err := s.Take(t.Context(), time.Now(), 0, own); err != nil {
			t.Fatal(err)
		}
		before := holders()
		if held, err := s.Renew(t.Context(), time.Now(), own[0]); !held || err != nil {
			t.Fatal(held, err)
		}
		if got := holders(); got != before-4 {
			t.Errorf("after a renewal: got %d holders that have died, want %d", got, before-4)
		}
		writes := n.Writes()
		for range 200 {
			if _, err := s.Take(t.Context(), time.Now(), 0, held("own")); err != nil {
				t.Fatal(err)
			}
		}
		if got := holders(); got != 0 {
			t.Errorf("after 200 takes: got %d holders that have died, want none", got)
		}
		if got := n.Writes() - writes; got != 200 {
			t.Errorf("200 takes: got %d writes, want one each", got)
		}
	})
}
