// Package loadgen puts load on a store: many callers, in one process or several,
// acquire from a few keys for a while, each without waiting, or each once and in line.
// It counts what was admitted, how long each call took, and the most that the limits
// allow in that time.
package loadgen

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/zeroae/zael"
)

// A Job describes a load. It is sent to other processes as JSON.
type Job struct {
	Prefix       string // of the entities; nothing else in the store may have it
	Resource     string
	Keys         int // entities, asked at random: at least 1
	Callers      int // goroutines in each process: at least 1
	Limits       []zael.Limit
	ParentLimits []zael.Limit // nil: Limits
	Consume      zael.Amounts // of each acquire; at least one is above 0
	Cascade      bool         // all keys have one parent, and take from it too
	Duration     time.Duration
	Rate         float64       // acquires a second in each process, spread evenly over its callers; 0: without pause
	Timeout      time.Duration // of one acquire; 0: the limiter's default

	// With a MaxWait each caller comes once, at the Rate, and waits in line; Callers
	// has no effect. It leaves after GiveUp, if that is not 0.
	MaxWait, GiveUp time.Duration
}

// Entity returns the entity of key i.
func (j *Job) Entity(i int) string { return j.Prefix + "-" + strconv.Itoa(i) }

// Parent returns the parent of all keys with Cascade.
func (j *Job) Parent() string { return j.Prefix + "-parent" }

// request returns the request of a call.
func (j *Job) request(entity string) zael.Request {
	return zael.Request{
		Entity: entity, Resource: j.Resource, Limits: j.Limits, ParentLimits: j.ParentLimits,
		Consume: j.Consume, Cascade: j.Cascade,
	}
}

// takesSlots reports whether calls take slots, which a lease has to hold.
func (j *Job) takesSlots() bool {
	return slices.ContainsFunc(slices.Concat(j.Limits, j.ParentLimits), func(l zael.Limit) bool {
		return l.Kind() == zael.KindSlots && j.Consume[l.Name] > 0
	})
}

// Counts has the calls so far.
type Counts struct {
	Admitted int64 `json:"admitted"`
	Refused  int64 `json:"refused"`
	Failed   int64 `json:"failed"`
	Left     int64 `json:"left,omitempty"` // the line
}

func (c *Counts) add(d Counts) {
	c.Admitted += d.Admitted
	c.Refused += d.Refused
	c.Failed += d.Failed
	c.Left += d.Left
}

const (
	progressEvery = 250 * time.Millisecond
	maxRecorders  = 32
)

// Run puts the load on a store from this process, until the duration has passed or
// ctx is done. Calls in flight then still end, and count. Progress, if not nil, is
// called about four times a second.
//
// With a Rate, the latency of a call counts from the instant at which it was due, so
// that a delayed caller does not hide how long others would have waited.
func Run(ctx context.Context, store zael.Store, job *Job, progress func(Counts)) (*Tally, error) {
	if err := warmUp(ctx, store, job); err != nil {
		return nil, err
	}
	return run(ctx, store, job, progress)
}

// warmUp makes a call that changes nothing, so that connections exist when the time
// begins: until its first write a bucket is full, and what refills is lost.
func warmUp(ctx context.Context, store zael.Store, job *Job) error {
	_, _, err := store.Buckets(context.WithoutCancel(ctx), time.Now(), []zael.Key{{Entity: job.Entity(0), Resource: job.Resource}})
	return err
}

func run(ctx context.Context, store zael.Store, job *Job, progress func(Counts)) (*Tally, error) {
	clock := new(runClock)
	begin := time.Now()
	end := begin.Add(job.Duration)
	clock.stopAt(end)
	limiter, err := zael.New(store, &zael.Config{Timeout: job.Timeout, Clock: clock.now})
	if err != nil {
		return nil, err
	}
	entities := make([]string, job.Keys)
	for i := range entities {
		entities[i] = job.Entity(i)
	}
	callersAtATime := job.Callers
	if job.MaxWait > 0 {
		callersAtATime = 1 // who makes the others come
	}
	recorders := make([]recorder, min(maxRecorders, callersAtATime))
	for i := range recorders {
		recorders[i].tally = newTally()
	}
	before := costOf(store)
	defer context.AfterFunc(ctx, func() { clock.stopAt(time.Now()) })()
	due := schedule{job.Rate, callersAtATime, begin, end}
	var callers sync.WaitGroup
	for i := range callersAtATime {
		rng := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
		c := caller{limiter, job, entities, clock, due.forCaller(i), rng.IntN, &recorders[i%len(recorders)]}
		if job.MaxWait > 0 {
			q := &queueing{caller: c, begin: begin, end: end}
			callers.Go(func() { q.run(ctx) })
			continue
		}
		callers.Go(func() { c.run(ctx) })
	}
	await(&callers, recorders, progress)
	if err := limiter.Close(context.WithoutCancel(ctx)); err != nil { // gives back places in line
		return nil, err
	}
	sum := newTally()
	for i := range recorders {
		sum.Add(recorders[i].tally)
	}
	sum.Cost = costOf(store).since(before)
	sum.First, sum.Last = clock.first.Load(), clock.last.Load()
	return sum, nil
}

// A caller makes one call after the other.
type caller struct {
	limiter  *zael.Limiter
	job      *Job
	entities []string
	clock    *runClock
	next     nextCall
	pick     func(n int) int // at random
	recorder *recorder
}

func (c *caller) run(ctx context.Context) {
	req := c.job.request("")
	uncancelled, slots := context.WithoutCancel(ctx), c.job.takesSlots()
	for now := time.Now(); ; {
		due, ok := c.next(ctx, now)
		if !ok {
			return
		}
		req.Entity = c.entities[c.pick(len(c.entities))]
		var lease *zael.Lease
		var err error
		if slots {
			lease, err = c.limiter.Reserve(uncancelled, req)
		} else {
			err = c.limiter.Allow(uncancelled, req)
		}
		now = time.Now()
		c.recorder.add(err, now.Sub(due))
		if err != nil {
			continue
		}
		c.clock.reached(now.UnixNano())
		if slots {
			if err := lease.Commit(uncancelled); err != nil { // others get its slots when their hold ends
				c.recorder.fail(err)
			}
		}
	}
}

// await waits for the callers and reports progress meanwhile.
func await(callers *sync.WaitGroup, recorders []recorder, progress func(Counts)) {
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
			for i := range recorders {
				c.add(recorders[i].counts())
			}
			progress(c)
		}
	}
}

// A recorder is a tally that some of the callers share.
type recorder struct {
	mu    sync.Mutex
	tally *Tally
	_     [64]byte // keeps the next recorder in another cache line
}

func (r *recorder) add(err error, latency time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.tally.Admitted++
		r.tally.admitted.record(latency)
	case errors.Is(err, zael.ErrExceeded):
		r.tally.Refused++
		r.tally.refused.record(latency)
	default:
		r.tally.failed(err)
	}
}

// fail records an error of a call beside those that add records.
func (r *recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tally.failed(err)
}

func (r *recorder) counts() Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tally.Counts
}
