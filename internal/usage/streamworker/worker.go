// Package streamworker counts usage from a table's stream in a process that runs for
// long: what the Lambda function does, for local use and for accounts without
// Lambda. Any number of workers share the shards of a stream; one that dies is
// replaced by another, or by itself, from its last checkpoint. What is counted twice in
// between, or by two at once, counts once: package usage sees to that.
package streamworker

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

// A Config tunes a Worker. A nil Config and the zero Config are the same.
type Config struct {
	Lease time.Duration // after which others take over from a worker that shows no sign of life; 0: 15 s
	Poll  time.Duration // between looks at a shard that has little new: what comes in between is written together; 0: 1 s
	Once  bool          // Run returns when all that was there is counted
	Log   *slog.Logger  // nil: nobody
}

const (
	defaultLease = 15 * time.Second
	defaultPoll  = time.Second
	oncePoll     = 100 * time.Millisecond
	// caughtUp is how many answers of a shard without a bucket's record mean that
	// there is nothing left: the engine may give empty ones before the end.
	caughtUp = 10
	// goodbye is how long a worker that ends takes to say how far it is.
	goodbye = 5 * time.Second
	// patienceOf is how long one round, page, batch or letter may take before it is tried again.
	patienceOf = time.Minute
	// leastPatience is how long the write of a lease may take at the least; else a
	// third of the lease.
	leastPatience = time.Second
)

// Stats are counts since the Worker was made.
type Stats struct {
	Records     int64 // changes of buckets that were counted, now or before
	Updates     int64 // writes of usage
	Retries     int64 // records that were not counted at once
	DeadLetters int64 // records that cannot be counted, kept for redrive
	Trimmed     int64 // times that the stream did not have records any more which were not counted, or may not have had them
}

// A Worker counts one table's usage.
type Worker struct {
	stream  *stream.Stream
	counter *usage.Counter
	leases  leases
	letters *deadletter.Table
	config  Config
	id      string

	wake     chan struct{} // something has changed that the next round should see
	readings map[string]*reading
	sights   map[string]sight
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

// New makes a worker of a table and its stream.
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
		return nil, errors.New("streamworker: the length of a lease and the time between looks are not below 0")
	}
	return &Worker{
		stream: s, counter: counter, config: cfg, id: strings.ToLower(rand.Text()[:12]),
		leases: leases{c, table, s.Label, counter.Counting().Windows, max(cfg.Lease/3, leastPatience)}, letters: deadletter.NewTable(c, table),
		wake: make(chan struct{}, 1), readings: map[string]*reading{},
	}, nil
}

// Stats returns the counts.
func (w *Worker) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stats
}

func (w *Worker) count(f func(*Stats)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.stats)
}

// Run counts until ctx is done, and returns its error; with Config.Once until all
// is counted. It waits for a table that does not answer as long as that takes, and
// ends with an error if it is not allowed to use the table, or there is none. It
// may be called once.
func (w *Worker) Run(ctx context.Context) error {
	defer w.end(context.WithoutCancel(ctx))
	tick := time.NewTicker(w.config.Lease / 3)
	defer tick.Stop()
	for {
		within, cancel := context.WithTimeout(ctx, patienceOf)
		err := w.round(within, ctx)
		cancel()
		w.mu.Lock()
		if w.fatal != nil {
			err = w.fatal
		}
		w.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case hopeless(err):
			return err
		case err != nil:
			w.config.Log.Warn("the table or its stream does not answer; trying again", "error", err)
		case w.config.Once && w.isCaughtUp():
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

// hopeless tells whether trying again is of no use until somebody does something.
func hopeless(err error) bool {
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

func (w *Worker) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// errs are what went wrong in a round, shard by shard.
type errs []error

// note notes an error, nil for none. It returns it if there is no sense in going
// on with the other shards.
func (e *errs) note(ctx context.Context, err error) error {
	if err != nil && (ctx.Err() != nil || hopeless(err)) {
		return err
	}
	if err != nil {
		*e = append(*e, err)
	}
	return nil
}

// round renews what we have, looks at all shards and takes some. Their readings
// go on after it, with life. What fails for one shard keeps back no other.
func (w *Worker) round(ctx, life context.Context) error {
	var failed errs
	for shard, r := range w.readings {
		select {
		case <-r.ended:
			delete(w.readings, shard)
			continue
		default:
		}
		if err := failed.note(ctx, r.persist(ctx)); err != nil {
			return err
		}
	}
	now, err := w.see(ctx, &failed)
	if err != nil {
		return err
	}
	if ok, err := w.agree(now); !ok {
		return cmp.Or(err, errors.Join(failed...))
	}
	for shard, s := range w.sights { // whose taking was answered by an error
		if s.owner == w.id && w.readings[shard] == nil && !s.done {
			w.start(life, s.lease)
		}
	}
	for _, shard := range choose(w.sights, w.id, now, w.config.Lease) {
		l, err := w.leases.take(ctx, w.sights[shard].lease, w.id)
		if errors.Is(err, errLost) {
			continue
		}
		if err != nil {
			if err := failed.note(ctx, err); err != nil {
				return err
			}
			continue
		}
		s := w.sights[shard]
		if l.checkpoint == "" && now.Sub(s.beaten) > stream.Kept {
			w.trimmed(shard, "nobody has read a shard for 24 hours, of which nothing was counted before: what the stream has lost of it is not counted", "", nil)
		}
		s.lease = l
		w.sights[shard] = s
		w.start(life, l)
	}
	return errors.Join(failed...)
}

// see looks at the shards and who reads them, which was so at now. An error is
// one of all of them.
func (w *Worker) see(ctx context.Context, failed *errs) (now time.Time, err error) {
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
		if err != nil { // another worker has just made it, or it has to wait, and its children with it
			l = lease{shard: shard.ID, parent: shard.Parent, owner: "?"}
			if errors.Is(err, errLost) {
				err = nil
			}
		}
		if err := failed.note(ctx, err); err != nil {
			return now, err
		}
		all[shard.ID] = l
	}
	now = time.Now()
	w.sights = look(w.sights, all, listed, now)
	return now, w.lookForGone(ctx, failed)
}

// errWindows ends a worker: what it would count of its shards, and others of
// theirs, would be a part of each window that not all have.
var errWindows = errors.New("another worker counts this table by other windows: end it, or give both the same")

// agree tells whether shards may be taken: not before other workers that have
// some, and live, are known to count by our windows. Who has died does not matter.
// Of two that began at the same time one ends.
func (w *Worker) agree(now time.Time) (ok bool, err error) {
	ok = true
	for shard, s := range w.sights {
		if s.done || !s.listed || s.owner == w.id || s.windows == "" || s.windows == w.leases.windows || s.free(now, w.config.Lease) {
			continue
		}
		if s.changed && (!w.agreed || w.id > s.owner) {
			return false, fmt.Errorf("%w: %s has the shard %s and counts by %s, this one by %s", errWindows, s.owner, shard, s.windows, w.leases.windows)
		}
		ok = ok && w.agreed
	}
	w.agreed = ok
	return ok, nil
}

// lookForGone says of shards that the stream has no more, and that nobody has read
// to their end, that they are lost. One that is not listed was there when its lease
// was written, and may be so new that others only have seen it: what a stream has is
// not gone before it has had it for stream.Kept.
func (w *Worker) lookForGone(ctx context.Context, failed *errs) error {
	now := time.Now()
	for shard, s := range w.sights {
		if s.listed || s.done || w.readings[shard] != nil || !s.free(now, w.config.Lease) || now.Sub(s.beaten) <= stream.Kept {
			continue
		}
		l, err := w.leases.abandon(ctx, s.lease)
		if errors.Is(err, errLost) {
			continue
		}
		if err != nil {
			if err := failed.note(ctx, err); err != nil {
				return err
			}
			continue
		}
		s.lease = l
		w.sights[shard] = s
		w.trimmed(shard, "a shard is gone from the stream that was not read to its end: what it had is not counted", s.checkpoint, nil)
	}
	return nil
}

func (w *Worker) trimmed(shard, what, checkpoint string, err error) {
	w.count(func(s *Stats) { s.Trimmed++ })
	w.config.Log.Error(what, "shard", shard, "counted_up_to", checkpoint, "error", err)
}

// isCaughtUp tells whether all shards are done, by us or by a worker that lives.
func (w *Worker) isCaughtUp() bool {
	for shard, s := range w.sights {
		if s.done || !s.listed {
			continue
		}
		r := w.readings[shard]
		switch {
		case r != nil:
			if r.isEnded() || !r.isQuiet() {
				return false
			}
		case s.owner == "" || !s.changed || s.free(time.Now(), w.config.Lease):
			return false
		}
	}
	return true
}

// end stops all readings and lets others have their shards.
func (w *Worker) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, goodbye)
	defer cancel()
	for _, r := range w.readings {
		r.cancel()
	}
	w.running.Wait()
	for _, r := range w.readings {
		if r.isLost() {
			continue
		}
		if _, err := w.leases.release(ctx, r.shard, w.id, r.position()); err != nil && !errors.Is(err, errLost) {
			w.config.Log.Warn("could not note how far a shard is counted: the next worker begins further back", "shard", r.shard, "error", err)
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
	w.poke()
}
