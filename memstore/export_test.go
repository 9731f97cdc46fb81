package memstore

import (
	"hash/maphash"
	"time"

	"github.com/zeroae/zael"
)

// Shards is how many shards a store has.
const Shards = 1 << shardBits

// SkipToSweep has the next call about a bucket sweep a shard, as if there had been as many as it
// takes.
func (s *Store) SkipToSweep(key zael.Key) {
	_, index := s.hash(key)
	sh := &s.shards[index]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.calls |= sweepEvery - 1
}

// Count counts usage of charges that no bucket has taken.
func (s *Store) Count(now time.Time, debits []zael.Debit, events int64) {
	s.usage.count(&call{now: now}, debits, events)
}

// OnceKeys are the once-keys of one shard.
type OnceKeys struct {
	onceKeys

	seed maphash.Seed
}

// NewOnceKeys returns none.
func NewOnceKeys() *OnceKeys { return &OnceKeys{seed: maphash.MakeSeed()} }

// Keep keeps an answer with a key.
func (o *OnceKeys) Keep(once zael.Once, now time.Time, answer string) {
	o.keep(o.seed, &once, now, []byte(answer))
}

// Lookup returns what is kept with a key.
func (o *OnceKeys) Lookup(key string, now time.Time) (hash, answer string, known bool) {
	k, known := o.lookup(o.seed, key, now)
	return string(k.hash), string(k.answer), known
}

// Collide has a key that is not kept look as if its hash were that of one that is.
func (o *OnceKeys) Collide(kept, other string) {
	o.index[maphash.String(o.seed, other)] = o.index[maphash.String(o.seed, kept)]
}

// Len returns how many there are.
func (o *OnceKeys) Len() int { return len(o.index) + len(o.later) }
