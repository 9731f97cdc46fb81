package dynamostore_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/faultproxy"
	"github.com/zeroae/zael/internal/testrig/schedules"
)

// leavingSeed is the environment variable that replays the tests of callers that
// leave: the same callers leave after the same times, and meet the same faults.
const leavingSeed = "ZAEL_DYNAMO_LEAVING_SEED"

func seedOfLeaving(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(1)
	if schedules.Long(t) {
		seed = rand.Uint64()
	}
	if text := os.Getenv(leavingSeed); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s: %v", leavingSeed, err)
		}
	}
	t.Logf("%s=%d", leavingSeed, seed)
	return seed
}

// patientLimiter is a process that waits for as long as an engine on a busy machine
// takes: whoever leaves early does so by its own context.
func patientLimiter(t *testing.T, endpoint, table string) (*zael.Limiter, *dynamostore.Store) {
	t.Helper()
	c, wire := clientOf(endpoint)
	t.Cleanup(wire.CloseIdleConnections)
	s, err := dynamostore.New(c, table, &dynamostore.Config{CallTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	l, err := zael.New(s, &zael.Config{Timeout: time.Hour, CloseStore: true})
	if err != nil {
		t.Fatal(err)
	}
	return l, s
}

// leaver returns the context of a caller that leaves within most: by its deadline,
// or because somebody cancels it.
func leaver(ctx context.Context, rng *rand.Rand, most time.Duration) (context.Context, context.CancelFunc) {
	after := time.Duration(rng.Int64N(int64(most)))
	if rng.IntN(2) == 0 {
		return context.WithTimeout(ctx, after)
	}
	ctx, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(after, cancel)
	return ctx, func() { timer.Stop(); cancel() }
}

// A charge is what a bucket's counters say: tokens, net, and takes.
type charge struct{ tokens, takes int64 }

// chargesOf reads the counters of buckets by the names of their entities.
func chargesOf(t *testing.T, c *dynamodb.Client, table string, entities []string) map[string]charge {
	t.Helper()
	charges := map[string]charge{}
	number := func(v types.AttributeValue) int64 {
		n, ok := v.(*types.AttributeValueMemberN)
		if !ok {
			return 0
		}
		value, err := strconv.ParseInt(n.Value, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	for some := range slices.Chunk(entities, 100) {
		var keys []map[string]types.AttributeValue
		for _, entity := range some {
			keys = append(keys, map[string]types.AttributeValue{
				"PK": &types.AttributeValueMemberS{Value: "E#" + entity}, "SK": &types.AttributeValueMemberS{Value: "B#r"},
			})
		}
		out, err := c.BatchGetItem(t.Context(), &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{
			table: {Keys: keys, ConsistentRead: aws.Bool(true)},
		}})
		if err != nil || len(out.UnprocessedKeys) > 0 {
			t.Fatalf("reading the buckets: got %v, %d left out", err, len(out.UnprocessedKeys))
		}
		for _, item := range out.Responses[table] {
			pk, _ := item["PK"].(*types.AttributeValueMemberS)
			charges[strings.TrimPrefix(pk.Value, "E#")] = charge{number(item["c_n"]), number(item["e"])}
		}
	}
	return charges
}

// A leavingProxy stands before the engine. The faults of a request follow from the
// seed and from what it is, whenever it comes.
type leavingProxy struct {
	*faultproxy.Proxy
	seed   uint64
	faults []faultproxy.Fault
	share  int // of 100 requests that meet a fault

	failed atomic.Int64 // requests that the engine itself did not answer, as it does on a busy machine

	mu   sync.Mutex
	seen map[string]uint64 // requests of a kind on a bucket
}

func newLeavingProxy(t *testing.T, seed uint64, share int, faults ...faultproxy.Fault) *leavingProxy {
	t.Helper()
	p := &leavingProxy{seed: seed, share: share, faults: faults, seen: map[string]uint64{}}
	var err error
	p.Proxy, err = faultproxy.New(engine.Endpoint(t), &faultproxy.Config{Plan: p.plan, Seen: func(x faultproxy.Exchange) {
		if x.Action.Fault.Applies() && (x.Status == 0 || x.Status >= http.StatusInternalServerError || x.Left) { // not in time, or not at all
			p.failed.Add(1)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *leavingProxy) plan(header http.Header, body []byte) faultproxy.Action {
	if p.share == 0 {
		return faultproxy.Action{}
	}
	fw, _ := parseUpdate(header, body)
	what := header.Get("X-Amz-Target") + fw.entity + strconv.FormatInt(fw.event, 10)
	p.mu.Lock()
	n := p.seen[what]
	p.seen[what]++
	p.mu.Unlock()
	h := fnv.New64a()
	_, _ = h.Write([]byte(what))
	rng := rand.New(rand.NewPCG(p.seed, h.Sum64()+n))
	if rng.IntN(100) >= p.share {
		return faultproxy.Action{}
	}
	return faultproxy.Action{Fault: p.faults[rng.IntN(len(p.faults))], Delay: time.Duration(rng.Int64N(int64(50 * time.Millisecond)))}
}

// Callers leave while their take is in flight, each on a bucket of its own; every
// fifth stays. What was taken for those that left is given back, so that the tokens
// and the takes that stay are those of callers that were told that they have them.
// Where answers are lost some may stay, and Stats counts each.
func TestLeaversLoseNothing(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		callers int
		most    time.Duration // that a caller stays
		share   int           // of 100 requests that meet a fault
		faults  []faultproxy.Fault
		lost    bool // answers are
	}{
		"no faults":            {callers: 40, most: 4 * time.Millisecond},
		"late":                 {callers: 40, most: 40 * time.Millisecond, share: 100, faults: []faultproxy.Fault{faultproxy.LateReply, faultproxy.LateRequest}},
		"8 % of answers lost":  {callers: 40, most: 8 * time.Millisecond, share: 8, faults: []faultproxy.Fault{faultproxy.DropReply, faultproxy.ResetReply, faultproxy.CutReply, faultproxy.FailAfter}, lost: true},
		"8 % of requests lost": {callers: 40, most: 8 * time.Millisecond, share: 8, faults: []faultproxy.Fault{faultproxy.LoseRequest}, lost: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const atOnce = 8
			seed := seedOfLeaving(t)
			if schedules.Long(t) {
				tt.callers *= 10
			}
			c, _ := newClient(t)
			table := newTable(t, c)
			proxy := newLeavingProxy(t, seed, tt.share, tt.faults...)
			l, s := patientLimiter(t, proxy.URL(), table)
			entities := make([]string, tt.callers)
			for i := range entities {
				entities[i] = fmt.Sprint("e", i)
			}
			allow := func(ctx context.Context, entity string) error {
				return l.Allow(ctx, zael.Request{Entity: entity, Resource: "r", Limits: []zael.Limit{zael.PerHour("n", 10)}, Consume: zael.Amounts{"n": 3}})
			}
			if err := allow(t.Context(), "first"); err != nil { // and the engine's time is known
				t.Fatal(err)
			}
			told := make([]bool, tt.callers)
			next := new(atomic.Int64)
			var wg sync.WaitGroup
			for range atOnce {
				wg.Go(func() {
					for i := int(next.Add(1)) - 1; i < tt.callers; i = int(next.Add(1)) - 1 {
						most := tt.most
						if i%5 == 0 {
							most = time.Hour
						}
						ctx, cancel := leaver(t.Context(), rand.New(rand.NewPCG(seed, uint64(i))), most)
						err := allow(ctx, entities[i])
						if told[i] = err == nil; err != nil && ctx.Err() == nil && !errors.Is(err, zael.ErrUnavailable) {
							t.Errorf("caller %d: got %v, want nil or what its context says", i, err)
						}
						cancel()
					}
				})
			}
			wg.Wait()
			if err := l.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			charges := chargesOf(t, c, table, entities)
			left, stand := 0, 0
			for i, told := range told {
				got, want := charges[entities[i]], charge{}
				if told {
					want = charge{3, 1}
				} else {
					left++
				}
				switch {
				case got == want:
				case told && got.tokens < want.tokens:
					t.Errorf("caller %d, told that it took 3: got %+v charged", i, got)
				default:
					stand++
				}
			}
			stats := s.Stats()
			t.Logf("%d of %d left; %d charges stand; the engine did not answer %d requests; %+v", left, tt.callers, stand, proxy.failed.Load(), stats)
			if left < tt.callers/20 || stats.Undone < 10 {
				t.Errorf("%d callers left and %d takes were given back: too few to tell anything", left, stats.Undone)
			}
			if unanswered := int64(stats.Unanswered); !tt.lost && unanswered > proxy.failed.Load() {
				t.Errorf("writes whose answer was not heard: got %d, want the %d of the engine's at most", unanswered, proxy.failed.Load())
			}
			if stand > int(stats.Stranded+stats.Repeated) {
				t.Errorf("charges that nobody holds: got %d, want those at most that Stats has as stranded (%d) or repeated (%d)", stand, stats.Stranded, stats.Repeated)
			}
		})
	}
}

// A cascade whose callers leave takes from child and parent alike: what children
// and parent are charged is what callers were told that they took.
func TestLeaversOfACascade(t *testing.T) {
	t.Parallel()
	const processes, children = 6, 12
	callers := int64(240)
	if schedules.Long(t) {
		callers = 5000
	}
	seed := seedOfLeaving(t)
	c, _ := newClient(t)
	table := newTable(t, c)
	proxy := newLeavingProxy(t, seed, 0)
	limiters := make([]*zael.Limiter, processes)
	stores := make([]*dynamostore.Store, processes)
	for i := range limiters {
		limiters[i], stores[i] = patientLimiter(t, proxy.URL(), table)
	}
	entities := make([]string, children+1)
	entities[children] = "parent"
	if _, err := limiters[0].CreateEntity(t.Context(), zael.Entity{ID: "parent"}); err != nil {
		t.Fatal(err)
	}
	for i := range children {
		entities[i] = fmt.Sprint("child-", i)
		if _, err := limiters[0].CreateEntity(t.Context(), zael.Entity{ID: entities[i], ParentID: "parent"}); err != nil {
			t.Fatal(err)
		}
	}
	var told [children + 1]atomic.Int64
	var left atomic.Int64
	next := new(atomic.Int64)
	var wg sync.WaitGroup
	for p := range 2 * processes {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < callers; i = next.Add(1) - 1 {
				rng := rand.New(rand.NewPCG(seed, uint64(i)))
				ctx, cancel := t.Context(), func() {}
				if rng.IntN(10) < 3 {
					ctx, cancel = leaver(ctx, rng, 4*time.Millisecond)
				}
				k := rng.IntN(children)
				err := limiters[p%processes].Allow(ctx, zael.Request{
					Entity: entities[k], Resource: "r", Cascade: true, Limits: []zael.Limit{zael.PerHour("n", callers/8)},
					ParentLimits: []zael.Limit{zael.PerHour("n", callers/2)}, Consume: zael.Amounts{"n": 1},
				})
				switch {
				case err == nil:
					told[k].Add(1)
					told[children].Add(1)
				case ctx.Err() != nil:
					left.Add(1)
				case !errors.Is(err, zael.ErrExceeded) && !errors.Is(err, zael.ErrContention) && !errors.Is(err, zael.ErrUnavailable):
					t.Errorf("caller %d: got %v, want it admitted or refused", i, err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	var unanswered, undone, beside uint64
	for i, l := range limiters {
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		stats := stores[i].Stats()
		unanswered, undone, beside = unanswered+stats.Unanswered, undone+stats.Undone, beside+stats.Stranded+stats.Repeated
	}
	charges := chargesOf(t, c, table, entities)
	for i, entity := range entities {
		got, want := charges[entity], told[i].Load()
		if got.takes != got.tokens || got.tokens < want || got.tokens > want+int64(beside) {
			t.Errorf("%s: got %+v charged, want the %d that its callers were told of, and %d at most that Stats has as stranded or repeated", entity, got, want, beside)
		}
	}
	failed := proxy.failed.Load()
	t.Logf("%d admitted, %d left, %d takes given back; the engine did not answer %d requests, and %d charges may stand", told[children].Load(), left.Load(), undone, failed, beside)
	if int64(unanswered) > failed {
		t.Errorf("writes whose answer was not heard: got %d, want the %d of the engine's at most", unanswered, failed)
	}
	if left.Load() < callers/50 || undone == 0 || told[children].Load() < callers/4 {
		t.Error("too few to tell anything")
	}
}
