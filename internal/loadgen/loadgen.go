// Package loadgen puts load on a store: many callers in one process or in
// several, on a few keys, for a while. It counts what was admitted, how long
// each call took, and the most that the limits allow for the time it ran.
package loadgen

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeroae/zael"
)

// A Job is a load. It is sent to other processes as JSON.
type Job struct {
	Prefix       string // of the entities, which must be nobody else's
	Resource     string
	Keys         int // entities, each asked equally often: at least 1
	Callers      int // goroutines a process: at least 1
	Limits       []zael.Limit
	ParentLimits []zael.Limit // nil: Limits
	Consume      zael.Amounts // of each acquire, at least one of them above 0
	Cascade      bool         // all keys have one parent, and take from it too
	Duration     time.Duration
	Rate         float64       // acquires that each process asks for in a second, evenly spread over its callers; 0: as fast as they are answered
	Timeout      time.Duration // of one acquire; 0: the limiter's default
}

// Entity is key number i.
func (j *Job) Entity(i int) string { return j.Prefix + "-" + strconv.Itoa(i) }

// Parent is the entity that the keys have as their parent with Cascade.
func (j *Job) Parent() string { return j.Prefix + "-parent" }

// Counts are calls so far.
type Counts struct {
	Admitted int64 `json:"admitted"`
	Refused  int64 `json:"refused"`
	Failed   int64 `json:"failed"`
}

func (c *Counts) add(d Counts) {
	c.Admitted += d.Admitted
	c.Refused += d.Refused
	c.Failed += d.Failed
}

const (
	progressEvery = 250 * time.Millisecond
	recorders     = 32 // that callers share, so that they seldom meet
)

// Run puts the load on a store from this process, until the duration has passed
// or ctx is done; then calls under way still end and count. Progress, if it is
// not nil, is called about four times a second.
//
// With a Rate, what a call took counts from the instant at which it was due, so
// that a caller who is held up does not make the others' waits look shorter.
func Run(ctx context.Context, store zael.Store, job *Job, progress func(Counts)) (*Tally, error) {
	if err := warm(ctx, store, job); err != nil {
		return nil, err
	}
	return run(ctx, store, job, progress)
}

// warm makes a call, so that connections and the like are there when the time
// begins: until the first write a bucket is full and refills nothing.
func warm(ctx context.Context, store zael.Store, job *Job) error {
	_, _, err := store.Buckets(context.WithoutCancel(ctx), time.Now(), []zael.Key{{Entity: job.Entity(0), Resource: job.Resource}})
	return err
}

func run(ctx context.Context, store zael.Store, job *Job, progress func(Counts)) (*Tally, error) {
	window := new(span)
	end := time.Now().Add(job.Duration)
	window.end.Store(end.UnixNano())
	l, err := zael.New(store, &zael.Config{Timeout: job.Timeout, Clock: window.now})
	if err != nil {
		return nil, err
	}
	entities := make([]string, job.Keys)
	for i := range entities {
		entities[i] = job.Entity(i)
	}
	recs := make([]recorder, min(recorders, job.Callers))
	for i := range recs {
		recs[i].tally = newTally()
	}
	before := costOf(store)
	defer context.AfterFunc(ctx, func() { window.end.Store(time.Now().UnixNano()) })()
	var callers sync.WaitGroup
	due := schedule{job.Rate, job.Callers, end.Add(-job.Duration), end}
	for i := range job.Callers {
		callers.Go(func() { call(ctx, l, job, entities, &recs[i%len(recs)], window, due.of(i)) })
	}
	watch(&callers, recs, progress)
	sum := newTally()
	for i := range recs {
		sum.Add(recs[i].tally)
	}
	sum.Cost = before.to(costOf(store))
	sum.First, sum.Last = window.first.Load(), window.last.Load()
	return sum, nil
}

// call is one caller.
func call(ctx context.Context, l *zael.Limiter, job *Job, entities []string, rec *recorder, window *span, next next) {
	req := zael.Request{
		Resource: job.Resource, Limits: job.Limits, ParentLimits: job.ParentLimits,
		Consume: job.Consume, Cascade: job.Cascade,
	}
	r := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	whole := context.WithoutCancel(ctx)
	for now := time.Now(); ; {
		due, ok := next(ctx, now)
		if !ok {
			return
		}
		req.Entity = entities[r.IntN(len(entities))]
		err := l.Allow(whole, req)
		now = time.Now()
		rec.add(err, now.Sub(due))
		if err == nil {
			window.until(now.UnixNano())
		}
	}
}

// watch waits for the callers and tells how far they are.
func watch(callers *sync.WaitGroup, recs []recorder, progress func(Counts)) {
	done := make(chan struct{})
	go func() {
		callers.Wait()
		close(done)
	}()
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case <-ticker.C:
			if progress == nil {
				continue
			}
			var c Counts
			for i := range recs {
				c.add(recs[i].counts())
			}
			progress(c)
		}
	}
}

// A recorder is a tally that callers share.
type recorder struct {
	mu    sync.Mutex
	tally *Tally
	_     [64]byte // for the next one to lie in another cache line
}

func (r *recorder) add(err error, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.tally.Admitted++
		r.tally.admitted.record(took)
	case errors.Is(err, zael.ErrExceeded):
		r.tally.Refused++
		r.tally.refused.record(took)
	default:
		r.tally.fail(err)
	}
}

func (r *recorder) counts() Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tally.Counts
}

// A span is the clock of a limiter. It remembers the first instant that it told,
// and the last one or when the last admitted call was back, as a store may count a call
// by the time at which its turn came: between them everything was decided. It stops
// at the end, so that a call which comes through late has no more to take from than
// the others had.
type span struct {
	first, last atomic.Int64 // ns since 1970; 0: not yet
	end         atomic.Int64
}

func (s *span) now() time.Time {
	now := time.Now()
	ns := now.UnixNano()
	if end := s.end.Load(); ns > end {
		ns = end
		now = time.Unix(0, end)
	}
	for have := s.first.Load(); (have == 0 || ns < have) && !s.first.CompareAndSwap(have, ns); have = s.first.Load() {
	}
	s.until(ns)
	return now
}

// until notes that it was so late.
func (s *span) until(ns int64) {
	for have := s.last.Load(); ns > have && !s.last.CompareAndSwap(have, ns); have = s.last.Load() {
	}
}
