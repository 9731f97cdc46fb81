package coalesce_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limits are a bucket as the engine of the tests keeps it; not changed once made.
type limits map[string]bucket.State

func (l limits) State(name string) bucket.State { return l[name] }

// An engine keeps buckets as package bucket says, and takes its time.
type engine struct {
	tb      testing.TB
	latency time.Duration
	fault   func(n int, b *coalesce.Batch) *coalesce.Answer // instead of write n; nil: none
	after   func(n int, b *coalesce.Batch, a *coalesce.Answer)

	mu      sync.Mutex
	buckets map[zael.Key]limits
	flying  map[zael.Key]bool
	batches []coalesce.Batch
	begun   []time.Time
	whose   []any           // callers, as the contexts of the writes name them
	ctx     context.Context // of the last write
	latest  bucket.Instant
}

// A caller is the key of a context's value, the caller's name.
type caller struct{}

var errEngine = errors.New("the engine is out of order")

func (e *engine) Write(ctx context.Context, b *coalesce.Batch) coalesce.Answer {
	e.mu.Lock()
	if e.flying[b.Key] {
		e.tb.Errorf("a write of %v while another is on its way", b.Key)
	}
	e.flying[b.Key] = true
	n := len(e.batches)
	e.batches = append(e.batches, *b)
	e.begun = append(e.begun, time.Now())
	e.whose = append(e.whose, ctx.Value(caller{}))
	e.ctx = ctx
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.flying, b.Key)
		e.mu.Unlock()
	}()
	if e.latency > 0 { // callers may leave meanwhile: the answer is waited for
		<-time.After(e.latency)
	}
	if e.fault != nil {
		if a := e.fault(n, b); a != nil {
			return *a
		}
	}
	e.mu.Lock()
	a := e.apply(b)
	e.mu.Unlock()
	if e.after != nil {
		e.after(n, b, &a)
	}
	return a
}

const birth = 7

// apply does a batch to its bucket.
func (e *engine) apply(b *coalesce.Batch) coalesce.Answer {
	is := maps.Clone(e.buckets[b.Key])
	if is == nil {
		is = limits{}
	}
	e.latest = max(e.latest, b.At)
	a := coalesce.Answer{At: b.At, Seen: e.latest, Birth: birth, Bucket: e.buckets[b.Key]}
	if a.Bucket.(limits) == nil {
		a.Bucket = limits{}
	}
	if b.Kind == coalesce.Read {
		return a
	}
	for i, c := range b.Charges {
		s := is[c.Name]
		if b.Kind == coalesce.Take && s.Stale(c.Definition) {
			a.Outcome = coalesce.Stale
			return a
		}
		if b.Kind != coalesce.Undo && c.Amount >= 0 {
			next := s.Redefine(c.Definition, b.At, birth)
			if b.Members > 1 && !s.Absent() && next.Definition != s.Definition {
				a.Outcome = coalesce.Split
				return a
			}
			s = next
		}
		if b.Kind != coalesce.Take {
			if c.Amount < 0 {
				s = s.Give(e.latest, -c.Amount, c.Receipt)
			} else if s, _ = s.Charge(b.At, c.Amount); c.Amount > bucket.MaxAmount {
				a.Outcome, a.Err = coalesce.Failed, errEngine
				return a
			}
			is[c.Name] = s
			continue
		}
		if c.Amount > c.Definition.Burst && b.Members > 1 {
			e.tb.Errorf("a batch of %d of %q, want the burst, %d, at most", c.Amount, c.Name, c.Definition.Burst)
		}
		stages := []coalesce.Stage{{Sum: c.Amount, Wait: b.MaxWait}}
		if b.Stages != nil {
			stages = b.Stages[i]
		}
		for _, st := range stages {
			if _, fits := s.Take(b.At, st.Sum, st.Wait); !fits {
				a.Outcome = coalesce.Refused
				return a
			}
		}
		if c.Amount > 0 {
			s.Mark = max(s.Mark, s.Definition.Drip(b.At)) + c.Amount*s.Definition.Unit()
		}
		is[c.Name] = s
	}
	e.buckets[b.Key] = is
	a.Bucket = is
	return a
}

func (e *engine) writes() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.batches)
}

// A bench has a Coalescer on an engine, in a bubble.
type bench struct {
	*coalesce.Coalescer
	t       *testing.T
	engine  *engine
	workers sync.WaitGroup // of the Coalescer
	callers sync.WaitGroup

	mu        sync.Mutex
	gaveBack  int64 // takes whose callers had left
	forgotten int64 // of those, what could not be given back
}

func setup(t *testing.T, latency time.Duration, apart bool) *bench {
	t.Helper()
	b := &bench{t: t, engine: &engine{tb: t, latency: latency, buckets: map[zael.Key]limits{}, flying: map[zael.Key]bool{}}}
	b.Coalescer = coalesce.New(b.engine, coalesce.Config{
		MaxLimits: 40, Remembered: 10_000, Tries: 4, Direct: apart, Go: b.workers.Go,
		GaveBack: func(takes int64, ok bool) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if ok {
				b.gaveBack += takes
			} else {
				b.forgotten += takes
			}
		},
	})
	return b
}

// bubble runs a test in a bubble; nothing may be left at its end.
func bubble(t *testing.T, latency time.Duration, test func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, latency, false)
		test(b)
		b.callers.Wait()
		b.workers.Wait()
		time.Sleep(4 * time.Second) //nolint:forbidigo // of the bubble
		if n := b.Len(); n != 0 {
			t.Errorf("kept of buckets 4 s later: got %d, want none", n)
		}
		b.Close()
	})
}

func key(entity string) zael.Key { return zael.Key{Entity: entity, Resource: "r"} }

func define(burst, amount int64, period time.Duration) bucket.Definition {
	return bucket.Definition{Burst: burst, Amount: amount, Period: period, Capacity: min(burst, amount)}
}

// slow holds burst tokens and refills none within a test.
func slow(burst int64) bucket.Definition { return define(burst, 1, bucket.MaxPeriod) }

func instant() bucket.Instant {
	at, err := bucket.At(time.Now().AddDate(30, 0, 0)) // a bubble begins in 2000
	if err != nil {
		panic(err)
	}
	return at
}

func charge(name string, d bucket.Definition, n int64) zael.Charge {
	return zael.Charge{Name: name, Definition: d, Amount: n}
}

func taking(charges ...zael.Charge) *coalesce.Op {
	return &coalesce.Op{Kind: coalesce.Take, Charges: charges, At: instant(), Events: 1}
}

// begin lets a caller do m, and returns when the caller waits.
func (b *bench) begin(ctx context.Context, k zael.Key, m *coalesce.Op) {
	b.callers.Go(func() { b.Do(ctx, k, m) })
	synctest.Wait()
}

// take takes and waits for the answer.
func (b *bench) take(k zael.Key, charges ...zael.Charge) *coalesce.Op {
	m := taking(charges...)
	b.Do(b.t.Context(), k, m)
	return m
}

// wantGivenBack looks at what came of giving back takes whose callers had left.
func (b *bench) wantGivenBack(takes, forgotten int64) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gaveBack != takes || b.forgotten != forgotten {
		b.t.Errorf("given back: got %d takes and %d that could not be, want %d and %d", b.gaveBack, b.forgotten, takes, forgotten)
	}
}

func (b *bench) want(what string, m *coalesce.Op, v coalesce.Outcome) {
	b.t.Helper()
	if m.Outcome != v {
		b.t.Errorf("%s: got outcome %d (%v), want %d", what, m.Outcome, m.Err, v)
	}
}

func (b *bench) wantWrites(n int) {
	b.t.Helper()
	if got := b.engine.writes(); got != n {
		b.t.Errorf("writes: got %d, want %d: %s", got, n, b.engine)
	}
}

// String are the batches so far.
func (e *engine) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := ""
	for _, b := range e.batches {
		s += fmt.Sprintf("\n%s kind %d of %d:", b.Key.Entity, b.Kind, b.Members)
		for _, c := range b.Charges {
			s += fmt.Sprintf(" %s %+d", c.Name, c.Amount)
		}
	}
	return s
}

// left is what a limit has.
func (b *bench) left(k zael.Key, name string) int64 {
	b.engine.mu.Lock()
	defer b.engine.mu.Unlock()
	s := b.engine.buckets[k][name]
	if s.Absent() {
		return math.MaxInt64
	}
	return s.Available(instant())
}
