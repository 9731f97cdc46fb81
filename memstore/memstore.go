// Package memstore keeps zael's buckets in the memory of one process.
//
// Memory follows the buckets and the limits that are in use: what has been full
// for a second is forgotten as calls go, what is not never is. A store costs
// about 160 bytes for a bucket of two limits.
package memstore

import (
	"context"
	"errors"
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// A Config tunes a Store. A nil Config and the zero Config are the same.
type Config struct {
	// MaxBuckets is how many buckets may be in use at once; beyond it a charge
	// to a new one fails with an error matching zael.ErrUnavailable. 0 is no
	// bound. Below 0 every charge to a new one fails with a
	// *zael.ValidationError.
	MaxBuckets int

	// Usage counts usage for the last 24 hours in which there was any. Without
	// it reading usage gives errors.ErrUnsupported.
	Usage bool
}

const shardBits = 8

// A Store is a zael.Store with every role, in memory. Its methods may be called
// concurrently and do no I/O. Entities and stored limits stay until they are
// deleted; of the audit events the last 10,000 are kept.
type Store struct {
	seed   maphash.Seed
	max    int64
	latest atomic.Int64 // bucket.Instant, see LatestInstant; 0 if there is none
	count  atomic.Int64 // of buckets
	cursor atomic.Uint32
	usage  *usage // nil: not counted
	book   book
	shards [1 << shardBits]shard
}

var (
	_ zael.Store          = (*Store)(nil)
	_ zael.InstantStore   = (*Store)(nil)
	_ zael.LocalStore     = (*Store)(nil)
	_ zael.ValueStore     = (*Store)(nil)
	_ zael.EntityStore    = (*Store)(nil)
	_ zael.LimitStore     = (*Store)(nil)
	_ zael.Applier        = (*Store)(nil)
	_ zael.CapacityReader = (*Store)(nil)
	_ zael.UsageStore     = (*Store)(nil)
	_ zael.AuditStore     = (*Store)(nil)
)

// New makes an empty store.
func New(config *Config) *Store {
	s := &Store{seed: maphash.MakeSeed()}
	s.book.init()
	if config != nil {
		s.max = int64(config.MaxBuckets)
		if config.Usage {
			s.usage = newUsage()
		}
	}
	return s
}

// Close does nothing: the store is gone when nobody refers to it.
func (s *Store) Close(context.Context) error { return nil }

// Len is the number of buckets kept.
func (s *Store) Len() int { return int(s.count.Load()) }

// A shard has the buckets of some entities: all of an entity's are in one.
type shard struct {
	mu    sync.Mutex
	table table
	hand  int            // of the sweep, in table.slots
	calls uint32         // since the shard was made
	swept bucket.Instant // what was forgotten was full by then; 0: nothing was

	limits  []bucket.LimitState // of the records that a call reads
	entries []*entry            // in which they are

	_ [8]byte // keeps the locks of two shards apart in the processor's cache
}

// hash is a key's place in the table of its shard, and the shard.
func (s *Store) hash(key zael.Key) (h uint64, index uint8) {
	e := maphash.String(s.seed, key.Entity)
	return e ^ bits.RotateLeft64(maphash.String(s.seed, key.Resource), 1), uint8(e >> (64 - shardBits))
}

// Take implements zael.BucketStore.
func (s *Store) Take(_ context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
	at, _, err := s.TakeLocal(now, maxWait, debits)
	return at, err
}

// TakeLocal implements zael.LocalStore.
func (s *Store) TakeLocal(now time.Time, maxWait time.Duration, debits []zael.Debit) (at time.Time, answered bool, err error) {
	instant, err := instantOf(now)
	if err != nil {
		return now, true, err
	}
	s.pass(instant)
	if len(debits) == 1 && s.usage == nil {
		switch s.takeKnown(instant, maxWait, &debits[0]) {
		case taken:
			return now, true, nil
		case refused:
			return now, true, zael.ErrExceeded
		}
	}
	return now, true, s.do(call{taking: true, now: now, at: instant, maxWait: maxWait}, debits)
}

// Adjust implements zael.BucketStore.
func (s *Store) Adjust(_ context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
	at, _, err := s.AdjustLocal(now, debits)
	return at, err
}

// AdjustLocal implements zael.LocalStore.
func (s *Store) AdjustLocal(now time.Time, debits []zael.Debit) (at time.Time, answered bool, err error) {
	instant, err := instantOf(now)
	if err != nil {
		return now, true, err
	}
	s.pass(instant)
	return now, true, s.do(call{now: now, at: instant}, debits)
}

// A call is a Take or an Adjust.
type call struct {
	taking  bool
	now     time.Time
	at      bucket.Instant
	maxWait time.Duration
}

// do makes the call with the shards of debits locked; again if there was no
// room for new buckets and now is.
func (s *Store) do(c call, debits []zael.Debit) error {
	var buf [2]place
	for again := true; ; again = false {
		places := s.lock(buf[:0], debits)
		read(places, debits)
		fresh, err := s.apply(c, places, debits)
		for i := range places {
			if r := places[i].record; r != nil && r.latest > c.at {
				s.see(r.latest)
			}
		}
		owed := places[0].shard.owed(fresh, places[0].record, c.at)
		s.unlock(places)
		if err != nil && again && errors.Is(err, errFull) && s.makeRoom(c.at) {
			continue
		}
		if owed > 0 {
			s.sweep(owed, c.at)
		}
		return err
	}
}

// apply makes the call, counts its usage, and tells how many buckets it made.
func (s *Store) apply(c call, places []place, debits []zael.Debit) (fresh int, err error) {
	events := int64(0)
	if c.taking {
		fresh, err = s.take(places, c.at, c.maxWait, debits)
		events = 1
	} else {
		fresh, err = s.adjust(places, c.at, debits)
	}
	if err == nil && s.usage != nil {
		s.usage.count(c.now, debits, events)
	}
	return fresh, err
}

// passEvery is how far Store.latest may lag behind: callers of all processors
// would otherwise write it with each call.
const passEvery = int64(time.Millisecond)

// pass notes the instant of a call.
func (s *Store) pass(at bucket.Instant) {
	if latest := s.latest.Load(); latest == 0 || int64(at)-passEvery > latest {
		s.see(at)
	}
}

// see notes an instant, if it is the latest.
func (s *Store) see(at bucket.Instant) {
	for {
		latest := s.latest.Load()
		next := int64(bucket.Latest(bucket.Instant(latest), at))
		if next == latest || s.latest.CompareAndSwap(latest, next) {
			return
		}
	}
}

// LatestInstant implements zael.InstantStore.
func (s *Store) LatestInstant() time.Time {
	latest := s.latest.Load()
	if latest == 0 {
		return time.Time{}
	}
	return bucket.Instant(latest).Time()
}

func instantOf(now time.Time) (bucket.Instant, error) {
	at, err := bucket.At(now)
	if err != nil {
		return 0, &zael.ValidationError{Field: "now", Reason: err.Error()}
	}
	return at, nil
}

// Buckets implements zael.BucketStore.
func (s *Store) Buckets(_ context.Context, now time.Time, keys []zael.Key) (time.Time, []zael.Bucket, error) {
	if _, err := instantOf(now); err != nil {
		return now, nil, err
	}
	buckets := make([]zael.Bucket, len(keys))
	for i, key := range keys {
		h, index := s.hash(key)
		sh := &s.shards[index]
		sh.mu.Lock()
		buckets[i] = zael.Bucket{Key: key}
		if r := sh.table.find(h, key); r != nil {
			buckets[i].Limits = r.states()
			s.see(r.latest)
		}
		sh.mu.Unlock()
	}
	return now, buckets, nil
}
