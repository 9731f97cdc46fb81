package usage_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/dynamofake"
	"github.com/zeroae/zael/internal/usage"
)

// fewHistories are run always, the same ones; others are drawn at random.
const fewHistories = 60

var (
	modelSeed  = flag.Uint64("usage.seed", 0, "run this one history of TestModel")
	modelCount = flag.Int("usage.histories", fewHistories, "how many histories TestModel runs")
)

// TestModel sends random histories of buckets through everything that may happen
// to their records, and compares usage with what was taken, to the token:
// batches cut anywhere, lost before or after they were written, retried, retried
// with more and with half, given up and redriven (twice, and at the same time),
// positions that go back, and workers that overlap.
//
// In half of the histories items remember few holes and days pass. There each
// change also takes a token of a limit of its own, so that usage tells of each
// record how often it is counted: once, or not at all if it is reported.
func TestModel(t *testing.T) {
	t.Parallel()
	if *modelSeed != 0 {
		runModel(t, *modelSeed)
		return
	}
	for i := range uint64(*modelCount) {
		seed := i + 1
		if *modelCount != fewHistories {
			seed = rand.Uint64()
		}
		runModel(t, seed)
		if t.Failed() {
			t.Fatalf("replay it with -usage.seed=%d", seed)
		}
	}
}

// A faulty table loses calls, before or after it does them.
type faulty struct {
	*dynamofake.Table
	mu    sync.Mutex
	r     *rand.Rand
	share float64 // of calls that are lost
}

func (f *faulty) fault(share float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.share = share
}

var errLost = &smithy.GenericAPIError{Code: "InternalServerError", Fault: smithy.FaultServer}

func (f *faulty) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	f.mu.Lock()
	lost, before := f.r.Float64() < f.share, f.r.IntN(2) == 0
	f.mu.Unlock()
	if lost && before {
		return nil, errLost
	}
	out, err := f.Table.UpdateItem(ctx, in, opts...)
	if lost {
		return nil, errLost
	}
	return out, err
}

// A model is one history and what becomes of it.
type model struct {
	r       *rand.Rand
	table   *faulty
	counter *usage.Counter
	shards  [][]usage.Record
	dead    []letter
	bad     map[string]bool // sequence numbers of records that cannot be read yet
	truth   map[string]int64
	forgets bool
	takes   []taken
}

// A taken is what one record adds to usage.
type taken struct {
	sequence string
	place    string // with window and start
	events   int
	amounts  map[string]int
}

// A letter is a range of a shard that was given up.
type letter struct{ shard, from, to int }

func runModel(t *testing.T, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	m := &model{
		r: r, table: &faulty{Table: dynamofake.New(), r: rand.New(rand.NewPCG(seed, 2))},
		bad: map[string]bool{}, truth: map[string]int64{},
	}
	m.counter = newCounter(t, m.table, zael.Hourly, zael.Daily, zael.Monthly)
	if m.forgets = seed%2 == 0; m.forgets {
		m.counter.SetMostHoles(1 + r.IntN(3))
	}
	m.history()
	m.table.fault(r.Float64() * 0.4)
	for shard := range m.shards {
		m.deliver(shard)
	}
	m.table.fault(0)
	clear(m.bad)
	reported := map[string]bool{}
	for _, l := range m.dead {
		m.redrive(t, l, reported)
	}
	got := map[string]int64{}
	for _, namespace := range []string{"", "team"} {
		for _, entity := range entities {
			for _, window := range []zael.Window{zael.Hourly, zael.Daily, zael.Monthly} {
				for where, n := range read(t, m.table.Table, namespace, zael.UsageQuery{Entity: entity, Window: window}) {
					got[namespace+" "+where] = n
				}
			}
		}
	}
	m.sum(t, got, reported)
	if maps.Equal(got, m.truth) {
		return
	}
	t.Errorf("seed %d:", seed)
	for _, where := range slices.Sorted(maps.Keys(m.truth)) {
		if got[where] != m.truth[where] {
			t.Errorf("%s: got %d, want %d", where, got[where], m.truth[where])
		}
	}
	for where := range got {
		if _, ok := m.truth[where]; !ok {
			t.Errorf("%s: got %d, want nothing", where, got[where])
		}
	}
}

var entities = []string{"e0", "e1", "e2"}

// history makes the records, of one shard or more.
func (m *model) history() {
	m.shards = make([][]usage.Record, 1+m.r.IntN(2))
	at := t0.Add(-time.Duration(m.r.IntN(120)) * time.Minute)
	sequence := int64(m.r.IntN(950))
	buckets := map[string]usage.Image{}
	life := 0
	for range 20 + m.r.IntN(120) {
		step := time.Duration(m.r.IntN(1+m.r.IntN(40))) * time.Minute / 2
		if m.forgets {
			step *= 20
		}
		at = at.Add(step)
		sequence += 1 + int64(m.r.IntN(3))
		namespace, entity := []string{"", "team"}[m.r.IntN(2)], entities[m.r.IntN(len(entities))]
		if m.forgets {
			namespace, entity = "", entities[0] // more of each bucket
		}
		pk, sk := "E#"+entity, "B#"+[]string{"gpt-4", "a/b"}[m.r.IntN(2)]
		prefix := namespace
		if namespace != "" {
			pk = namespace + "/" + pk
		}
		was := buckets[pk+sk]
		is := maps.Clone(was)
		events, amounts := 0, map[string]int{}
		what := m.r.IntN(10)
		if was == nil {
			life++
			is = usage.Image{"b": strconv.Itoa(life)}
			what = 9
		}
		switch what {
		case 0: // expires
			is = nil
		case 1: // another definition
		case 2, 3: // a give-back or a settle
			amounts[[]string{"rpm", "tpm"}[m.r.IntN(2)]] = m.r.IntN(9) - 5
		case 4: // one that is undone
			events, amounts["rpm"] = -1, -2
		default:
			events = 1
			amounts["rpm"] = 1 + m.r.IntN(2)
			if m.r.IntN(2) == 0 {
				amounts["tpm"] = m.r.IntN(2000)
			}
		}
		record := usage.Record{Sequence: strconv.FormatInt(sequence, 10), Created: at, PK: pk, SK: sk, Old: was}
		if is != nil {
			bump(is, "e", events)
			for name, n := range amounts {
				bump(is, "c_"+name, n)
			}
			if m.forgets && (events != 0 || len(amounts) > 0) {
				amounts["id"+record.Sequence] = 1
				bump(is, "c_id"+record.Sequence, 1)
			}
			m.taken(record.Sequence, prefix+" "+entity+" "+strings.TrimPrefix(sk, "B#"), at, events, amounts)
		}
		record.New = is
		buckets[pk+sk] = maps.Clone(is)
		if is == nil {
			delete(buckets, pk+sk)
		}
		if odds := m.r.IntN(100); odds == 0 || m.forgets && odds < 10 {
			m.bad[record.Sequence] = true
		}
		shard := int(pk[len(pk)-1]+sk[2]) % len(m.shards)
		m.shards[shard] = append(m.shards[shard], record)
	}
}

func bump(im usage.Image, name string, n int) {
	if n == 0 && name != "e" {
		return
	}
	old, _ := strconv.Atoi(im[name])
	im[name] = strconv.Itoa(old + n)
}

// taken notes what usage has to say.
func (m *model) taken(sequence, where string, at time.Time, events int, amounts map[string]int) {
	amounts = maps.Clone(amounts)
	maps.DeleteFunc(amounts, func(_ string, n int) bool { return n == 0 })
	if events == 0 && len(amounts) == 0 {
		return
	}
	for _, w := range []zael.Window{zael.Hourly, zael.Daily, zael.Monthly} {
		start, _ := w.Bounds(at)
		m.takes = append(m.takes, taken{sequence, fmt.Sprintf("%s %s %s ", where, w, start.Format("01-02T15")), events, amounts})
	}
}

// sum adds up the truth: of all, but for what usage says itself that it has not,
// and that is reported.
func (m *model) sum(t *testing.T, got map[string]int64, reported map[string]bool) {
	t.Helper()
	for _, k := range m.takes {
		if m.forgets && got[k.place+"id"+k.sequence] == 0 {
			if !reported[k.sequence] {
				t.Errorf("%s: %s is neither counted nor reported", k.place, k.sequence)
			}
			continue
		}
		m.truth[k.place+"events"] += int64(k.events)
		for name, n := range k.amounts {
			m.truth[k.place+name] += int64(n)
		}
	}
}

// deliver brings a shard to the counter as a mapping of the function or a worker
// does, with all that may go wrong.
func (m *model) deliver(shard int) {
	records := m.shards[shard]
	for position, tries := 0, 0; position < len(records); {
		end := min(len(records), position+1+m.r.IntN(12))
		if m.r.IntN(8) == 0 { // another worker, on an older or newer piece
			from := max(0, position-m.r.IntN(20))
			to := min(len(records), from+1+m.r.IntN(30))
			var wg sync.WaitGroup
			wg.Go(func() { m.count(context.Background(), shard, from, to) })
			m.count(context.Background(), shard, position, end)
			wg.Wait()
		}
		ctx, cancel := context.WithCancel(context.Background())
		if m.r.IntN(10) == 0 {
			cancel() // killed before it writes anything
		}
		failed := m.count(ctx, shard, position, end)
		cancel()
		switch {
		case failed >= 0 && tries > 3+m.r.IntN(3): // given up: the batch from the first failure on
			m.dead = append(m.dead, letter{shard, failed, end})
			position, tries = end, 0
		case failed >= 0:
			tries++
			if m.r.IntN(2) == 0 {
				position = failed
			}
		case m.r.IntN(10) == 0: // killed before it could note its position
			position = max(0, position-m.r.IntN(10))
		default:
			position, tries = end, 0
		}
		if m.r.IntN(6) == 0 && len(m.dead) > 0 { // a redrive in between, that may fail too
			l := m.dead[m.r.IntN(len(m.dead))]
			var wg sync.WaitGroup
			wg.Go(func() { m.count(context.Background(), l.shard, l.from, l.to) })
			m.count(context.Background(), l.shard, l.from, l.to)
			wg.Wait()
		}
	}
}

// count counts a range and returns where it failed first, -1 if nowhere.
func (m *model) count(ctx context.Context, shard, from, to int) int {
	batch := slices.Clone(m.shards[shard][from:to])
	for i := range batch {
		if m.bad[batch[i].Sequence] {
			batch[i].New = usage.Image{"e": "many"}
		}
	}
	r := m.counter.Count(ctx, batch)
	if len(r.Failures) == 0 {
		return -1
	}
	return from + slices.IndexFunc(batch, func(b usage.Record) bool { return b.Sequence == r.Failures[0].Sequence })
}

func (m *model) redrive(t *testing.T, l letter, reported map[string]bool) {
	t.Helper()
	for _, f := range m.counter.Count(t.Context(), m.shards[l.shard][l.from:l.to]).Failures {
		if reported[f.Sequence] = true; !m.forgets || !errors.Is(f.Err, usage.ErrUncountable) {
			t.Errorf("redriving: got %+v, want no failures", f)
		}
	}
}

// TestModelFinds: the model sees what a Counter without its guard would do.
func TestModelFinds(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	h := newHistory("e1")
	r := h.to("b", "x", "e", 1, "c_rpm", 1)
	c := newCounter(t, unguarded{table}, zael.Hourly)
	for range 2 {
		if got := c.Count(t.Context(), []usage.Record{r}); len(got.Failures) > 0 {
			t.Fatal(errors.Join(got.Failures[0].Err))
		}
	}
	if got := read(t, table, "", zael.UsageQuery{Entity: "e1"})["e1 gpt-4 hourly 01-31T13 rpm"]; got != 2 {
		t.Errorf("without a guard: got %d, want 2", got)
	}
}

// unguarded applies every write.
type unguarded struct{ *dynamofake.Table }

func (u unguarded) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	condition := *in.ConditionExpression + " OR attribute_exists(PK)"
	in.ConditionExpression = &condition
	return u.Table.UpdateItem(ctx, in, opts...)
}
