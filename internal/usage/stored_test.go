package usage_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/internal/trial"
	"github.com/zeroae/zael/internal/usage"
)

// TestStored counts the histories that a store writes: leases kept, settled and given
// back, cascades, entities that are deleted and created again, buckets that expire, limits
// that change and are forgotten. Two counters with different windows count them in any
// order and with all faults, for a few days around the end of a month.
func TestStored(t *testing.T) {
	t.Parallel()
	for seed := range schedules.Seeds(t, 10) {
		runStored(t, seed)
	}
}

const streamShards = 3

// A streamed table records the changes of its items, as its stream does.
type streamed struct {
	*dynamofake.Table
	mu        sync.Mutex
	now       time.Time
	r         *rand.Rand
	sequence  int64
	shards    [streamShards][]usage.Record
	truth     map[string]int64
	overdrawn int      // changes of a bucket with a count of overdrawn takes
	silent    []string // changes that removed a counter and did not say so
}

func wanted(it dynamofake.Item) usage.Image {
	if it == nil {
		return nil
	}
	im := usage.Image{}
	for name, v := range it {
		if !usage.Wanted(name) {
			continue
		}
		switch v := v.(type) {
		case *types.AttributeValueMemberN:
			im[name] = v.Value
		case *types.AttributeValueMemberS:
			im[name] = v.Value
		}
	}
	return im
}

func keyText(it dynamofake.Item, name string) string {
	return it[name].(*types.AttributeValueMemberS).Value
}

// change calls f and records what becomes of the items with these keys.
func (s *streamed) change(keys []dynamofake.Item, f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := make([]dynamofake.Item, len(keys))
	for i, k := range keys {
		old[i] = s.Get(keyText(k, "PK"), keyText(k, "SK"))
	}
	f()
	for i, k := range keys {
		pk, sk := keyText(k, "PK"), keyText(k, "SK")
		if strings.HasPrefix(pk, "L#") {
			continue // lists are written in the background, at any moment, and are no usage
		}
		is := s.Get(pk, sk)
		if was, now := fmt.Sprint(plain(old[i])), fmt.Sprint(plain(is)); was == now {
			continue
		}
		s.sequence += 1 + s.r.Int64N(3)
		r := usage.Record{Sequence: strconv.FormatInt(s.sequence, 10), Created: s.now, PK: pk, SK: sk, Old: wanted(old[i]), New: wanted(is)}
		h := fnv.New32()
		_, _ = h.Write([]byte(pk))
		shard := &s.shards[h.Sum32()%streamShards]
		*shard = append(*shard, r)
		s.count(&r)
	}
}

func plain(it dynamofake.Item) map[string]string {
	m := map[string]string{}
	for name, v := range it {
		switch v := v.(type) {
		case *types.AttributeValueMemberN:
			m[name] = v.Value
		case *types.AttributeValueMemberS:
			m[name] = v.Value
		}
	}
	return m
}

// count adds to the truth what a change took: the sum of differences, unlike a Counter.
func (s *streamed) count(r *usage.Record) {
	resource, ok := strings.CutPrefix(r.SK, "B#")
	if !ok || r.New == nil {
		return
	}
	entity := strings.TrimPrefix(r.PK, "E#")
	for name := range r.Old {
		if _, ok := r.New[name]; !ok && r.Old["b"] == r.New["b"] && r.Old["r"] == r.New["r"] {
			s.silent = append(s.silent, fmt.Sprintf("%s %s: %s", r.PK, r.SK, name))
		}
	}
	for name, text := range r.New {
		what, ok := strings.CutPrefix(name, "c_")
		if name == "e" {
			what, ok = "events", true
		}
		if over, is := strings.CutPrefix(name, "i_"); is {
			what, ok = "i:"+over, true
			s.overdrawn++
		}
		if !ok {
			continue
		}
		n, _ := strconv.ParseInt(text, 10, 64)
		if r.Old["b"] == r.New["b"] {
			was, _ := strconv.ParseInt(r.Old[name], 10, 64)
			n -= was
		}
		for w, layout := range map[string]string{"hourly": "2006-01-02T15", "daily": "2006-01-02T00", "monthly": "2006-01"} {
			start := r.Created.UTC().Format(layout)
			if w == "monthly" {
				start += "-01T00"
			}
			place := strings.Join([]string{entity, resource, w, start}, " ")
			s.truth[place+" "+what] += n
		}
	}
}

func (s *streamed) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, _ ...func(*dynamodb.Options)) (out *dynamodb.UpdateItemOutput, err error) {
	s.change([]dynamofake.Item{in.Key}, func() { out, err = s.Table.UpdateItem(ctx, in) })
	return out, err
}

func (s *streamed) BatchWriteItem(ctx context.Context, in *dynamodb.BatchWriteItemInput, _ ...func(*dynamodb.Options)) (out *dynamodb.BatchWriteItemOutput, err error) {
	// The usage of a deleted entity stays, or there would be nothing to compare.
	kept := &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{}}
	var keys []dynamofake.Item
	for table, requests := range in.RequestItems {
		for _, r := range requests {
			if !strings.HasPrefix(keyText(r.DeleteRequest.Key, "PK"), "U#") {
				keys = append(keys, r.DeleteRequest.Key)
				kept.RequestItems[table] = append(kept.RequestItems[table], r)
			}
		}
	}
	if len(keys) == 0 {
		return &dynamodb.BatchWriteItemOutput{}, nil
	}
	s.change(keys, func() { out, err = s.Table.BatchWriteItem(ctx, kept) })
	return out, err
}

func (s *streamed) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, _ ...func(*dynamodb.Options)) (out *dynamodb.TransactWriteItemsOutput, err error) {
	var keys []dynamofake.Item
	for _, w := range in.TransactItems {
		switch {
		case w.Update != nil:
			keys = append(keys, w.Update.Key)
		case w.Put != nil:
			keys = append(keys, w.Put.Item)
		case w.Delete != nil:
			keys = append(keys, w.Delete.Key)
		}
	}
	s.change(keys, func() { out, err = s.Table.TransactWriteItems(ctx, in) })
	return out, err
}

// A shop takes tokens of entities, of which "steady" is never deleted or changed.
type shop struct {
	t      *testing.T
	r      *rand.Rand
	table  *streamed
	l      *zael.Limiter
	leases []*zael.Lease
	steady []*zael.Lease
}

func (s *shop) limits() []zael.Limit {
	n := int64(1+s.r.IntN(3)) * 1_000
	all := []zael.Limit{zael.PerMinute("rpm", n), zael.PerMinute("tpm", 100*n), zael.PerSecond("huge", []int64{900_000, 2_000_000}[s.r.IntN(2)])}
	return append(all[:1+s.r.IntN(3)], zael.PerDay("few", 2).Soft())
}

func (s *shop) step() {
	t, ctx := s.t, s.t.Context()
	s.table.mu.Lock()
	s.table.now = s.table.now.Add(time.Duration(s.r.Int64N(int64(20 * time.Minute))))
	s.table.mu.Unlock()
	entity := []string{"steady", "a", "b", "kid"}[s.r.IntN(4)]
	resource := []string{"gpt-4", "a/b"}[s.r.IntN(2)]
	var err error
	switch what := s.r.IntN(20); {
	case what == 0 && entity != "steady":
		if err = s.l.DeleteEntity(ctx, entity); err == nil {
			e := zael.Entity{ID: entity}
			if entity == "kid" {
				e.ParentID = "b"
			}
			_, err = s.l.CreateEntity(ctx, e)
		}
	case what == 1 && entity != "steady": // expires
		k := dynamofake.Item{"PK": &types.AttributeValueMemberS{Value: "E#" + entity}, "SK": &types.AttributeValueMemberS{Value: "B#" + resource}}
		s.table.change([]dynamofake.Item{k}, func() { s.table.Delete("E#"+entity, "B#"+resource) })
	case what == 2 && entity != "steady":
		err = s.l.SetLimits(ctx, zael.Scope{Entity: entity, Resource: resource}, s.limits())
	case what < 7 && len(s.leases) > 0:
		i := s.r.IntN(len(s.leases))
		le := s.leases[i]
		s.leases = slices.Delete(s.leases, i, i+1)
		if s.r.IntN(3) == 0 {
			err = le.Rollback(ctx)
			break
		}
		used := zael.Amounts{"rpm": int64(s.r.IntN(9))}
		if err = le.Settle(used); err == nil {
			err = le.Commit(ctx)
		}
	default:
		req := zael.Request{Entity: entity, Resource: resource, Limits: s.limits(), Cascade: entity == "kid", Consume: zael.Amounts{"rpm": int64(s.r.IntN(5))}}
		req.UseStoredLimits = entity != "steady" && s.r.IntN(3) == 0
		if entity == "steady" {
			req.Limits = []zael.Limit{zael.PerMinute("rpm", 1_000_000)}
		}
		if len(req.Limits) > 3 {
			req.Consume["huge"] = s.r.Int64N(500_000)
		}
		var le *zael.Lease
		if le, err = s.l.Acquire(ctx, req); err == nil {
			s.leases = append(s.leases, le)
			if entity == "steady" {
				s.steady = append(s.steady, le)
			}
		}
	}
	// The table knows what was taken. A lease of a deleted entity and a refusal take nothing.
	if err != nil && !errors.Is(err, zael.ErrExceeded) {
		t.Errorf("%s %s: %v", entity, resource, err)
	}
}

// A courier delivers records to counters.
type courier struct {
	r     *rand.Rand
	table *streamed
	bad   map[string]bool
}

// calls ends a context after some calls.
type calls struct {
	*faulty
	mu   sync.Mutex
	left int
	end  context.CancelFunc
}

func (c *calls) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	c.mu.Lock()
	if c.left--; c.left == 0 {
		c.end()
	}
	c.mu.Unlock()
	return c.faulty.UpdateItem(ctx, in, opts...)
}

func (c *courier) round(t *testing.T, from [streamShards]int, to func(*calls, bool) *usage.Counter, share float64) {
	t.Helper()
	var wg sync.WaitGroup
	for range 12 + c.r.IntN(20) {
		shard := c.r.IntN(streamShards)
		all := c.table.shards[shard]
		n := len(all) - from[shard]
		if n == 0 {
			continue
		}
		begin := from[shard] + c.r.IntN(n)
		batch := slices.Clone(all[begin:min(len(all), begin+1+c.r.IntN(40))])
		for range c.r.IntN(3) { // some twice
			batch = append(batch, batch[c.r.IntN(len(batch))])
		}
		if c.r.IntN(3) == 0 { // some missing
			batch = slices.DeleteFunc(batch, func(usage.Record) bool { return c.r.IntN(4) == 0 })
		}
		if c.r.IntN(6) == 0 {
			c.r.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
		}
		for i := range batch {
			if c.bad[batch[i].Sequence] && batch[i].New != nil {
				batch[i].New = usage.Image{"e": "1.5"}
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		f := &faulty{Table: c.table.Table, r: rand.New(rand.NewPCG(c.r.Uint64(), 0)), share: share}
		counter := to(&calls{faulty: f, left: c.r.IntN(30), end: cancel}, c.r.IntN(2) == 0)
		wg.Go(func() { counter.Count(ctx, batch); cancel() })
		if c.r.IntN(3) > 0 {
			wg.Wait()
		}
	}
	wg.Wait()
}

func runStored(t *testing.T, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 3))
	table := &streamed{Table: dynamofake.New(), now: t0.Add(-30 * time.Hour), r: r, sequence: 950, truth: map[string]int64{}}
	store, err := dynamostore.NewTrial(table, "fake", &dynamostore.Config{CallTimeout: time.Minute}, trial.Options{VirtualTime: true, Direct: true})
	if err != nil {
		t.Fatal(err)
	}
	l, err := zael.New(store, &zael.Config{Timeout: time.Minute, CloseStore: true, Clock: func() time.Time {
		return table.now
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []zael.Entity{{ID: "steady"}, {ID: "a"}, {ID: "b"}, {ID: "kid", ParentID: "b"}} {
		if _, err := l.CreateEntity(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	s := &shop{t: t, r: r, table: table, l: l}
	c := &courier{r: r, table: table, bad: map[string]bool{}}
	counter := func(c client, both bool) *usage.Counter { // the function, and a worker
		windows := []zael.Window{zael.Daily, zael.Monthly}
		if both {
			windows[1] = zael.Hourly
		}
		return newCounter(t, c, windows...)
	}
	for range 3 { // days, each of which is counted to its end
		var from [streamShards]int
		for i := range from {
			from[i] = len(table.shards[i])
		}
		for range 100 {
			s.step()
		}
		for i := range from {
			for _, rec := range table.shards[i][from[i]:] {
				c.bad[rec.Sequence] = r.IntN(30) == 0
			}
		}
		c.round(t, from, func(f *calls, both bool) *usage.Counter { return counter(f, both) }, r.Float64()*0.4)
		clear(c.bad)
		for i := range from { // what is left, in pieces and in no order
			left := table.shards[i][from[i]:]
			size := 1 + r.IntN(20)
			pieces := slices.Collect(slices.Chunk(left, size))
			r.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
			for _, p := range pieces {
				count(t, counter(table.Table, true), p...)
				count(t, counter(table.Table, false), p...)
			}
		}
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if table.overdrawn == 0 {
		t.Errorf("seed %d: no take has left a limit overdrawn", seed)
	}
	if len(table.silent) > 0 {
		t.Errorf("seed %d: counters were removed and r stayed: %q", seed, table.silent)
	}
	compareStored(t, seed, s)
}

func compareStored(t *testing.T, seed uint64, s *shop) {
	t.Helper()
	got := map[string]int64{}
	for _, entity := range []string{"steady", "a", "b", "kid"} {
		for _, w := range []zael.Window{zael.Hourly, zael.Daily, zael.Monthly} {
			for where, n := range read(t, s.table.Table, "", zael.UsageQuery{Entity: entity, Window: w}) {
				f := strings.Fields(where)
				month := "2026-" + f[3]
				got[strings.Join([]string{f[0], f[1], f[2], month, f[4]}, " ")] = n
			}
		}
	}
	none := func(_ string, n int64) bool { return n == 0 }
	maps.DeleteFunc(got, none)
	maps.DeleteFunc(s.table.truth, none)
	for where, n := range s.table.truth {
		if got[where] != n {
			t.Errorf("seed %d: %s: got %d, want %d", seed, where, got[where], n)
		}
	}
	for where, n := range got {
		if _, ok := s.table.truth[where]; !ok {
			t.Errorf("seed %d: %s: got %d, want nothing", seed, where, n)
		}
	}
	want, used := int64(0), int64(0)
	for _, le := range s.steady {
		want += le.Consumed()["rpm"]
	}
	for where, n := range got {
		if strings.HasPrefix(where, "steady ") && strings.Contains(where, " monthly ") && strings.HasSuffix(where, " rpm") {
			used += n
		}
	}
	if used != want || want == 0 {
		t.Errorf("seed %d: the leases of steady: got %d counted, want %d", seed, used, want)
	}
}
