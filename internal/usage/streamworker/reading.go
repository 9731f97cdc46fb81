package streamworker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/zeroae/zael/internal/pause"
	"github.com/zeroae/zael/internal/usage"
	"github.com/zeroae/zael/internal/usage/deadletter"
	"github.com/zeroae/zael/internal/usage/stream"
)

// A reading is a shard that this worker reads, in a goroutine of its own.
type reading struct {
	worker *Worker
	shard  string
	cancel context.CancelFunc
	ended  chan struct{} // closed when the goroutine ends

	writing sync.Mutex // held while the lease is written

	mu         sync.Mutex
	checkpoint string
	written    time.Time // when the lease last was
	quiet      int       // answers since the last record of a bucket
	lost       bool      // or done: the lease is ours no more
}

const (
	pauseLeast = 50 * time.Millisecond
	pauseMost  = 5 * time.Second
	// enough is how many records are counted without waiting for more, with which
	// they could be written together.
	enough = 100
	// complainEvery is how often a worker says that it waits.
	complainEvery = 30 * time.Second
)

func (w *Worker) start(ctx context.Context, l lease) {
	ctx, cancel := context.WithCancel(ctx)
	r := &reading{worker: w, shard: l.shard, cancel: cancel, ended: make(chan struct{}), checkpoint: l.checkpoint, written: time.Now()}
	w.readings[l.shard] = r
	w.config.Log.Info("reading a shard", "shard", l.shard, "after", l.checkpoint)
	w.running.Go(func() {
		defer w.poke()
		defer close(r.ended)
		defer cancel()
		r.read(ctx)
	})
}

func (r *reading) position() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.checkpoint
}

func (r *reading) isQuiet() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.quiet >= caughtUp
}

func (r *reading) isLost() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

func (r *reading) isEnded() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

// read reads the shard to its end, or until ctx is done.
func (r *reading) read(ctx context.Context) {
	w := r.worker
	reader := w.stream.After(r.shard, r.checkpoint)
	wait := patience{}
	for ctx.Err() == nil {
		within, stop := context.WithTimeout(ctx, patienceOf)
		records, end, err := reader.Next(within)
		stop()
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, stream.ErrGone):
			w.trimmed(r.shard, "a shard is gone from the stream that was not read to its end: what it had is not counted", r.position(), err)
			r.finish(ctx)
			return
		case errors.Is(err, stream.ErrTrimmed):
			w.trimmed(r.shard, "the stream has not all records any more that were not counted: going on with the oldest it has", r.position(), err)
			reader = w.stream.After(r.shard, "")
			continue
		case hopeless(err):
			w.fail(err)
			return
		case err != nil:
			if wait.complains() {
				w.config.Log.Warn("the stream does not answer; trying again", "shard", r.shard, "error", err)
			}
			wait.pause(ctx)
			continue
		}
		wait = patience{}
		batch := make([]usage.Record, len(records))
		for i := range records {
			batch[i] = stream.Record(&records[i])
		}
		buckets, err := r.count(ctx, batch)
		if err != nil {
			if ctx.Err() == nil {
				w.fail(err)
			}
			return
		}
		r.advance(ctx, batch, buckets)
		if end {
			r.finish(ctx)
			return
		}
		if len(records) < enough {
			_ = pause.For(ctx, w.config.Poll)
		}
	}
}

// count counts a batch, for as long as it takes. What never can be counted goes
// to the dead letters. An error ends the worker.
func (r *reading) count(ctx context.Context, batch []usage.Record) (buckets int, err error) {
	w := r.worker
	wait := patience{}
	for first := true; ; first = false {
		within, stop := context.WithTimeout(ctx, patienceOf)
		result := w.counter.Count(within, batch)
		stop()
		if first {
			buckets = result.Buckets
		}
		var again []usage.Record
		var reason error
		for _, failure := range result.Failures {
			err := failure.Err
			if errors.Is(err, usage.ErrUncountable) {
				if err = r.giveUp(ctx, &failure); err == nil {
					continue
				}
			}
			if hopeless(err) {
				return buckets, err
			}
			reason = err
			i := slices.IndexFunc(batch, func(b usage.Record) bool { return b.Sequence == failure.Sequence })
			again = append(again, batch[i])
		}
		w.count(func(s *Stats) {
			s.Records += int64(result.Buckets - len(result.Failures))
			s.Updates += int64(result.Updates)
			s.Retries += int64(len(again))
		})
		if len(again) == 0 {
			return buckets, nil
		}
		if ctx.Err() != nil {
			return buckets, ctx.Err()
		}
		if wait.complains() {
			w.config.Log.Warn("records were not counted; trying again", "shard", r.shard, "records", len(again), "error", reason)
		}
		wait.pause(ctx)
		batch = again
	}
}

// giveUp keeps a record that cannot be counted for another version.
func (r *reading) giveUp(ctx context.Context, failure *usage.Failure) error {
	w := r.worker
	letter := deadletter.Letter{
		Stream: w.stream.ARN, Shard: r.shard, First: failure.Sequence, Last: failure.Sequence, Reason: failure.Err.Error(),
		Counting: w.counter.Counting(), Time: time.Now(),
	}
	within, stop := context.WithTimeout(ctx, patienceOf)
	defer stop()
	if err := w.letters.Put(within, w.stream.Label, &letter); err != nil {
		return err
	}
	w.count(func(s *Stats) { s.DeadLetters++ })
	w.config.Log.Error("a record cannot be counted; it is kept for zael redrive, which has 24 hours",
		"shard", r.shard, "sequence", failure.Sequence, "error", failure.Err)
	return nil
}

// advance notes how far the shard is counted, and writes it now and then: as
// often as the lease is renewed at the least, but never for records of nobody, of
// which the lease itself makes some.
func (r *reading) advance(ctx context.Context, batch []usage.Record, buckets int) {
	r.mu.Lock()
	if n := len(batch); n > 0 {
		r.checkpoint = batch[n-1].Sequence
	}
	if r.quiet++; buckets > 0 {
		r.quiet = 0
	}
	write := buckets > 0 && time.Since(r.written) > r.worker.config.Lease/10
	turned := r.quiet == caughtUp
	r.mu.Unlock()
	if turned {
		r.worker.poke()
	}
	if write {
		_ = r.persist(ctx) // the next one will do
	}
}

// persist renews the lease with the checkpoint, unless that is being done. If it is
// another worker's by now the reading ends.
func (r *reading) persist(ctx context.Context) error {
	if !r.writing.TryLock() {
		return nil
	}
	defer r.writing.Unlock()
	if r.isLost() {
		return nil
	}
	_, err := r.worker.leases.renew(ctx, r.shard, r.worker.id, r.position())
	return r.wrote(err)
}

func (r *reading) wrote(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case errors.Is(err, errLost):
		r.lost = true
		r.cancel()
		r.worker.config.Log.Info("another worker has the shard now", "shard", r.shard)
		return nil
	case err == nil:
		r.written = time.Now()
	}
	return err
}

// finish says that the shard is counted to its end.
func (r *reading) finish(ctx context.Context) {
	w := r.worker
	wait := patience{}
	for ctx.Err() == nil {
		if !r.writing.TryLock() { // it is being renewed
			wait.pause(ctx)
			continue
		}
		_, err := w.leases.finish(ctx, r.shard, w.id, r.position())
		err = r.wrote(err)
		if err == nil {
			r.mu.Lock()
			r.lost = true
			r.mu.Unlock()
			w.config.Log.Info("a shard is counted to its end", "shard", r.shard)
		}
		r.writing.Unlock()
		if err == nil {
			return
		}
		if hopeless(err) {
			w.fail(err)
			return
		}
		wait.pause(ctx)
	}
}

// patience is how long to wait for what does not answer.
type patience struct {
	tries int
	said  time.Time
}

func (p *patience) complains() bool {
	if time.Since(p.said) < complainEvery {
		return false
	}
	p.said = time.Now()
	return true
}

func (p *patience) pause(ctx context.Context) {
	_ = pause.For(ctx, min(pauseMost, pauseLeast<<min(p.tries, 10)))
	p.tries++
}
