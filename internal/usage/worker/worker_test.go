package worker_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	tabletypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"
	"github.com/aws/smithy-go"

	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/internal/testrig/streamfake"
	"github.com/zeroae/zael/internal/usage"
	"github.com/zeroae/zael/internal/usage/deadletter"
	"github.com/zeroae/zael/internal/usage/stream"
)

// wait lets time pass in a synctest bubble.
func wait(d time.Duration) { <-time.After(d) }

// A worker counts old and new records; the next one resumes where it stopped.
func TestWorker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, table := streamfake.New("a"), dynamofake.New()
		for i := range 50 {
			s.Take("a", "e1", time.Now(), int64(i))
		}
		p := start(t, s, table)
		wait(5 * time.Second)
		wantUsed(t, s, table, "e1")
		for i := range 50 {
			s.Take("a", "e1", time.Now(), int64(i))
		}
		wait(5 * time.Second)
		wantUsed(t, s, table, "e1")
		p.stop()
		s.Take("a", "e1", time.Now(), 7)
		p = start(t, s, table)
		wait(5 * time.Second) // the lease was released
		wantUsed(t, s, table, "e1")
		p.stop()
		if got := p.worker.Stats(); got.Records != 1 {
			t.Errorf("the second worker: got %+v, want 1 record: the rest had been counted", got)
		}
	})
}

// Children are read after their parents, so that the changes of an item come in order, which
// is cheaper.
func TestChildrenAfterParents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, table := streamfake.New("a"), dynamofake.New()
		for i := range 30 {
			s.Take("a", "e1", time.Now(), int64(i))
		}
		s.Split("a", "b", "c")
		for i := range 30 {
			s.Take("b", "e1", time.Now(), int64(i))
			s.Take("c", "e2", time.Now(), int64(i))
		}
		s.Split("b", "d")
		s.Split("c", "e")
		for i := range 30 {
			s.Take("d", "e1", time.Now(), int64(i))
		}
		p := &process{Table: table}
		var mergers atomic.Int64
		p.fail = func(in *dynamodb.UpdateItemInput) error {
			if _, ok := in.ExpressionAttributeValues[":seenFirst"]; ok {
				mergers.Add(1)
			}
			return nil
		}
		once(t, s, p)
		wantUsed(t, s, table, "e1", "e2")
		if n := mergers.Load(); n > 0 {
			t.Errorf("got %d writes of changes that came late, want each shard read after its parent", n)
		}
		if got := p.worker.Stats(); got.Records != 120 || got.Retries != 0 {
			t.Errorf("got %+v, want 120 records", got)
		}
	})
}

// Workers share the shards and take over those of a dead one.
func TestWorkersShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, table := streamfake.New("a", "b", "c", "d"), dynamofake.New()
		shards, entities := []string{"a", "b", "c", "d"}, []string{"ea", "eb", "ec", "ed"}
		takes := func() {
			for i := range 40 {
				s.Take(shards[i%4], entities[i%4], time.Now(), int64(i))
			}
		}
		takes()
		first := start(t, s, table)
		wait(5 * time.Second)
		second := start(t, s, table)
		wait(3 * lease)
		before := first.worker.Stats().Records
		takes()
		wait(5 * time.Second)
		wantUsed(t, s, table, entities...)
		if got := first.worker.Stats().Records - before; got != 20 {
			t.Errorf("the first of two workers: got %d of 40 records, want 20", got)
		}
		first.kill()
		takes()
		wait(lease / 2)
		if got, want := used(t, table, entities...), s.Used(); maps.Equal(got, want) {
			t.Error("half a lease after the death of one: got everything counted, want its shards waiting")
		}
		wait(2 * lease)
		wantUsed(t, s, table, entities...)
		second.stop()
	})
}

// Of two workers that find a shard free at the same moment one reads it.
func TestClaimAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, table := streamfake.New("a"), dynamofake.New()
		s.Take("a", "ea", time.Now(), 5)
		var both sync.WaitGroup
		both.Add(2)
		var workers [2]*process
		for i := range workers {
			first := true
			workers[i] = &process{Table: table, fail: func(in *dynamodb.UpdateItemInput) error {
				if _, step := leaseOf(in); step == "claim" && first {
					first = false
					both.Done()
					both.Wait()
				}
				return nil
			}}
			run(t, s, workers[i], false)
		}
		wait(lease)
		if got := workers[0].worker.Stats().Records + workers[1].worker.Stats().Records; got != 1 {
			t.Errorf("records: got %d read, want 1", got)
		}
		for _, p := range workers {
			p.stop()
		}
		wantUsed(t, s, table, "ea")
	})
}

// An idle worker writes only to renew its leases, although these writes come back in the
// stream.
func TestIdleWorkerIsQuiet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, table := streamfake.New("a"), dynamofake.New()
		p := &process{Table: table}
		p.fail = func(in *dynamodb.UpdateItemInput) error {
			if in.ExpressionAttributeNames["#beat"] != "" {
				s.Add("a", "SYSTEM", "#SHARD#x", time.Now(), nil)
			}
			return nil
		}
		run(t, s, p, false)
		wait(10 * time.Minute)
		if got, most := p.beats.Load(), int64(10*time.Minute/(lease/3))+5; got > most {
			t.Errorf("got %d writes of the lease in 10 minutes, want at most %d", got, most)
		}
		p.stop()
	})
}

// Losses of the stream are reported once. What lies between changes that are left counts.
func TestTrimmed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, table := streamfake.New("a", "gone"), dynamofake.New()
		for range 10 {
			s.Take("a", "e1", time.Now(), 1)
			s.Take("gone", "e2", time.Now(), 1)
		}
		p := start(t, s, table)
		wait(5 * time.Second)
		p.stop()
		for range 10 {
			s.Take("a", "e1", time.Now(), 1)
			s.Take("gone", "e2", time.Now(), 1)
		}
		s.Trim("a", 15)
		s.Drop("gone")
		p = &process{Table: table}
		once(t, s, p)
		if got := p.worker.Stats(); got.Trimmed != 1 || !p.log.has("the stream has lost records") {
			t.Errorf("got %+v, want one loss reported: a shard that is not listed may be new", got)
		}
		wait(stream.Retention)
		p = &process{Table: table}
		once(t, s, p)
		want := map[string]int64{"e1 events": 20, "e1 rpm": 20, "e2 events": 10, "e2 rpm": 10}
		if got := used(t, table, "e1", "e2"); !maps.Equal(got, want) {
			t.Errorf("usage: got %v, want %v", got, want)
		}
		if got := p.worker.Stats(); got.Trimmed != 1 || !p.log.has("a shard is gone") {
			t.Errorf("a day later: got %+v, want the other loss reported", got)
		}
		p = &process{Table: table}
		once(t, s, p)
		if got := p.worker.Stats(); got.Trimmed != 0 {
			t.Errorf("the next worker: got %+v, want no more losses", got)
		}
	})
}

// The dead letter of a record with a long attribute fits into an item: otherwise the shard
// would be stuck.
func TestLongReason(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, table := streamfake.New("a"), dynamofake.New()
		bad := s.Take("a", "e1", time.Now(), 5)
		s.Take("a", "e1", time.Now(), 6)
		s.Change(bad, func(r *types.StreamRecord) {
			r.NewImage = map[string]types.AttributeValue{"e": &types.AttributeValueMemberS{Value: strings.Repeat("é\x00", 100_000)}}
		})
		p := &process{Table: table, fail: func(in *dynamodb.UpdateItemInput) error {
			size := 0
			for _, v := range in.ExpressionAttributeValues {
				if v, ok := v.(*tabletypes.AttributeValueMemberS); ok {
					size += len(v.Value)
				}
			}
			if size > 400<<10 {
				return &smithy.GenericAPIError{Code: "ValidationException", Message: "Item size to update has exceeded the maximum allowed size"}
			}
			return nil
		}}
		run(t, s, p, true)
		defer p.cancel()
		select {
		case <-p.ended:
		case <-time.After(5 * time.Minute):
			t.Fatal("after 5 minutes: the worker has not caught up")
		}
		if got := p.worker.Stats(); p.err != nil || got.DeadLetters != 1 || got.Records != 1 {
			t.Errorf("got %+v (%v), want one record counted and one dead letter", got, p.err)
		}
	})
}

// A record that cannot be counted becomes a dead letter and does not affect others. A
// version that can decode it redrives it.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, table := streamfake.New("a"), dynamofake.New()
		s.Take("a", "e1", time.Now(), 5)
		s.Take("a", "e1", time.Now(), 7)
		bad := s.Take("a", "e1", time.Now(), 6)
		var good map[string]types.AttributeValue
		s.Change(bad, func(r *types.StreamRecord) {
			good = r.NewImage
			r.NewImage = map[string]types.AttributeValue{"e": &types.AttributeValueMemberS{Value: "many"}}
		})
		p := &process{Table: table}
		once(t, s, p)
		want := map[string]int64{"e1 events": 2, "e1 rpm": 12}
		if got := used(t, table, "e1"); !maps.Equal(got, want) || p.worker.Stats().DeadLetters != 1 || p.worker.Stats().Records != 2 {
			t.Errorf("got %v and %+v, want %v and one dead letter", got, p.worker.Stats(), want)
		}
		counter, err := usage.New(table, "fake", nil)
		if err != nil {
			t.Fatal(err)
		}
		redrive := deadletter.Redrive{NewCounter: func(usage.CountingRules) (*usage.Counter, error) { return counter, nil }, Table: "fake", Stream: func(arn string) *stream.Stream { return stream.Of(s, arn) }}
		letters := deadletter.NewTable(table, "fake")
		for _, fixed := range []bool{false, true} {
			if fixed {
				s.Change(bad, func(r *types.StreamRecord) { r.NewImage = good })
			}
			var outcomes []deadletter.Outcome
			if err := redrive.Run(t.Context(), letters, 0, func(o deadletter.Outcome) { outcomes = append(outcomes, o) }); err != nil {
				t.Fatal(err)
			}
			if len(outcomes) != 1 || (outcomes[0].Err == nil) != fixed || outcomes[0].Letter.First != bad {
				t.Errorf("redrive, fixed %v: got %+v, want one letter of %s", fixed, outcomes, bad)
			}
		}
		wantUsed(t, s, table, "e1")
		if left, err := letters.Receive(t.Context()); err != nil || len(left) != 0 {
			t.Errorf("after the redrive: got %+v (%v), want no letters", left, err)
		}
	})
}

// A worker waits for a table or stream that fails. It ends if access is denied.
func TestErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, table := streamfake.New("a"), dynamofake.New()
		until := time.Now().Add(3 * time.Minute)
		var mu sync.Mutex
		r := rand.New(rand.NewPCG(1, 4))
		fails := func() bool {
			mu.Lock()
			defer mu.Unlock()
			return time.Now().Before(until) && r.IntN(2) == 0
		}
		s.Fail = func(string) error {
			if fails() {
				return &smithy.GenericAPIError{Code: "InternalServerError", Fault: smithy.FaultServer}
			}
			return nil
		}
		for i := range 100 {
			s.Take("a", fmt.Sprintf("e%d", i%3), time.Now(), int64(i))
		}
		p := &process{Table: table, fail: func(*dynamodb.UpdateItemInput) error {
			if fails() {
				return &smithy.GenericAPIError{Code: "ProvisionedThroughputExceededException", Fault: smithy.FaultClient}
			}
			return nil
		}}
		once(t, s, p)
		wantUsed(t, s, table, "e0", "e1", "e2")

		for _, call := range []string{"DescribeStream", "GetRecords", "UpdateItem"} {
			denied := &smithy.GenericAPIError{Code: "AccessDeniedException", Fault: smithy.FaultClient}
			s := streamfake.New("a")
			s.Take("a", "e1", time.Now(), 1)
			s.Fail = func(c string) error {
				if c == call {
					return denied
				}
				return nil
			}
			p := &process{Table: dynamofake.New(), fail: func(in *dynamodb.UpdateItemInput) error {
				if call == "UpdateItem" && in.ExpressionAttributeNames["#beat"] == "" {
					return denied
				}
				return nil
			}}
			run(t, s, p, false)
			select {
			case <-p.ended:
				if !errors.Is(p.err, denied) {
					t.Errorf("%s denied: got %v, want that error", call, p.err)
				}
			case <-time.After(time.Minute):
				t.Errorf("%s denied: got nothing in a minute, want an error", call)
			}
			p.cancel()
		}
	})
}

// Workers come, go and are killed at any moment, and shards split: everything counts once.
func TestKilledWorkers(t *testing.T) {
	t.Parallel()
	for seed := range schedules.Seeds(t, 10) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 3))
			s, table := streamfake.New("s0", "s1"), dynamofake.New()
			open := map[string]string{"e0": "s0", "e1": "s1", "e2": "s0", "e3": "s1"} // where an entity's records go
			entities := slices.Sorted(maps.Keys(open))
			shards := 2
			var workers []*process
			for range 60 {
				for range r.IntN(40) {
					e := entities[r.IntN(len(entities))]
					s.Take(open[e], e, time.Now(), 1+r.Int64N(100))
				}
				switch what := r.IntN(8); {
				case what < 2 && len(workers) < 4:
					workers = append(workers, start(t, s, table))
				case what == 2 && len(workers) > 0:
					i := r.IntN(len(workers))
					workers[i].kill()
					workers = slices.Delete(workers, i, i+1)
				case what == 3 && len(workers) > 0:
					i := r.IntN(len(workers))
					workers[i].stop()
					workers = slices.Delete(workers, i, i+1)
				case what == 4 && shards < 12:
					from := open[entities[r.IntN(len(entities))]]
					a, b := fmt.Sprintf("s%d", shards), fmt.Sprintf("s%d", shards+1)
					shards += 2
					s.Split(from, a, b)
					for i, e := range entities {
						if open[e] == from {
							open[e] = []string{a, b}[i%2]
						}
					}
				}
				wait(time.Duration(r.IntN(4000)) * time.Millisecond)
			}
			for _, w := range workers {
				w.kill()
			}
			once(t, s, &process{Table: table})
			wantUsed(t, s, table, entities...)
			if t.Failed() {
				t.Errorf("seed %d", seed)
			}
		})
	}
}
