package worker_test

import (
	"errors"
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
	"github.com/zeroae/zael/internal/testrig/streamfake"
	"github.com/zeroae/zael/internal/usage/stream"
)

// leaseOf returns the shard whose lease a call writes, and what it does; "" for others.
func leaseOf(in *dynamodb.UpdateItemInput) (shard, step string) {
	if in.ExpressionAttributeNames["#beat"] == "" {
		return "", ""
	}
	sk := in.Key["SK"].(*tabletypes.AttributeValueMemberS).Value
	shard = sk[strings.LastIndexByte(sk, '#')+1:]
	switch condition := *in.ConditionExpression; {
	case condition == "attribute_not_exists(#beat)":
		return shard, "create"
	case condition == "#owner = :me":
		return shard, "renew"
	case strings.Contains(*in.UpdateExpression, "#done"):
		return shard, "abandon"
	default:
		return shard, "claim"
	}
}

// A lease that cannot be written does not affect other shards: the worker renews its leases
// and claims new ones.
func TestErrorOfOneShard(t *testing.T) {
	t.Parallel()
	throttled := &smithy.GenericAPIError{Code: "ProvisionedThroughputExceededException", Fault: smithy.FaultClient}
	for _, step := range []string{"create", "claim", "renew", "abandon"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, table := streamfake.New("a", "b", "bad", "c", "z"), dynamofake.New()
				before := start(t, s, table) // leaves leases
				wait(3 * lease)
				before.kill()
				if step == "create" {
					table = dynamofake.New()
				}
				if step == "abandon" {
					s.Drop("bad")
					wait(stream.Retention)
				}
				var mu sync.Mutex
				renewed := map[string]int{}
				p := &process{Table: table, fail: func(in *dynamodb.UpdateItemInput) error {
					shard, at := leaseOf(in)
					if shard == "bad" && at == step {
						return throttled
					}
					mu.Lock()
					defer mu.Unlock()
					if at == "renew" {
						renewed[shard]++
					}
					return nil
				}}
				run(t, s, p, false)
				wait(4 * lease)
				mu.Lock()
				clear(renewed)
				mu.Unlock()
				s.Split("c", "d", "e")
				for shard, entity := range map[string]string{"a": "ea", "b": "eb", "d": "ed", "e": "ee", "z": "ez"} {
					s.Take(shard, entity, time.Now(), 5)
				}
				wait(2 * lease)
				wantUsed(t, s, table, "ea", "eb", "ed", "ee", "ez")
				p.stop()
				for _, shard := range []string{"a", "b", "d", "e", "z"} {
					if renewed[shard] < 3 {
						t.Errorf("the lease of %s: got %d renewals in two leases, want 3 or more", shard, renewed[shard])
					}
				}
				if !p.log.has("the table or its stream does not answer") {
					t.Error("the log does not have the error")
				}
			})
		})
	}
}

// A write of a lease or a dead letter that is never answered does not affect other shards,
// and is repeated.
func TestWriteWithoutAnswer(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"round", "renew", "finish", "letter"} {
		synctest.Test(t, func(t *testing.T) {
			s, table := streamfake.New("a", "b"), dynamofake.New()
			var armed, hung atomic.Bool
			var renewed, others atomic.Int64
			p := &process{Table: table, hang: func(in *dynamodb.UpdateItemInput) bool {
				shard, step := leaseOf(in)
				switch {
				case shard == "b":
					others.Add(1)
					return false
				case step == "renew" && strings.Contains(*in.UpdateExpression, "#done"):
					step = "finish"
				case step == "renew":
					renewed.Add(1)
				case in.ExpressionAttributeNames["#reason"] != "":
					step = "letter"
				}
				return (what == step || what == "round" && step == "renew") && armed.Load() && hung.CompareAndSwap(false, true)
			}}
			run(t, s, p, false)
			wait(lease)
			for n := renewed.Load(); renewed.Load() == n; {
				wait(10 * time.Millisecond)
			}
			wait(lease / 6) // a round is over: the reader writes before the next one
			armed.Store(true)
			if what == "round" {
				wait(lease / 3)
			} else {
				s.Take("a", "ea", time.Now(), 5)
			}
			switch what {
			case "finish":
				s.Split("a", "c")
			case "letter":
				s.Change(s.Take("a", "ea", time.Now(), 5), func(r *types.StreamRecord) {
					r.NewImage["e"] = &types.AttributeValueMemberN{Value: "1.5"}
				})
			}
			wait(lease / 6)
			if !hung.Load() {
				t.Fatalf("%s: got no such write", what)
			}
			n := others.Load()
			wait(2 * lease)
			if more := others.Load() - n; more < 4 {
				t.Errorf("%s: the other shard's lease was renewed %d times in two leases, want 4 or more", what, more)
			}
			wait(time.Minute)
			if what == "finish" {
				s.Take("c", "ea", time.Now(), 5)
			}
			n = renewed.Load()
			wait(lease)
			if more := renewed.Load() - n; more < 2 && what != "finish" {
				t.Errorf("%s: the shard's lease was renewed %d times a minute later, want 2 or more", what, more)
			}
			if got, want := p.worker.Stats().DeadLetters, int64(0); (what == "letter") != (got > want) {
				t.Errorf("%s: got %d dead letters", what, got)
			}
			if got := used(t, table, "ea")["ea events"]; what == "finish" && got != 2 {
				t.Errorf("%s: got %d events counted, want 2", what, got)
			}
			p.stop()
		})
	}
}

// A shard that another worker sees first is not taken for one that is gone.
func TestNewShardIsNotGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, table := streamfake.New("a"), dynamofake.New()
		var unread, slow atomic.Bool
		s.Fail = func(call string) error {
			if call == "GetRecords" && unread.Load() {
				return errors.New("no answer")
			}
			return nil
		}
		p := &process{Table: table, load: func() {
			if slow.CompareAndSwap(true, false) {
				s.Split("a", "b")
				wait(lease / 2)
			}
		}}
		run(t, s, p, false)
		wait(lease)
		other := start(t, s, table)
		wait(lease)
		unread.Store(true) // so that nobody claims the new shard yet
		slow.Store(true)
		wait(lease)
		unread.Store(false)
		wait(lease)
		s.Take("b", "eb", time.Now(), 5)
		wait(2 * lease)
		wantUsed(t, s, table, "eb")
		for _, p := range []*process{p, other} {
			p.stop()
			if n := p.worker.Stats().Trimmed; n > 0 {
				t.Errorf("Trimmed: got %d, want 0", n)
			}
		}
	})
}

// A worker whose access is denied ends, even while another shard has an error that may pass.
func TestPermanentAmongErrors(t *testing.T) {
	t.Parallel()
	denied := &smithy.GenericAPIError{Code: "AccessDeniedException", Fault: smithy.FaultClient}
	throttled := &smithy.GenericAPIError{Code: "ProvisionedThroughputExceededException", Fault: smithy.FaultClient}
	for _, what := range []string{"renew", "count"} {
		synctest.Test(t, func(t *testing.T) {
			s, table := streamfake.New("a", "b", "c", "d"), dynamofake.New()
			var broken atomic.Bool
			p := &process{Table: table, fail: func(in *dynamodb.UpdateItemInput) error {
				shard, at := leaseOf(in)
				switch {
				case !broken.Load():
					return nil
				case what == at && shard == "d" || what == "count" && shard == "":
					return denied
				case at == "renew":
					return throttled
				}
				return nil
			}}
			run(t, s, p, false)
			wait(3 * lease)
			broken.Store(true)
			s.Take("a", "e1", time.Now(), 5)
			select {
			case <-p.ended:
				if !errors.Is(p.err, denied) {
					t.Errorf("%s: got %v, want %v", what, p.err, denied)
				}
			case <-time.After(3 * time.Minute):
				t.Errorf("%s: the worker still runs after 3 minutes, want an error", what)
				p.kill()
			}
		})
	}
}

// A shard of which nothing was counted has no checkpoint by which a loss could be noticed.
// If nobody has read it for longer than the stream keeps records, a loss is reported.
func TestTrimmedWithoutCheckpoint(t *testing.T) {
	t.Parallel()
	for away, want := range map[time.Duration]int64{23 * time.Hour: 0, 25 * time.Hour: 1} {
		synctest.Test(t, func(t *testing.T) {
			s, table := streamfake.New("a"), dynamofake.New()
			first := start(t, s, table)
			wait(lease) // there is nothing to count
			first.stop()
			s.Take("a", "e1", time.Now(), 5)
			wait(away)
			if want > 0 {
				s.Trim("a", 1)
			}
			s.Take("a", "e1", time.Now(), 5)
			for _, want := range []int64{want, 0} {
				p := &process{Table: table}
				once(t, s, p)
				if got := p.worker.Stats().Trimmed; got != want || p.log.has("nobody has read") != (want > 0) {
					t.Errorf("after %v without a worker: got %d losses, want %d; the log:\n%s", away, got, want, p.log.text.String())
				}
			}
		})
	}
}
