package redisstore_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/testrig/redistest"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/internal/trial"
	"github.com/zeroae/zael/redisstore"
)

var t0 = time.Date(2026, 1, 13, 14, 0, 0, 0, time.UTC)

func define(burst, amount int64, period time.Duration) bucket.Definition {
	return bucket.Definition{Burst: burst, Amount: amount, Period: period, Capacity: min(burst, amount)}
}

func ask(name string, d bucket.Definition, n int64) zael.Charge {
	return zael.Charge{Name: name, Definition: d, Amount: n}
}

// alice is a debit of the bucket of alice on gpt-4.
func alice(charges ...zael.Charge) zael.Debit {
	return zael.Debit{Key: zael.Key{Entity: "alice", Resource: "gpt-4"}, Charges: charges}
}

func state(t *testing.T, s zael.Store, at time.Time, key zael.Key, name string) bucket.State {
	t.Helper()
	_, got, err := s.Buckets(t.Context(), at, []zael.Key{key})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range got[0].Limits {
		if l.Name == name {
			return l.State
		}
	}
	return bucket.State{}
}

// Lua has doubles, and marks are up to 8·10¹⁸ on either side of 0: the script is exact there too.
// Takes and gives at all instants, by a store that knows the bucket and one that does not.
func TestNumbersBeyondDoubles(t *testing.T) {
	t.Parallel()
	client := newClient(t, engines.Address(t, redistest.Valkey))
	for seed := range schedules.Seeds(t, 3) {
		rng := rand.New(rand.NewPCG(seed, 0))
		config := redisstore.Config{Namespace: newNamespace(), CallTimeout: time.Minute}
		var stores []*redisstore.Store
		for range 2 {
			s, err := redisstore.NewTrial(client, &config, trial.Options{VirtualTime: true, Direct: true})
			stores = append(stores, opened(t, s, err))
		}
		d := define(1+rng.Int64N(bucket.MaxAmount), 1+rng.Int64N(9e9), time.Second)
		if rng.IntN(2) == 0 {
			d = define(1+rng.Int64N(2000), 1+rng.Int64N(1_000_000), time.Second)
		}
		key := alice().Key
		var want bucket.State
		at := bucket.Instant(0)
		for i := range 300 {
			switch rng.IntN(12) {
			case 0: // far away, and the bucket is made anew
				key.Entity += "x"
				want = bucket.State{}
				at = bucket.Instant(rng.Int64N(2*int64(bucket.MaxInstant)) - int64(bucket.MaxInstant))
			default:
				at = at.Add(time.Duration(rng.Int64N(int64(time.Second) >> rng.IntN(30))))
			}
			now, n := at.Time(), rng.Int64N(min(d.Burst, 1<<40)+1)
			if want.Absent() {
				want = want.Redefine(d, at, 0)
			}
			next, fits := want.Take(at, n, 0)
			c := ask("rpm", d, n)
			debits := []zael.Debit{{Key: key, Charges: []zael.Charge{c}}}
			_, err := stores[rng.IntN(2)].Take(t.Context(), now, 0, debits)
			if fits != (err == nil) || err != nil && !errors.Is(err, zael.ErrExceeded) {
				t.Fatalf("operation %d: take of %d at %v: got %v, want it admitted: %t", i, n, now, err, fits)
			}
			if want = next; !fits {
				continue
			}
			if got := debits[0].Charges[0].Receipt.Mark; n > 0 && got != want.Mark {
				t.Fatalf("operation %d: take of %d at %v: got the mark %d, want %d", i, n, now, got, want.Mark)
			}
			if n > 0 && state(t, stores[0], now, key, "rpm").Mark != want.Mark {
				t.Fatalf("operation %d: take of %d at %v: the hash has another mark than %d", i, n, now, want.Mark)
			}
			if rng.IntN(3) == 0 && n > 0 {
				back := debits[0].Charges[0]
				back.Amount = -rng.Int64N(n + 1)
				if _, err := stores[rng.IntN(2)].Adjust(t.Context(), now, []zael.Debit{{Key: key, Charges: []zael.Charge{back}}}); err != nil {
					t.Fatal(err)
				}
				want = want.Give(at, -back.Amount, want.Receipt())
				if got := state(t, stores[0], now, key, "rpm"); got.Mark != want.Mark && n > 0 {
					t.Fatalf("operation %d: give of %d of %d at %v: got the mark %d, want %d", i, -back.Amount, n, now, got.Mark, want.Mark)
				}
			}
		}
	}
}

// A bucket expires an hour after all is full, and no write makes that sooner. The set of the
// entity's buckets expires with the last of them.
func TestExpiry(t *testing.T) {
	t.Parallel()
	client := newClient(t, engines.Address(t, redistest.Redis))
	config := redisstore.Config{Namespace: newNamespace(), CallTimeout: time.Minute}
	s, err := redisstore.NewTrial(client, &config, trial.Options{VirtualTime: true})
	opened(t, s, err)
	left := func(key string) time.Duration {
		t.Helper()
		ms, err := client.Do(t.Context(), client.B().Pttl().Key(key).Build()).AsInt64()
		if err != nil {
			t.Fatal(err)
		}
		return time.Duration(ms) * time.Millisecond
	}
	prefix := "zael:" + config.Namespace + ":"
	within := func(what, key string, least, most time.Duration) {
		t.Helper()
		if got := left(key); got < least || got > most {
			t.Errorf("%s: %s expires in %v, want %v to %v", what, key, got, least, most)
		}
	}
	const slack = 20 * time.Minute // steps of a quarter of an hour, and what the test takes
	take := func(after time.Duration, debits ...zael.Debit) {
		t.Helper()
		if _, err := s.Take(t.Context(), t0.Add(after), 0, debits); err != nil {
			t.Fatal(err)
		}
	}
	short, long := define(10, 10, time.Minute), define(240, 24, time.Hour)
	take(0, alice(ask("rpm", short, 1)))
	within("a short limit", prefix+"b:{alice}:gpt-4", time.Hour-slack, time.Hour+slack)
	take(0, zael.Debit{Key: zael.Key{Entity: "alice", Resource: "b"}, Charges: []zael.Charge{ask("day", long, 240)}})
	within("a long limit", prefix+"b:{alice}:b", 11*time.Hour-slack, 11*time.Hour+slack)
	within("its entity", prefix+"{alice}", 11*time.Hour-slack, 11*time.Hour+slack)
	take(time.Second, alice(ask("rpm", short, 1), ask("day", long, 240)))
	within("a limit more", prefix+"b:{alice}:gpt-4", 11*time.Hour-slack, 11*time.Hour+slack)
	take(2*time.Second, alice(ask("rpm", short, 1)))
	within("a short limit again", prefix+"b:{alice}:gpt-4", 11*time.Hour-slack, 11*time.Hour+slack)
	take(2*time.Hour+time.Minute, alice(ask("rpm", short, 1), ask("day", long, 48)))
	by := func() int64 {
		t.Helper()
		n, err := client.Do(t.Context(), client.B().Hget().Key(prefix+"b:{alice}:gpt-4").Field("x").Build()).AsInt64()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := by()
	take(4*time.Hour+2*time.Minute, alice(ask("day", long, 1)))
	if got := by(); got <= before {
		t.Errorf("two hours later: the bucket is full by %d, and was by %d before", got, before)
	}
	within("a take later", prefix+"b:{alice}:gpt-4", 11*time.Hour-slack, 11*time.Hour+slack)
}

// A bucket with two limits is small: its hash stays compact. With the set of its entity's buckets
// it is 400 bytes on Valkey, of which the tables of keys and of expiries have some 50; how much an
// allocation takes depends on those before it.
func TestHashIsCompact(t *testing.T) {
	t.Parallel()
	for kind, most := range map[redistest.Kind]int64{redistest.Valkey: 384, redistest.Redis: 384} {
		client := newClient(t, engines.Address(t, kind))
		config := redisstore.Config{Namespace: newNamespace(), CallTimeout: time.Minute}
		s, err := redisstore.NewTrial(client, &config, trial.Options{VirtualTime: true})
		opened(t, s, err)
		d := zael.Debit{Key: zael.Key{Entity: "entity-00000001", Resource: "gpt-4"}}
		for i := range 5 {
			d.Charges = []zael.Charge{ask("rpm", define(1e9, 1e9, time.Minute), 1), ask("tpm", define(1e11, 1e11, time.Minute), 500)}
			if _, err := s.Take(t.Context(), t0.Add(time.Duration(i)), 0, []zael.Debit{d}); err != nil {
				t.Fatal(err)
			}
		}
		key, index := "zael:"+config.Namespace+":b:{entity-00000001}:gpt-4", "zael:"+config.Namespace+":{entity-00000001}"
		encoding, err := client.Do(t.Context(), client.B().ObjectEncoding().Key(key).Build()).ToString()
		if err != nil || encoding != "listpack" {
			t.Errorf("%s: encoding: got %q and %v, want listpack", kind, encoding, err)
		}
		sum := int64(0)
		for _, name := range []string{key, index} {
			bytes, err := client.Do(t.Context(), client.B().MemoryUsage().Key(name).Build()).AsInt64()
			if err != nil {
				t.Fatalf("%s: %s: %v", kind, name, err)
			}
			sum += bytes
		}
		if sum > most {
			t.Errorf("%s: a bucket of two limits: got %d bytes, want %d at most", kind, sum, most)
		}
		t.Logf("%s: %d bytes", kind, sum)
	}
}
