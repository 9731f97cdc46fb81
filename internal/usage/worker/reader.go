package worker

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

// A shardReader reads and counts one shard, in its own goroutine.
type shardReader struct {
	worker *Worker
	shard  string
	cancel context.CancelFunc
	ended  chan struct{} // closed when the goroutine ends

	leaseWrite sync.Mutex // held while the lease is written

	mu         sync.Mutex
	checkpoint string
	renewed    time.Time // when the lease was last written
	quiet      int       // reads since the last record of a bucket
	released   bool      // the lease is another worker's, or done
}

const (
	pauseLeast = 50 * time.Millisecond
	pauseMost  = 5 * time.Second
	// fullBatch is how many records are counted without waiting for more, which could be
	// written together with them.
	fullBatch = 100
	// warnEvery is how often a worker reports that it waits.
	warnEvery = 30 * time.Second
)

func (w *Worker) startReader(ctx context.Context, l lease) {
	ctx, cancel := context.WithCancel(ctx)
	r := &shardReader{worker: w, shard: l.shard, cancel: cancel, ended: make(chan struct{}), checkpoint: l.checkpoint, renewed: time.Now()}
	w.readers[l.shard] = r
	w.config.Log.Info("reading a shard", "shard", l.shard, "after", l.checkpoint)
	w.running.Go(func() {
		defer w.wakeUp()
		defer close(r.ended)
		defer cancel()
		r.run(ctx)
	})
}

func (r *shardReader) position() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.checkpoint
}

func (r *shardReader) isQuiet() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.quiet >= quietReads
}

func (r *shardReader) isReleased() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.released
}

func (r *shardReader) hasEnded() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

// run counts the shard to its end, or until ctx is done.
func (r *shardReader) run(ctx context.Context) {
	w := r.worker
	reader := w.stream.After(r.shard, r.checkpoint)
	wait := backoff{}
	for ctx.Err() == nil {
		readCtx, stop := context.WithTimeout(ctx, callTimeout)
		records, end, err := reader.Next(readCtx)
		stop()
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, stream.ErrGone):
			w.reportTrimmed(shardGone, r.shard, r.position(), err)
			r.finish(ctx)
			return
		case errors.Is(err, stream.ErrTrimmed):
			w.reportTrimmed("the stream has lost records that were not counted: some changes may be missing from the usage", r.shard, r.position(), err)
			reader = w.stream.After(r.shard, "")
			continue
		case permanent(err):
			w.fail(err)
			return
		case err != nil:
			if wait.mustWarn() {
				w.config.Log.Warn("the stream does not answer; trying again", "shard", r.shard, "error", err)
			}
			wait.pause(ctx)
			continue
		}
		wait = backoff{}
		buckets, err := r.count(ctx, records)
		if err != nil {
			if ctx.Err() == nil {
				w.fail(err)
			}
			return
		}
		r.advance(ctx, records, buckets)
		if end {
			r.finish(ctx)
			return
		}
		if len(records) < fullBatch {
			_ = pause.For(ctx, w.config.Poll)
		}
	}
}

// count counts a batch, however long it takes, and returns how many of its records are of
// buckets. Records that can never be counted become dead letters. An error ends the worker.
func (r *shardReader) count(ctx context.Context, batch []usage.Record) (buckets int, err error) {
	w := r.worker
	wait := backoff{}
	for first := true; ; first = false {
		countCtx, stop := context.WithTimeout(ctx, callTimeout)
		result := w.counter.Count(countCtx, batch)
		stop()
		if first {
			buckets = result.Buckets
		}
		var retry []usage.Record
		var reason error
		for _, failure := range result.Failures {
			err := failure.Err
			if errors.Is(err, usage.ErrUncountable) {
				if err = r.giveUp(ctx, &failure); err == nil {
					continue
				}
			}
			if permanent(err) {
				return buckets, err
			}
			reason = err
			i := slices.IndexFunc(batch, func(b usage.Record) bool { return b.Sequence == failure.Sequence })
			retry = append(retry, batch[i])
		}
		w.updateStats(func(s *Stats) {
			s.Records += int64(result.Buckets - len(result.Failures))
			s.Updates += int64(result.Updates)
			s.Retries += int64(len(retry))
		})
		if len(retry) == 0 {
			return buckets, nil
		}
		if ctx.Err() != nil {
			return buckets, ctx.Err()
		}
		if wait.mustWarn() {
			w.config.Log.Warn("records were not counted; trying again", "shard", r.shard, "records", len(retry), "error", reason)
		}
		wait.pause(ctx)
		batch = retry
	}
}

// giveUp stores a dead letter for a record that cannot be counted.
func (r *shardReader) giveUp(ctx context.Context, failure *usage.Failure) error {
	w := r.worker
	letter := deadletter.Letter{
		Stream: w.stream.ARN, Shard: r.shard, First: failure.Sequence, Last: failure.Sequence, Reason: failure.Err.Error(),
		CountingRules: w.counter.Rules(), Time: time.Now(),
	}
	putCtx, stop := context.WithTimeout(ctx, callTimeout)
	defer stop()
	if err := w.deadLetters.Put(putCtx, w.stream.Label, &letter); err != nil {
		return err
	}
	w.updateStats(func(s *Stats) { s.DeadLetters++ })
	w.config.Log.Error("a record cannot be counted; zael redrive can try again within 24 hours",
		"shard", r.shard, "sequence", failure.Sequence, "error", failure.Err)
	return nil
}

// advance moves the checkpoint to the end of a batch, and writes it now and then, but not
// for batches without a bucket's record: writing the lease makes such records.
func (r *shardReader) advance(ctx context.Context, batch []usage.Record, buckets int) {
	r.mu.Lock()
	if n := len(batch); n > 0 {
		r.checkpoint = batch[n-1].Sequence
	}
	if r.quiet++; buckets > 0 {
		r.quiet = 0
	}
	write := buckets > 0 && time.Since(r.renewed) > r.worker.config.Lease/10
	becameQuiet := r.quiet == quietReads
	r.mu.Unlock()
	if becameQuiet {
		r.worker.wakeUp()
	}
	if write {
		_ = r.renew(ctx) // if it fails, the next batch or round writes it
	}
}

// renew renews the lease and writes the checkpoint, unless that is in progress. If another
// worker has the lease, the reader ends.
func (r *shardReader) renew(ctx context.Context) error {
	if !r.leaseWrite.TryLock() {
		return nil
	}
	defer r.leaseWrite.Unlock()
	if r.isReleased() {
		return nil
	}
	_, err := r.worker.leases.renew(ctx, r.shard, r.worker.id, r.position())
	return r.afterLeaseWrite(err)
}

func (r *shardReader) afterLeaseWrite(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case errors.Is(err, errLost):
		r.released = true
		r.cancel()
		r.worker.config.Log.Info("another worker has the shard now", "shard", r.shard)
		return nil
	case err == nil:
		r.renewed = time.Now()
	}
	return err
}

// finish marks the shard as counted to its end.
func (r *shardReader) finish(ctx context.Context) {
	w := r.worker
	wait := backoff{}
	for ctx.Err() == nil {
		if !r.leaseWrite.TryLock() { // it is being renewed
			wait.pause(ctx)
			continue
		}
		_, err := w.leases.finish(ctx, r.shard, w.id, r.position())
		err = r.afterLeaseWrite(err)
		if err == nil {
			r.mu.Lock()
			r.released = true
			r.mu.Unlock()
			w.config.Log.Info("a shard is counted to its end", "shard", r.shard)
		}
		r.leaseWrite.Unlock()
		if err == nil {
			return
		}
		if permanent(err) {
			w.fail(err)
			return
		}
		wait.pause(ctx)
	}
}

// A backoff spaces the tries of a call.
type backoff struct {
	tries  int
	warned time.Time
}

// mustWarn reports whether it is time to warn that a call fails.
func (b *backoff) mustWarn() bool {
	if time.Since(b.warned) < warnEvery {
		return false
	}
	b.warned = time.Now()
	return true
}

func (b *backoff) pause(ctx context.Context) {
	_ = pause.For(ctx, min(pauseMost, pauseLeast<<min(b.tries, 10)))
	b.tries++
}
