// Package memstore implements a zael.Store in the memory of one process.
//
// A store holds the buckets and limits that are in use. What has been full for a
// second is forgotten in the course of later calls; what is not full is never
// forgotten. A bucket of two limits takes about 160 bytes.
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
	"github.com/zeroae/zael/internal/storearg"
)

// A Config tunes a Store. A nil Config and the zero Config are the same.
type Config struct {
	// MaxBuckets is how many buckets may be in use at once, 0 for any number. A
	// charge to one more fails with an error matching zael.ErrUnavailable; if
	// MaxBuckets is negative, one to any new bucket fails with a
	// *zael.ValidationError.
	MaxBuckets int

	// Usage has the store count usage, and keep it for the last 24 hours in which
	// there was any. Otherwise, reading usage returns errors.ErrUnsupported.
	Usage bool
}

const shardBits = 8

// A Store is a zael.Store in memory, with every role. Its methods may be called
// concurrently and do no I/O. It keeps entities and stored limits until they are
// deleted, and the last 10,000 audit events.
type Store struct {
	seed     maphash.Seed
	max      int64
	latest   atomic.Int64 // bucket.Instant, see LatestInstant; 0 if there is none
	count    atomic.Int64 // of buckets
	cursor   atomic.Uint32
	usage    *usage // nil: not counted
	registry registry
	settings settings
	once     [onceShards]onceShard
	shards   [1 << shardBits]shard
}

var (
	_ zael.Store          = (*Store)(nil)
	_ zael.InstantStore   = (*Store)(nil)
	_ zael.LocalStore     = (*Store)(nil)
	_ zael.ValueStore     = (*Store)(nil)
	_ zael.EntityStore    = (*Store)(nil)
	_ zael.LimitStore     = (*Store)(nil)
	_ zael.AdminStore     = (*Store)(nil)
	_ zael.OnceStore      = (*Store)(nil)
	_ zael.Applier        = (*Store)(nil)
	_ zael.CapacityReader = (*Store)(nil)
	_ zael.ListStore      = (*Store)(nil)
	_ zael.UsageStore     = (*Store)(nil)
	_ zael.AuditStore     = (*Store)(nil)
)

// New returns an empty store.
func New(config *Config) *Store {
	s := &Store{seed: maphash.MakeSeed()}
	s.registry.init()
	if config != nil {
		s.max = int64(config.MaxBuckets)
		if config.Usage {
			s.usage = newUsage()
		}
	}
	return s
}

// Close does nothing: a store holds no resources besides memory.
func (s *Store) Close(context.Context) error { return nil }

// Len returns the number of buckets that the store holds.
func (s *Store) Len() int { return int(s.count.Load()) }

// A shard holds the buckets of some entities. All buckets of an entity are in one.
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

// hash returns the hash of a key and the index of its shard.
func (s *Store) hash(key zael.Key) (h uint64, index uint8) {
	e := maphash.String(s.seed, key.Entity)
	return e ^ bits.RotateLeft64(maphash.String(s.seed, key.Resource), 1), uint8(e >> (64 - shardBits))
}

// lockRecord returns the bucket of a key with its shard locked, or nil if there is none.
func (s *Store) lockRecord(key zael.Key) (*shard, *record) {
	h, index := s.hash(key)
	sh := &s.shards[index]
	sh.mu.Lock()
	r := sh.table.find(h, key)
	if r == nil {
		sh.mu.Unlock()
	}
	return sh, r
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
	s.noteCall(instant)
	if err := s.settings.check(debits); err != nil {
		return now, true, err
	}
	if len(debits) == 1 && s.usage == nil && !debits[0].Bypass {
		if outcome, ok := s.takeKnown(instant, maxWait, &debits[0]); ok {
			if outcome == bucket.Exceeds {
				err = zael.ErrExceeded
			}
			return now, true, err
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
	s.noteCall(instant)
	return now, true, s.do(call{now: now, at: instant}, debits)
}

// A call is a Take or an Adjust.
type call struct {
	taking  bool
	now     time.Time
	at      bucket.Instant
	maxWait time.Duration
}

// do makes the call with the shards of the debits locked. If there is no room for new
// buckets, it forgets full ones and tries once more.
func (s *Store) do(c call, debits []zael.Debit) error {
	for i := range debits {
		for j := range debits[i].Charges {
			if err := storearg.Definition(&debits[i].Charges[j]); err != nil {
				return err
			}
		}
	}
	var buf [2]target
	for again := true; ; again = false {
		targets := s.lock(buf[:0], debits)
		read(targets, debits)
		fresh, err := s.apply(c, targets, debits)
		for i := range targets {
			if r := targets[i].record; r != nil && r.latest > c.at {
				s.noteInstant(r.latest)
			}
		}
		owed := targets[0].shard.owedSlots(fresh, targets[0].record, c.at)
		s.unlock(targets)
		if err != nil && again && errors.Is(err, errFull) && s.makeRoom(c.at) {
			continue
		}
		if owed > 0 {
			s.sweep(owed, c.at)
		}
		return err
	}
}

// apply makes the call and counts its usage. It returns how many buckets it made.
func (s *Store) apply(c call, targets []target, debits []zael.Debit) (fresh int, err error) {
	events := int64(0)
	if c.taking {
		fresh, err = s.take(targets, c.at, c.maxWait, debits)
		events = 1
	} else {
		fresh, err = s.adjust(targets, c.at, debits)
	}
	if err == nil && s.usage != nil {
		s.usage.count(&c, debits, events)
	}
	return fresh, err
}

// noteEvery is how far Store.latest may lag behind, so that not every call on every
// processor writes it.
const noteEvery = int64(time.Millisecond)

// noteCall notes the instant of a call.
func (s *Store) noteCall(at bucket.Instant) {
	if latest := s.latest.Load(); latest == 0 || int64(at)-noteEvery > latest {
		s.noteInstant(at)
	}
}

// noteInstant notes an instant if it is the latest.
func (s *Store) noteInstant(at bucket.Instant) {
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
	at, err := instantOf(now)
	if err != nil {
		return now, nil, err
	}
	buckets := make([]zael.Bucket, len(keys))
	for i, key := range keys {
		h, index := s.hash(key)
		sh := &s.shards[index]
		sh.mu.Lock()
		buckets[i] = zael.Bucket{Key: key}
		if r := sh.table.find(h, key); r != nil {
			buckets[i].Limits = r.states(at)
			s.noteInstant(r.latest)
		}
		sh.mu.Unlock()
	}
	return now, buckets, nil
}
