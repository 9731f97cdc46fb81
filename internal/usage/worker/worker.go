// Package worker counts usage from a table's stream in a long-running process: what the
// Lambda function does, for local use and for accounts without Lambda. Any number of
// workers share the shards of a stream. If one dies, others or its successor resume from
// its last checkpoint; package usage sees to it that records which are counted again, or
// by two workers at once, count once.
package worker

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/aws/smithy-go"

	"github.com/zeroae/zael/internal/usage"
	"github.com/zeroae/zael/internal/usage/deadletter"
	"github.com/zeroae/zael/internal/usage/stream"
)

// A Config configures a Worker. A nil Config is the zero Config.
type Config struct {
	Lease time.Duration // others take over from a worker that has not renewed a lease for so long; 0 means 15 s
	Poll  time.Duration // between reads of a shard with few new records, which are then written together; 0 means 1 s
	Once  bool          // Run returns when all records that existed are counted
	Log   *slog.Logger  // nil discards
}

const (
	defaultLease = 15 * time.Second
	defaultPoll  = time.Second
	oncePoll     = 100 * time.Millisecond
	// quietReads is how many reads of a shard without a bucket's record mean that it has no
	// more: DynamoDB may return empty pages before the end.
	quietReads = 10
	// goodbye is how long a worker takes at most to release its leases when it ends.
	goodbye = 5 * time.Second
	// callTimeout bounds a round, a read, the counting of a batch and the write of a dead
	// letter. Each is tried again.
	callTimeout = time.Minute
	// leastLeaseTimeout bounds the write of a lease, if a third of the lease is shorter.
	leastLeaseTimeout = time.Second
)

// Stats are counts since the Worker was made.
type Stats struct {
	Records     int64 // changes of buckets that were counted, now or before
	Updates     int64 // calls of the table to write usage
	Retries     int64 // records that were not counted at the first try
	DeadLetters int64 // records that cannot be counted, kept for redrive
	Trimmed     int64 // times that the stream had lost records which were not counted, or may have
}

// A Worker counts the usage of a table.
type Worker struct {
	stream      *stream.Stream
	counter     *usage.Counter
	leases      leases
	deadLetters *deadletter.Table
	config      Config
	id          string

	wake     chan struct{} // something has changed that the next round should see
	readers  map[string]*shardReader
	observed map[string]observedLease
	agreed   bool // with the other workers, on the windows
	running  sync.WaitGroup

	mu    sync.Mutex
	stats Stats
	fatal error
}

// client is what a Worker uses of *dynamodb.Client.
type client interface {
	tableClient
	deadletter.Client
}

// New returns a worker for a table and its stream.
func New(s *stream.Stream, c client, table string, counter *usage.Counter, config *Config) (*Worker, error) {
	var cfg Config
	if config != nil {
		cfg = *config
	}
	cfg.Lease = cmp.Or(cfg.Lease, defaultLease)
	if cfg.Poll == 0 {
		cfg.Poll = defaultPoll
		if cfg.Once {
			cfg.Poll = oncePoll
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Lease < 0 || cfg.Poll < 0 {
		return nil, errors.New("worker: Config.Lease and Config.Poll must not be negative")
	}
	return &Worker{
		stream: s, counter: counter, config: cfg, id: strings.ToLower(rand.Text()[:12]),
		leases:      leases{c, table, s.Label, counter.Rules().Windows, max(cfg.Lease/3, leastLeaseTimeout)},
		deadLetters: deadletter.NewTable(c, table),
		wake:        make(chan struct{}, 1), readers: map[string]*shardReader{},
	}, nil
}

// Stats returns the counts.
func (w *Worker) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stats
}

func (w *Worker) updateStats(f func(*Stats)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.stats)
}

// Run counts until ctx is done, and returns its error; with Config.Once until all is
// counted. It waits for a table that does not answer, however long that takes, and returns
// an error if the table does not exist or access is denied. It may be called once.
func (w *Worker) Run(ctx context.Context) error {
	defer w.stop(context.WithoutCancel(ctx))
	tick := time.NewTicker(w.config.Lease / 3)
	defer tick.Stop()
	for {
		roundCtx, cancel := context.WithTimeout(ctx, callTimeout)
		err := w.round(roundCtx, ctx)
		cancel()
		w.mu.Lock()
		if w.fatal != nil {
			err = w.fatal
		}
		w.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case permanent(err):
			return err
		case err != nil:
			w.config.Log.Warn("the table or its stream does not answer; trying again", "error", err)
		case w.config.Once && w.caughtUp():
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case <-w.wake:
		}
	}
}

// permanent reports whether an error will not pass by itself.
func permanent(err error) bool {
	if err == nil || errors.Is(err, stream.ErrTrimmed) {
		return false
	}
	if errors.Is(err, errWindows) {
		return true
	}
	e, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return false
	}
	switch e.ErrorCode() {
	case "AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException",
		"ResourceNotFoundException", "MissingAuthenticationTokenException":
		return true
	}
	return false
}

// wakeUp starts the next round at once.
func (w *Worker) wakeUp() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// shardErrors are the errors of a round, one for each shard that failed.
type shardErrors []error

// add adds an error, unless it is nil. It returns the error if the round must end.
func (e *shardErrors) add(ctx context.Context, err error) error {
	if err != nil && (ctx.Err() != nil || permanent(err)) {
		return err
	}
	if err != nil {
		*e = append(*e, err)
	}
	return nil
}

// round renews the leases of this worker, reads all of them and claims some. The readers
// that it starts live until readersCtx is done. An error of one shard does not affect others.
func (w *Worker) round(ctx, readersCtx context.Context) error {
	var failed shardErrors
	for shard, r := range w.readers {
		select {
		case <-r.ended:
			delete(w.readers, shard)
			continue
		default:
		}
		if err := failed.add(ctx, r.renew(ctx)); err != nil {
			return err
		}
	}
	now, err := w.refresh(ctx, &failed)
	if err != nil {
		return err
	}
	if ok, err := w.agree(now); !ok {
		return cmp.Or(err, errors.Join(failed...))
	}
	for shard, o := range w.observed { // claimed by a write whose answer was lost
		if o.owner == w.id && w.readers[shard] == nil && !o.done {
			w.startReader(readersCtx, o.lease)
		}
	}
	for _, shard := range choose(w.observed, w.id, now, w.config.Lease) {
		l, err := w.leases.claim(ctx, w.observed[shard].lease, w.id)
		if errors.Is(err, errLost) {
			continue
		}
		if err != nil {
			if err := failed.add(ctx, err); err != nil {
				return err
			}
			continue
		}
		o := w.observed[shard]
		if l.checkpoint == "" && now.Sub(o.renewed) > stream.Retention {
			w.reportTrimmed("nobody has read a shard for 24 hours: changes that the stream has lost may be missing from the usage", shard, "", nil)
		}
		o.lease = l
		w.observed[shard] = o
		w.startReader(readersCtx, l)
	}
	return errors.Join(failed...)
}

// refresh reads the shards and their leases, and returns when it did. It returns an error
// only if none of them can be read.
func (w *Worker) refresh(ctx context.Context, failed *shardErrors) (now time.Time, err error) {
	all, err := w.leases.load(ctx)
	if err != nil {
		return now, err
	}
	shards, err := w.stream.Shards(ctx)
	if err != nil {
		return now, err
	}
	listed := map[string]bool{}
	for _, shard := range shards {
		listed[shard.ID] = true
		if _, ok := all[shard.ID]; ok {
			continue
		}
		l, err := w.leases.create(ctx, shard.ID, shard.Parent)
		if err != nil { // another worker has just created it, or it must wait, and its children with it
			l = lease{shard: shard.ID, parent: shard.Parent, owner: "?"}
			if errors.Is(err, errLost) {
				err = nil
			}
		}
		if err := failed.add(ctx, err); err != nil {
			return now, err
		}
		all[shard.ID] = l
	}
	now = time.Now()
	w.observed = observe(w.observed, all, listed, now)
	return now, w.abandonGone(ctx, failed)
}

// errWindows ends a worker. The changes of its shards and those of others' shards would
// otherwise be counted in different windows.
var errWindows = errors.New("another worker counts this table by other windows: end it, or give both the same windows")

// agree reports whether shards may be claimed: only when all other workers that are alive
// are known to count by our windows. If two with different windows start together, one of
// them ends.
func (w *Worker) agree(now time.Time) (ok bool, err error) {
	ok = true
	for shard, o := range w.observed {
		if o.done || !o.listed || o.owner == w.id || o.windows == "" || o.windows == w.leases.windows || o.free(now, w.config.Lease) {
			continue
		}
		if o.alive && (!w.agreed || w.id > o.owner) {
			return false, fmt.Errorf("%w: %s has the shard %s and counts by %s, this one by %s", errWindows, o.owner, shard, o.windows, w.leases.windows)
		}
		ok = ok && w.agreed
	}
	w.agreed = ok
	return ok, nil
}

const shardGone = "a shard is gone from the stream before it was read to its end: its last changes may be missing from the usage"

// abandonGone reports shards that are gone from the stream before they were read to their
// end. A shard may also be missing because another worker has only just seen it first. So
// it counts as gone when its lease has not been renewed for stream.Retention.
func (w *Worker) abandonGone(ctx context.Context, failed *shardErrors) error {
	now := time.Now()
	for shard, o := range w.observed {
		if o.listed || o.done || w.readers[shard] != nil || !o.free(now, w.config.Lease) || now.Sub(o.renewed) <= stream.Retention {
			continue
		}
		l, err := w.leases.abandon(ctx, o.lease)
		if errors.Is(err, errLost) {
			continue
		}
		if err != nil {
			if err := failed.add(ctx, err); err != nil {
				return err
			}
			continue
		}
		o.lease = l
		w.observed[shard] = o
		w.reportTrimmed(shardGone, shard, o.checkpoint, nil)
	}
	return nil
}

func (w *Worker) reportTrimmed(what, shard, checkpoint string, err error) {
	w.updateStats(func(s *Stats) { s.Trimmed++ })
	w.config.Log.Error(what, "shard", shard, "counted_up_to", checkpoint, "error", err)
}

// caughtUp reports whether all shards are counted, by this worker or by others that are
// alive.
func (w *Worker) caughtUp() bool {
	for shard, o := range w.observed {
		if o.done || !o.listed {
			continue
		}
		r := w.readers[shard]
		switch {
		case r != nil:
			if r.hasEnded() || !r.isQuiet() {
				return false
			}
		case o.owner == "" || !o.alive || o.free(time.Now(), w.config.Lease):
			return false
		}
	}
	return true
}

// stop ends all readers and releases their leases.
func (w *Worker) stop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, goodbye)
	defer cancel()
	for _, r := range w.readers {
		r.cancel()
	}
	w.running.Wait()
	for _, r := range w.readers {
		if r.isReleased() {
			continue
		}
		if _, err := w.leases.release(ctx, r.shard, w.id, r.position()); err != nil && !errors.Is(err, errLost) {
			w.config.Log.Warn("could not write how far a shard is counted: the next worker begins further back", "shard", r.shard, "error", err)
		}
	}
}

// fail ends the Worker with an error.
func (w *Worker) fail(err error) {
	w.mu.Lock()
	if w.fatal == nil {
		w.fatal = fmt.Errorf("counting usage: %w", err)
	}
	w.mu.Unlock()
	w.wakeUp()
}
