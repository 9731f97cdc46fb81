package line_test

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/line"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A table is a bucket that processes share.
type table struct {
	mu     sync.Mutex
	states []bucket.State
	calls  int
	gives  int
	latest bucket.Instant
	random *rand.Rand
}

// counts are the takes and the gives so far.
func (t *table) counts() (takes, gives int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.calls, t.gives
}

// A store is the table as one process reaches it.
type store struct {
	*table
	least, most time.Duration // of a call
	fault       func(n int) error
}

func (s *store) pass() {
	if s.most == 0 {
		return
	}
	s.mu.Lock()
	d := s.least + time.Duration(s.random.Int64N(int64(s.most-s.least)+1))
	s.mu.Unlock()
	time.Sleep(d) //nolint:forbidigo // of the bubble
}

func (s *store) Take(_ context.Context, _ string, parts []line.Part, now bucket.Instant, ahead time.Duration) line.Answer {
	s.pass()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.fault != nil {
		if err := s.fault(s.calls); err != nil {
			return line.Answer{Err: err}
		}
	}
	s.latest = max(s.latest, now)
	a := line.Answer{At: now, Taken: true}
	next := make([]bucket.State, len(parts))
	for i, p := range parts {
		if s.states[i].Absent() {
			s.states[i] = s.states[i].Redefine(p.Definition, now, 7)
		}
		var ok bool
		next[i], ok = s.states[i].Take(now, p.Amount, ahead)
		a.Taken = a.Taken && ok
	}
	if a.Taken {
		s.states = next
	}
	a.States = slices.Clone(s.states)
	return a
}

func (s *store) Give(_ context.Context, _ string, _ []line.Part, back []line.Back, now bucket.Instant) line.Answer {
	s.pass()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gives++
	s.latest = max(s.latest, now)
	for i, b := range back {
		s.states[i] = s.states[i].Give(s.latest, b.Amount, b.Receipt)
	}
	return line.Answer{At: now, States: slices.Clone(s.states)}
}

func instant() bucket.Instant {
	at, err := bucket.At(time.Now().AddDate(30, 0, 0)) // a bubble begins in 2000
	if err != nil {
		panic(err)
	}
	return at
}

func perSecond(rate, burst int64) bucket.Definition {
	return bucket.Definition{Burst: burst, Amount: rate, Period: time.Second, Capacity: min(rate, burst)}
}

// A fleet is processes that share a bucket.
type fleet struct {
	t      *testing.T
	table  *table
	defs   []bucket.Definition
	lines  []*line.Line[string]
	stores []*store
	begin  time.Time
	wg     sync.WaitGroup

	mu   sync.Mutex
	done []served
}

// served is how one caller fared.
type served struct {
	process   int
	came, end time.Duration // since the beginning
	amounts   []int64
	err       error
	grant     line.Grant
}

// simulate runs a fleet in a bubble; at the end nothing may be left of it.
func simulate(t *testing.T, processes int, e engine, defs []bucket.Definition, f func(*fleet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		fl := &fleet{t: t, table: &table{states: make([]bucket.State, len(defs)), random: rand.New(rand.NewPCG(1, 1))}, defs: defs, begin: time.Now()}
		near := 2 * time.Millisecond
		if e.most > 0 {
			near = 15 * time.Millisecond
		}
		for i := range processes {
			s := &store{table: fl.table, least: e.least, most: e.most}
			fl.stores = append(fl.stores, s)
			fl.lines = append(fl.lines, line.New(s, line.Config{Now: instant, Near: near, Seed: uint64(i + 1)}))
		}
		f(fl)
		fl.wg.Wait()
		synctest.Wait()
		time.Sleep(10 * time.Minute) //nolint:forbidigo // of the bubble
		for i, l := range fl.lines {
			if n := l.Len(); n != 0 {
				t.Errorf("process %d has %d queues at the end, want none", i, n)
			}
			l.Close()
		}
		fl.exact()
	})
}

func (f *fleet) since() time.Duration { return time.Since(f.begin) }

// acquire asks as a limiter does: once without a wait, unless a line stands, then
// in line.
func (f *fleet) acquire(ctx context.Context, process int, maxWait time.Duration, amounts ...int64) (line.Grant, error) {
	parts := make([]line.Part, len(amounts))
	for i := range parts {
		parts[i] = line.Part{Definition: f.defs[i], Amount: amounts[i]}
	}
	l := f.lines[process]
	seen := line.Answer{}
	if _, stands := l.Stands("k", parts); !stands {
		seen = f.stores[process].Take(ctx, "k", parts, instant(), 0)
		if seen.Err != nil {
			return line.Grant{}, seen.Err
		}
		if seen.Taken {
			g := line.Grant{At: seen.At}
			for _, s := range seen.States {
				g.Receipts = append(g.Receipts, s.Receipt())
			}
			return g, nil
		}
	} else {
		seen.At = instant()
		f.table.mu.Lock()
		seen.States = slices.Clone(f.table.states)
		f.table.mu.Unlock()
	}
	return l.Wait(ctx, "k", parts, maxWait, seen)
}

// come starts a caller that gives up after patience; 0: never.
func (f *fleet) come(process int, maxWait, patience time.Duration, amounts ...int64) {
	came := f.since()
	f.wg.Go(func() {
		ctx := context.Background()
		if patience > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithCancel(ctx)
			timer := time.AfterFunc(patience, cancel)
			defer timer.Stop()
			defer cancel()
		}
		g, err := f.acquire(ctx, process, maxWait, amounts...)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.done = append(f.done, served{process, came, f.since(), amounts, err, g})
	})
	synctest.Wait() // so that callers come in the order of the calls
}

// at waits until an instant of the simulation.
func (f *fleet) at(d time.Duration) {
	time.Sleep(d - f.since()) //nolint:forbidigo // of the bubble
}

// exact checks that no window of time holds more than the burst and the refill,
// by the instants at which grants counted.
func (f *fleet) exact() {
	for i, d := range f.defs {
		more := d.Unit()
		if len(f.defs) > 1 { // the faster limit's tokens are charged before they are used
			more = d.Burst * d.Unit()
		}
		f.within(i, d, more)
	}
}

// within checks one limit: tokens since any instant, less the refill since it,
// are at most the burst, and a token more.
func (f *fleet) within(i int, d bucket.Definition, more int64) {
	f.t.Helper()
	granted := slices.DeleteFunc(slices.Clone(f.done), func(s served) bool { return s.err != nil || s.amounts[i] == 0 })
	slices.SortFunc(granted, func(a, b served) int { return cmp.Compare(a.grant.At, b.grant.At) })
	sum, highest := int64(0), int64(math.MinInt64)
	for _, s := range granted {
		drip := d.Drip(s.grant.At)
		highest = max(highest, drip-sum)
		sum += s.amounts[i] * d.Unit()
		if over := sum - drip + highest - d.Burst*d.Unit(); over > more {
			f.t.Fatalf("limit %d: until %v a window holds %d/1000 tokens more than the burst of %d and the refill", i, s.end, over, d.Burst)
		}
	}
}

// servedIn is how many were served in a stretch of time.
func (f *fleet) servedIn(from, to time.Duration) int {
	n := 0
	for _, s := range f.done {
		if s.err == nil && s.end >= from && s.end < to {
			n++
		}
	}
	return n
}

// wantServed checks when callers were served.
func (f *fleet) wantServed(want ...time.Duration) {
	f.t.Helper()
	var got []time.Duration
	for _, s := range f.done {
		if s.err == nil {
			got = append(got, s.end.Round(time.Millisecond))
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		f.t.Errorf("served at\n got %v,\nwant %v", got, want)
	}
}

// callsAdmitted is the calls of the store for each caller that was admitted.
func (f *fleet) callsAdmitted() float64 {
	takes, gives := f.table.counts()
	return float64(takes+gives) / float64(f.servedIn(0, time.Hour))
}
