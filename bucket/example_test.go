package bucket_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/zeroae/zael/bucket"
)

// A store keeps a State, and changes it under a lock or in a transaction.
func Example() {
	limit := bucket.Definition{Burst: 10, Amount: 60, Period: time.Minute, Capacity: 10}
	if err := limit.Validate(); err != nil {
		fmt.Println(err)
		return
	}
	now, err := bucket.At(time.Date(2026, 1, 13, 14, 0, 0, 0, time.UTC))
	if err != nil {
		fmt.Println(err)
		return
	}

	var kept bucket.State // never charged: full
	s := kept.Redefine(limit, now, rand.Uint64())
	s, ok := s.Take(now, 8, 0)
	receipt := s.Receipt() // for the give
	fmt.Println("8 fit:", ok, "and leave", s.Available(now))

	_, ok = s.Take(now, 5, 0)
	fmt.Println("5 fit:", ok, "but in", s.Wait(now, 5))
	_, ok = s.Take(now.Add(3*time.Second), 5, 0)
	fmt.Println("5 fit then:", ok)

	s = s.Give(now, 8, receipt)
	fmt.Println("given back:", s.Available(now))
	// Output:
	// 8 fit: true and leave 2
	// 5 fit: false but in 3s
	// 5 fit then: true
	// given back: 10
}

// A store of buckets in a map: it reads, calls and writes under one lock.
func ExampleRecord() {
	var mu sync.Mutex
	store := map[string]bucket.Record{}
	take := func(at bucket.Instant, keys []string, charges [][]bucket.Charge) bucket.Outcome {
		mu.Lock()
		defer mu.Unlock()
		records := make([]bucket.Record, len(keys))
		outcome := bucket.Fits
		for i, key := range keys {
			records[i] = store[key] // one that is not there is full
			outcome = max(outcome, records[i].Take(charges[i], at, 0, rand.Uint64()))
		}
		for i, key := range keys {
			if records[i].Finish(outcome, charges[i], at) {
				store[key] = records[i]
			}
		}
		return outcome
	}

	rpm := bucket.Definition{Burst: 10, Amount: 10, Period: time.Minute, Capacity: 10}
	ask := func(n int64) [][]bucket.Charge { // of a key, and of the team that it belongs to
		return [][]bucket.Charge{{{Name: "rpm", Definition: rpm, Amount: n}}, {{Name: "rpm", Definition: rpm, Amount: n}}}
	}
	now := bucket.Instant(0)
	fmt.Println(take(now, []string{"key-1", "team"}, ask(7)) == bucket.Fits)
	refused := ask(5)
	fmt.Println(take(now, []string{"key-2", "team"}, refused) == bucket.Exceeds)
	for i, key := range []string{"key-2", "team"} {
		fmt.Println(key, "has", refused[i][0].State.Available(now), "and 5 fit in", refused[i][0].State.Wait(now, 5))
	}
	// Output:
	// true
	// true
	// key-2 has 10 and 5 fit in 0s
	// team has 3 and 5 fit in 12s
}

// A definition that changed keeps the tokens taken, and only those.
func ExampleState_Redefine() {
	now := bucket.Instant(0)
	large := bucket.Definition{Burst: 1000, Amount: 10, Period: time.Second, Capacity: 1000}
	small := bucket.Definition{Burst: 10, Amount: 10, Period: time.Second, Capacity: 10}

	s, _ := bucket.State{}.Redefine(large, now, 1).Take(now, 300, 0)
	fmt.Println("of 1000:", s.Available(now))
	s = s.Redefine(small, now, 0)
	fmt.Println("of 10:", s.Available(now))
	s = s.Redefine(large, now, 0)
	fmt.Println("of 1000 again:", s.Available(now))

	// Stored limits carry the revision of their change. When one takes the
	// place of another, the tokens taken are no debt.
	large.Rev, small.Rev = 1, 2
	s = s.Redefine(large, now, 0).Redefine(small, now, 0)
	fmt.Println("of 10, lowered in the store:", s.Available(now), "and 1 in", s.Wait(now, 1))
	fmt.Println("the one before is stale:", s.Stale(large))
	// Output:
	// of 1000: 700
	// of 10: -290
	// of 1000 again: 700
	// of 10, lowered in the store: 0 and 1 in 100ms
	// the one before is stale: true
}

// What took more than was asked for is charged afterwards, into debt.
func ExampleState_Charge() {
	now := bucket.Instant(0)
	limit := bucket.Definition{Burst: 100, Amount: 10, Period: time.Second, Capacity: 100}
	s, _ := bucket.State{}.Redefine(limit, now, 1).Take(now, 90, 0)

	s, err := s.Charge(now, 60)
	fmt.Println(s.Available(now), err)
	_, ok := s.Take(now, 0, 0)
	fmt.Println("0 fit:", ok, "but in", s.Wait(now, 0))
	// Output:
	// -50 <nil>
	// 0 fit: false but in 5s
}

// A take may reserve what refills within a time. Later takes stand behind it.
func ExampleState_Take() {
	now := bucket.Instant(0)
	limit := bucket.Definition{Burst: 10, Amount: 10, Period: time.Second, Capacity: 10}
	s, _ := bucket.State{}.Redefine(limit, now, 1).Take(now, 10, 0)

	for range 3 {
		wait := s.Wait(now, 4)
		var ok bool
		s, ok = s.Take(now, 4, time.Second)
		fmt.Println("4 in", wait, ok)
	}
	// Output:
	// 4 in 400ms true
	// 4 in 800ms true
	// 4 in 1.2s false
}

// A charge owns a stretch of the axis; what has refilled of it stays.
func ExampleState_Give() {
	now := bucket.Instant(0)
	limit := bucket.Definition{Burst: 10, Amount: 10, Period: time.Second, Capacity: 10}
	s, _ := bucket.State{}.Redefine(limit, now, 1).Take(now, 10, 0)
	receipt := s.Receipt()

	now = now.Add(700 * time.Millisecond) // 7 have refilled
	s, _ = s.Take(now, 7, 0)              // and are taken again
	s = s.Give(now, 10, receipt)
	fmt.Println("of 10 come back:", s.Available(now))
	// Output:
	// of 10 come back: 3
}

func ExampleDefinition_Validate() {
	limit := bucket.Definition{Burst: 10, Amount: 60, Period: time.Millisecond, Capacity: 10}
	err := limit.Validate()
	fmt.Println(err)
	fmt.Println(errors.Is(err, bucket.ErrRange))
	// Output:
	// refill period 1ms is not in 1s to 8784h0m0s: out of range
	// true
}

func ExampleAt() {
	at, err := bucket.At(time.Date(2023, 11, 16, 18, 15, 46, 0, time.UTC))
	fmt.Println(at < 0, at.Time().Format(time.RFC3339), err)
	_, err = bucket.At(time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC))
	fmt.Println(err)
	// Output:
	// true 2023-11-16T18:15:46Z <nil>
	// time 1970-01-01T00:00:00Z is more than 29 years from 2025-01-01: out of range
}
