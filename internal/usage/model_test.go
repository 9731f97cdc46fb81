package usage_test

import (
	"context"
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
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/internal/usage"
)

// TestModel sends random histories of buckets through everything that may happen to their
// records, and compares usage with what was taken, to the token: batches that are cut
// anywhere, lost before or after they were written, retried, retried with more and in
// half, given up and redriven (twice, and concurrently), checkpoints that go back, and
// workers that overlap. Buckets expire, are created again and lose counters; creation times
// fall a little.
//
// In half of the histories some records are never delivered. Usage then has all changes
// between the first and the last that were, of each life of a bucket in each window.
func TestModel(t *testing.T) {
	t.Parallel()
	for seed := range schedules.Seeds(t, 40) {
		runModel(t, seed)
	}
}

// A faulty table loses calls, before or after they are applied.
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
	bad     map[string]bool // sequence numbers of records that cannot be decoded yet
	lost    map[string]bool // and of those that are never delivered
	takes   map[string][]taken
}

// A taken is what a change took.
type taken struct {
	sequence string
	amounts  map[string]int // "events" among them
}

// A letter is a range of a shard that was given up.
type letter struct{ shard, from, to int }

var windows = []zael.Window{zael.Hourly, zael.Daily, zael.Monthly}

func runModel(t *testing.T, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	m := &model{
		r: r, table: &faulty{Table: dynamofake.New(), r: rand.New(rand.NewPCG(seed, 2))},
		bad: map[string]bool{}, lost: map[string]bool{}, takes: map[string][]taken{},
	}
	m.counter = newCounter(t, m.table, windows...)
	m.history(seed%2 == 0)
	m.table.fault(r.Float64() * 0.4)
	for shard := range m.shards {
		m.deliver(shard)
	}
	m.table.fault(0)
	clear(m.bad)
	for _, l := range m.dead {
		if r := m.counter.Count(t.Context(), m.delivered(l.shard, l.from, l.to)); len(r.Failures) > 0 {
			t.Errorf("redriving: got %+v, want no failures", r)
		}
	}
	got := map[string]int64{}
	for _, namespace := range []string{"", "team"} {
		for _, entity := range entities {
			for _, window := range windows {
				for where, n := range read(t, m.table.Table, namespace, zael.UsageQuery{Entity: entity, Window: window}) {
					if n != 0 {
						got[namespace+" "+where] = n
					}
				}
			}
		}
	}
	want := m.truth()
	if maps.Equal(got, want) {
		return
	}
	t.Errorf("seed %d:", seed)
	both := maps.Clone(got)
	maps.Copy(both, want)
	for _, where := range slices.Sorted(maps.Keys(both)) {
		if got[where] != want[where] {
			t.Errorf("%s: got %d, want %d", where, got[where], want[where])
		}
	}
}

var entities = []string{"e0", "e1", "e2"}

// history makes the records, of one shard or more.
func (m *model) history(loses bool) {
	m.shards = make([][]usage.Record, 1+m.r.IntN(2))
	at := t0.Add(-time.Duration(m.r.IntN(120)) * time.Minute)
	sequence := int64(m.r.IntN(950))
	buckets := map[string]usage.Image{}
	births := 0
	for range 20 + m.r.IntN(120) {
		step := time.Duration(m.r.IntN(1+m.r.IntN(40))) * time.Minute / 2
		if m.r.IntN(40) == 0 {
			step *= 100 // the next day
		}
		at = at.Add(step)
		sequence += 1 + int64(m.r.IntN(3))
		namespace, entity := []string{"", "team"}[m.r.IntN(2)], entities[m.r.IntN(len(entities))]
		pk, sk := "E#"+entity, "B#"+[]string{"gpt-4", "a/b"}[m.r.IntN(2)]
		prefix := namespace
		if namespace != "" {
			pk = namespace + "/" + pk
		}
		was := buckets[pk+sk]
		if was == nil {
			births++
		}
		is, amounts := m.change(was, births)
		created := at
		if back := at.Add(-time.Duration(m.r.IntN(30)) * time.Second); m.r.IntN(4) == 0 && back.Truncate(time.Hour).Equal(at.Truncate(time.Hour)) {
			created = back
		}
		record := usage.Record{Sequence: strconv.FormatInt(sequence, 10), Created: created, PK: pk, SK: sk, Old: was, New: is}
		if is != nil {
			is["v"] = nextVersion(was, is)
			m.note(&record, strings.Join([]string{prefix, entity, strings.TrimPrefix(sk, "B#")}, " "), amounts)
		}
		buckets[pk+sk] = maps.Clone(is)
		if is == nil {
			delete(buckets, pk+sk)
		}
		m.bad[record.Sequence] = m.r.IntN(100) < 3
		m.lost[record.Sequence] = loses && m.r.IntN(10) == 0
		shard := int(pk[len(pk)-1]+sk[2]) % len(m.shards)
		m.shards[shard] = append(m.shards[shard], record)
	}
}

// change returns what becomes of a bucket, and what the change takes.
func (m *model) change(was usage.Image, births int) (is usage.Image, amounts map[string]int) {
	is, amounts = maps.Clone(was), map[string]int{}
	what := m.r.IntN(12)
	if was == nil {
		is = usage.Image{"b": strconv.Itoa(births)}
		what = 11
	}
	switch what {
	case 0: // expires
		return nil, nil
	case 1: // another definition
	case 2, 3: // a give-back, a settle, or a charge of a limit that the bucket does not have
		amounts[[]string{"rpm", "tpm", "day"}[m.r.IntN(3)]] = m.r.IntN(9) - 5
	case 4: // a take that is undone
		amounts["events"], amounts["rpm"], amounts["i:tpm"] = -1, -2, -1
	case 5, 6: // a take that removes counters
		n := 0
		for _, name := range []string{"rpm", "tpm", "day"} {
			if _, ok := is["c_"+name]; ok && m.r.IntN(2) == 0 {
				delete(is, "c_"+name)
				delete(is, "i_"+name)
				n = 1
			}
		}
		bump(is, "r", n)
		amounts["events"], amounts["req"] = 1, 1
	default:
		amounts["events"], amounts["rpm"] = 1, 1+m.r.IntN(2)
		if m.r.IntN(2) == 0 {
			amounts["tpm"] = m.r.IntN(2000)
		}
		if m.r.IntN(3) == 0 { // and leaves a limit overdrawn
			amounts["i:tpm"] = 1
		}
	}
	for name, n := range amounts {
		if over, ok := strings.CutPrefix(name, "i:"); ok {
			bump(is, "i_"+over, n)
		} else if name == "events" {
			bump(is, "e", n)
		} else {
			bump(is, "c_"+name, n)
		}
	}
	return is, amounts
}

func bump(im usage.Image, name string, n int) {
	if n == 0 {
		return
	}
	old, _ := strconv.Atoi(im[name])
	im[name] = strconv.Itoa(old + n)
}

// note notes what a change took, by window and life.
func (m *model) note(r *usage.Record, where string, amounts map[string]int) {
	amounts = maps.Clone(amounts)
	maps.DeleteFunc(amounts, func(_ string, n int) bool { return n == 0 })
	if len(amounts) == 0 {
		return
	}
	for _, w := range windows {
		start, _ := w.Bounds(r.Created)
		life := strings.Join([]string{r.New["b"], r.New["r"]}, ".")
		place := fmt.Sprintf("%s %s %s #%s", where, w, start.Format("01-02T15"), life)
		m.takes[place] = append(m.takes[place], taken{r.Sequence, amounts})
	}
}

// truth returns what usage must be: of each life in each window, all changes from the first
// to the last that was delivered.
func (m *model) truth() map[string]int64 {
	truth := map[string]int64{}
	for place, takes := range m.takes {
		lost := func(k taken) bool { return m.lost[k.sequence] }
		for len(takes) > 0 && lost(takes[0]) {
			takes = takes[1:]
		}
		for len(takes) > 0 && lost(takes[len(takes)-1]) {
			takes = takes[:len(takes)-1]
		}
		where, _, _ := strings.Cut(place, "#")
		for _, k := range takes {
			for name, n := range k.amounts {
				truth[where+name] += int64(n)
			}
		}
	}
	maps.DeleteFunc(truth, func(_ string, n int64) bool { return n == 0 })
	return truth
}

// deliver sends a shard to the counter as Lambda or a worker does, with everything that may
// go wrong.
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

// delivered returns the records of a range that are ever delivered.
func (m *model) delivered(shard, from, to int) []usage.Record {
	return slices.DeleteFunc(slices.Clone(m.shards[shard][from:to]), func(r usage.Record) bool { return m.lost[r.Sequence] })
}

// count counts a range and returns the index of the first failure, -1 if there is none.
func (m *model) count(ctx context.Context, shard, from, to int) int {
	batch := m.delivered(shard, from, to)
	for i := range batch {
		if m.bad[batch[i].Sequence] && batch[i].New != nil {
			batch[i].New = usage.Image{"e": "many"}
		}
	}
	r := m.counter.Count(ctx, batch)
	if len(r.Failures) == 0 {
		return -1
	}
	return from + slices.IndexFunc(m.shards[shard][from:to], func(b usage.Record) bool { return b.Sequence == r.Failures[0].Sequence })
}

// The model notices a Counter that writes without its condition.
func TestModelFinds(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	h := newHistory("e1")
	first, second := h.to("b", "x", "e", 1, "c_rpm", 1), h.to("b", "x", "e", 2, "c_rpm", 2)
	c := newCounter(t, unguarded{table}, zael.Hourly)
	count(t, c, first, second)
	count(t, c, first)
	if got := read(t, table, "", zael.UsageQuery{Entity: "e1"})["e1 gpt-4 hourly 01-31T13 rpm"]; got != 1 {
		t.Errorf("without a condition: got %d, want 1", got)
	}
}

// unguarded applies every write.
type unguarded struct{ *dynamofake.Table }

func (u unguarded) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	condition := *in.ConditionExpression + " OR attribute_exists(PK)"
	in.ConditionExpression = &condition
	return u.Table.UpdateItem(ctx, in, opts...)
}
