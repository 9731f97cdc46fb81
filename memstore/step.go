package memstore

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// A place is where a debit's bucket is, with its shard locked.
type place struct {
	hash   uint64
	shard  *shard
	index  uint8
	record *record // nil if there is none

	read    bucket.Record // what the debit names of it
	entries []*entry      // where it is
	birth   uint64        // of limits that are not there
}

// lock finds the places of debits and locks their shards, always in the same
// order and each once.
func (s *Store) lock(places []place, debits []zael.Debit) []place {
	for i := range debits {
		h, index := s.hash(debits[i].Key)
		places = append(places, place{hash: h, shard: &s.shards[index], index: index})
	}
	for next := s.nextShard(places, -1); next >= 0; next = s.nextShard(places, next) {
		s.shards[next].mu.Lock()
	}
	for i := range places {
		p := &places[i]
		p.record = p.shard.table.find(p.hash, debits[i].Key)
	}
	return places
}

// nextShard is the least index above after; -1 if there is none.
func (s *Store) nextShard(places []place, after int) int {
	next := -1
	for i := range places {
		if index := int(places[i].index); index > after && (next < 0 || index < next) {
			next = index
		}
	}
	return next
}

func (s *Store) unlock(places []place) {
	for next := s.nextShard(places, -1); next >= 0; next = s.nextShard(places, next) {
		s.shards[next].mu.Unlock()
	}
}

// read reads the records of debits. They are in memory of the first shard, which
// is locked.
func read(places []place, debits []zael.Debit) {
	n := 0
	for i := range debits {
		n += len(debits[i].Charges)
	}
	sh := places[0].shard
	if cap(sh.limits) < n {
		sh.limits, sh.entries = make([]bucket.LimitState, n), make([]*entry, n)
	}
	limits, entries := sh.limits[:n], sh.entries[:n]
	for i := range debits {
		n = len(debits[i].Charges)
		places[i].fill(debits[i].Charges, limits[:0:n], entries[:0:n])
		limits, entries = limits[n:], entries[n:]
	}
}

func (p *place) fill(charges []zael.Charge, limits []bucket.LimitState, entries []*entry) {
	p.read.Forgotten = p.shard.swept
	if p.record != nil {
		p.read.Latest = p.record.latest
		for i := range charges {
			e := p.record.find(charges[i].Name)
			if e != nil && !slices.Contains(entries, e) {
				limits = append(limits, bucket.LimitState{Name: charges[i].Name, State: e.state()})
				entries = append(entries, e)
			}
		}
	}
	if len(limits) < len(charges) {
		p.birth = rand.Uint64()
	}
	p.read.Limits, p.entries = limits, entries
}

// write keeps what an operation has made of the record that was read.
func (p *place) write(key zael.Key, at bucket.Instant) {
	if p.record == nil {
		p.record = p.shard.table.insert(p.hash, key)
	}
	p.record.latest = p.read.Latest
	for i, e := range p.entries {
		p.shard.table.set(e, &p.read.Limits[i])
	}
	for i := len(p.entries); i < len(p.read.Limits); i++ {
		p.shard.table.set(p.shard.add(p.record, at-idle), &p.read.Limits[i])
	}
}

// finish completes an operation on all places.
func finish(outcome bucket.Outcome, places []place, at bucket.Instant, debits []zael.Debit) {
	for i := range debits {
		if p := &places[i]; p.read.Finish(outcome, debits[i].Charges, at) {
			p.write(debits[i].Key, at)
		}
	}
}

// take is zael.BucketStore.Take between lock and unlock.
func (s *Store) take(places []place, at bucket.Instant, maxWait time.Duration, debits []zael.Debit) (fresh int, err error) {
	outcome := bucket.Fits
	for i := range debits {
		outcome = max(outcome, places[i].read.Take(debits[i].Charges, at, maxWait, places[i].birth))
	}
	switch outcome {
	case bucket.Fits:
		if fresh, err = s.admit(places, debits); err != nil {
			outcome = bucket.Exceeds
		}
	case bucket.Exceeds:
		err = zael.ErrExceeded
	case bucket.StaleLimits:
		err = zael.ErrStaleLimits
	}
	finish(outcome, places, at, debits)
	return fresh, err
}

// adjust is zael.BucketStore.Adjust between lock and unlock.
func (s *Store) adjust(places []place, at bucket.Instant, debits []zael.Debit) (fresh int, err error) {
	for i := range debits {
		charges := debits[i].Charges
		if bad, err := places[i].read.Adjust(charges, at, places[i].birth); err != nil {
			return 0, &zael.ValidationError{Field: "amount of " + charges[bad].Name, Value: charges[bad].Amount, Reason: err.Error()}
		}
	}
	if fresh, err = s.admit(places, debits); err != nil {
		return 0, err
	}
	finish(bucket.Fits, places, at, debits)
	return fresh, nil
}
