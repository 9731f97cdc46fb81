package dynamostore_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/internal/trial"
)

// A countedTable counts its updates.
type countedTable struct {
	*dynamofake.Table
	updates atomic.Int64
}

func (c *countedTable) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	c.updates.Add(1)
	return c.Table.UpdateItem(ctx, in, opts...)
}

// overdrawnIn returns what the item of an entity's bucket counts.
func (c *countedTable) overdrawnIn(t *testing.T, entity, limit string) (n int64) {
	t.Helper()
	if v, ok := c.Get("E#"+entity, "B#gpt-4")["i_"+limit].(*types.AttributeValueMemberN); ok {
		var err error
		if n, err = strconv.ParseInt(v.Value, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func newProcesses(t *testing.T, n int) (*countedTable, []*dynamostore.Store) {
	t.Helper()
	table := &countedTable{Table: dynamofake.New()}
	all := make([]*dynamostore.Store, n)
	for i := range all {
		s, err := dynamostore.NewTrial(table, "fake", patient(), trial.Options{VirtualTime: true})
		all[i] = opened(t, s, err)
	}
	return table, all
}

func quotaOf(t *testing.T, spec bucket.CalendarSpec, n int64) bucket.Definition {
	t.Helper()
	calendar, err := bucket.NewCalendar(spec)
	if err != nil {
		t.Fatal(err)
	}
	return bucket.Definition{Kind: bucket.Quota, Burst: n, Capacity: n, Calendar: calendar}
}

func softly(d bucket.Definition) bucket.Definition {
	d.Flags |= bucket.Soft
	return d
}

// takeSoft takes, and returns how many of the charges have left their limit overdrawn.
func takeSoft(t *testing.T, s *dynamostore.Store, at time.Time, d zael.Debit) (overdrawn int64) {
	t.Helper()
	counted, err := s.Take(t.Context(), at, 0, []zael.Debit{d})
	if err != nil {
		t.Error(err)
		return 0
	}
	instant, err := bucket.At(counted)
	if err != nil {
		t.Error(err)
	}
	for i := range d.Charges {
		if d.Charges[i].Overdraws(instant) {
			overdrawn++
		}
	}
	return overdrawn
}

// Which side of a soft limit's amount a take comes to is no reason for another call, though each
// process knows the bucket as it was before the other's last take.
func TestOverdrawnCostsNoCall(t *testing.T) {
	t.Parallel()
	table, processes := newProcesses(t, 2)
	quota := softly(quotaOf(t, bucket.CalendarSpec{Each: bucket.Daily}, 20))
	told := int64(0)
	for i := range 4 { // the first meeting
		told += takeSoft(t, processes[i%2], t0, debit("e", ask("day", quota, 1)))
	}
	before := table.updates.Load()
	for i := range 36 {
		told += takeSoft(t, processes[i%2], t0, debit("e", ask("day", quota, 1)))
		if got := table.overdrawnIn(t, "e", "day"); got < told-2 || got > told+2 {
			t.Errorf("after %d takes: got %d counted as overdrawn, of which callers were told %d, want at most 1 for each process that differs", i+5, got, told)
		}
	}
	if got := table.updates.Load() - before; got != 36 {
		t.Errorf("36 takes across the amount: got %d calls, want 36", got)
	}
	if told != 20 {
		t.Errorf("40 takes of 20 a day: %d callers were told that it is overdrawn, want 20", told)
	}
	if got := table.overdrawnIn(t, "e", "day"); got != told {
		t.Errorf("got %d counted as overdrawn, want %d", got, told)
	}
}

// What a write has counted wrong is put right by the next one of the process: in the end the count
// is what callers were told, whoever wrote between, whether the takes joined, and with settles,
// gives and refill.
func TestOverdrawnIsPutRight(t *testing.T) {
	t.Parallel()
	wrong := int64(0)
	for seed := range schedules.Seeds(t, 20) {
		wrong += putRight(t, seed)
	}
	if wrong == 0 && !testing.Short() { // with few schedules it may be that none does
		t.Error("no write has counted wrong: the schedules show nothing")
	}
}

// putRight returns how often the count differed from what callers were told.
func putRight(t *testing.T, seed uint64) (wrong int64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 9))
	table, processes := newProcesses(t, 3)
	d := softly([]bucket.Definition{
		define(20, 1, time.Second), define(20, 20, time.Second), quotaOf(t, bucket.CalendarSpec{Each: bucket.Daily}, 40),
		{Kind: bucket.Session, Burst: 10, Capacity: 10, Period: time.Minute},
	}[seed%4])
	at, told := t0, atomic.Int64{}
	for range 60 {
		at = at.Add(time.Duration(r.Int64N(int64(4 * time.Second))))
		s := processes[r.IntN(len(processes))]
		switch r.IntN(4) {
		case 0: // several at once, which join
			var wg sync.WaitGroup
			for range 2 + r.IntN(8) {
				n, s := 1+r.Int64N(3), processes[r.IntN(len(processes))]
				wg.Go(func() { told.Add(takeSoft(t, s, at, debit("e", ask("tpm", d, n)))) })
			}
			wg.Wait()
		case 1:
			if _, err := s.Adjust(t.Context(), at, []zael.Debit{debit("e", ask("tpm", d, 1+r.Int64N(10)))}); err != nil {
				t.Error(err)
			}
		default:
			taken := debit("e", ask("tpm", d, r.Int64N(6)))
			told.Add(takeSoft(t, s, at, taken))
			if r.IntN(2) == 0 && taken.Charges[0].Amount > 0 {
				if _, err := s.Adjust(t.Context(), at, []zael.Debit{debit("e", back(taken.Charges[0], taken.Charges[0].Amount))}); err != nil {
					t.Error(err)
				}
			}
		}
		if table.overdrawnIn(t, "e", "tpm") != told.Load() {
			wrong++
		}
	}
	for _, s := range processes { // they pay, and by what they have just seen they owe nothing
		for range 2 {
			told.Add(takeSoft(t, s, at, debit("e", ask("tpm", d, 0))))
		}
	}
	if got := table.overdrawnIn(t, "e", "tpm"); got != told.Load() {
		t.Errorf("seed %d: got %d counted as overdrawn, want the %d of which callers were told", seed, got, told.Load())
	}
	return wrong
}

// A take that is given back, as another bucket refuses, has overdrawn nothing.
func TestOverdrawnIsUndone(t *testing.T) {
	t.Parallel()
	table, processes := newProcesses(t, 2)
	s := processes[0]
	soft, hard := softly(define(10, 10, bucket.MaxPeriod)), define(40, 40, bucket.MaxPeriod)
	child := func(n int64) []zael.Debit {
		return []zael.Debit{debit("child", ask("tpm", soft, n)), debit("parent", ask("tpm", hard, n))}
	}
	for i, want := range []int64{0, 1, 2} { // 10, 20, 30
		if _, err := s.Take(t.Context(), t0, 0, child(10)); err != nil {
			t.Fatal(err)
		}
		if got := table.overdrawnIn(t, "child", "tpm"); got != want {
			t.Errorf("take %d: got %d, want %d", i+1, got, want)
		}
	}
	if _, err := processes[1].Take(t.Context(), t0, 0, child(10)[1:]); err != nil { // the rest of the parent's
		t.Fatal(err)
	}
	before := table.updates.Load()
	if _, err := s.Take(t.Context(), t0, 0, child(10)); !errors.Is(err, zael.ErrExceeded) {
		t.Fatalf("a take of an empty parent: got %v, want it refused", err)
	}
	if n := table.updates.Load() - before; n != 3 {
		t.Errorf("got %d calls, want 3: the child's, the parent's, and the one that gives back", n)
	}
	if got := table.overdrawnIn(t, "child", "tpm"); got != 2 {
		t.Errorf("after refused takes: got %d, want 2", got)
	}
}
