package redisstore_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/testrig/redistest"
	"github.com/zeroae/zael/internal/trial"
	"github.com/zeroae/zael/redisstore"
)

// A bucket has as many holders of slots as leases that have left their processes. One more is
// written, and the dead are removed, however many they are.
func TestManyHolders(t *testing.T) {
	t.Parallel()
	const holders = 10_000
	client := newClient(t, engines.Address(t, redistest.Valkey))
	config := redisstore.Config{Namespace: newNamespace(), CallTimeout: time.Minute}
	var stores []*redisstore.Store
	for range 2 { // the other one does not know the bucket
		s, err := redisstore.NewTrial(client, &config, trial.Options{VirtualTime: true})
		stores = append(stores, opened(t, s, err))
	}
	d := bucket.Definition{Kind: bucket.Slots, Burst: holders + 2, Period: time.Minute, Capacity: holders + 2}
	take := func(s zael.Store, at time.Time, holder string, n int64) error {
		debit := alice(ask("n", d, n))
		debit.Holder = holder
		_, err := s.Take(t.Context(), at, 0, []zael.Debit{debit})
		return err
	}
	if err := take(stores[0], t0, "first", 1); err != nil {
		t.Fatal(err)
	}
	hash := "zael:" + config.Namespace + ":b:{alice}:gpt-4"
	entry, err := client.Do(t.Context(), client.B().Hget().Key(hash).Field("hfirst").Build()).ToString()
	if err != nil {
		t.Fatal(err)
	}
	var fields []string
	for i := range holders {
		fields = append(fields, fmt.Sprintf("hlease-%d", i), entry)
	}
	for some := range slices.Chunk(fields, 1000) {
		if err := client.Do(t.Context(), client.B().Arbitrary("HSET").Keys(hash).Args(some...).Build()).Error(); err != nil {
			t.Fatal(err)
		}
	}
	left := func() int64 {
		n, err := client.Do(t.Context(), client.B().Hlen().Key(hash).Build()).AsInt64()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := left()
	if err := take(stores[1], t0, "last", 1); err != nil {
		t.Errorf("one more holder: %v", err)
	}
	if got := left(); got != before+1 {
		t.Errorf("the bucket has %d fields with one more holder, want %d", got, before+1)
	}
	if err := take(stores[1], t0.Add(2*time.Minute), "late", holders); err != nil {
		t.Errorf("when the others are dead: %v", err)
	}
	if got := left(); got != before-holders {
		t.Errorf("the bucket has %d fields when the others are dead, want %d", got, before-holders)
	}
}
