package memstore

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// A target is the bucket of a debit, with its shard locked.
type target struct {
	hash   uint64
	shard  *shard
	index  uint8
	record *record // nil if there is none

	read    bucket.Record // the limits that the debit names
	entries []*entry      // of those limits
	birth   uint64        // of limits that the record does not have
}

// lock returns the targets of debits and locks their shards, each once and always in
// the same order.
func (s *Store) lock(targets []target, debits []zael.Debit) []target {
	for i := range debits {
		h, index := s.hash(debits[i].Key)
		targets = append(targets, target{hash: h, shard: &s.shards[index], index: index})
	}
	for next := s.nextShard(targets, -1); next >= 0; next = s.nextShard(targets, next) {
		s.shards[next].mu.Lock()
	}
	for i := range targets {
		p := &targets[i]
		p.record = p.shard.table.find(p.hash, debits[i].Key)
	}
	return targets
}

// nextShard returns the least index of a shard above after, or -1.
func (s *Store) nextShard(targets []target, after int) int {
	next := -1
	for i := range targets {
		if index := int(targets[i].index); index > after && (next < 0 || index < next) {
			next = index
		}
	}
	return next
}

func (s *Store) unlock(targets []target) {
	for next := s.nextShard(targets, -1); next >= 0; next = s.nextShard(targets, next) {
		s.shards[next].mu.Unlock()
	}
}

// read reads the records of the debits into memory of the first shard, which is
// locked.
func read(targets []target, debits []zael.Debit) {
	n := 0
	for i := range debits {
		n += len(debits[i].Charges)
	}
	sh := targets[0].shard
	if cap(sh.limits) < n {
		sh.limits, sh.entries = make([]bucket.LimitState, n), make([]*entry, n)
	}
	limits, entries := sh.limits[:n], sh.entries[:n]
	for i := range debits {
		n = len(debits[i].Charges)
		targets[i].fill(&debits[i], limits[:0:n], entries[:0:n])
		limits, entries = limits[n:], entries[n:]
	}
}

func (p *target) fill(debit *zael.Debit, limits []bucket.LimitState, entries []*entry) {
	charges := debit.Charges
	p.read.Forgotten, p.read.Own = p.shard.swept, debit.Holder
	begins := true // a limit, or a holder
	if p.record != nil {
		p.read.Latest, p.read.Holders = p.record.latest, slices.Clone(p.record.holders())
		for i := range charges {
			e := p.record.find(charges[i].Name, charges[i].Definition.Kind == bucket.Slots)
			if e != nil && !slices.Contains(entries, e) {
				limits = append(limits, bucket.LimitState{Name: charges[i].Name, State: p.record.state(e)})
				entries = append(entries, e)
			}
		}
		begins = len(limits) < len(charges) || slices.ContainsFunc(charges, func(c zael.Charge) bool { return c.Definition.Kind == bucket.Slots })
		if len(p.read.Holders) > 0 {
			for e := range p.record.slots() { // one write moves the deadline of all that a holder has
				if !slices.Contains(entries, e) {
					limits = append(limits, bucket.LimitState{Name: e.limit.name, State: p.record.state(e)})
					entries = append(entries, e)
				}
			}
		}
	}
	if begins {
		p.birth = rand.Uint64()
	}
	p.read.Limits, p.entries = limits, entries
}

// write writes the record back as an operation has left it.
func (p *target) write(key zael.Key, at bucket.Instant) {
	if p.record == nil {
		p.record = p.shard.table.insert(p.hash, key)
	}
	p.record.latest = p.read.Latest
	p.record.setHolders(p.read.Holders)
	for i, e := range p.entries {
		p.shard.table.set(p.record, e, &p.read.Limits[i])
	}
	for i := len(p.entries); i < len(p.read.Limits); i++ {
		p.shard.table.set(p.record, p.shard.add(p.record, at-idle), &p.read.Limits[i])
	}
}

// finish completes an operation on all targets.
func finish(outcome bucket.Outcome, targets []target, at bucket.Instant, debits []zael.Debit) {
	for i := range debits {
		if debits[i].Bypass {
			targets[i].read.Pass(debits[i].Charges, at)
			continue
		}
		if p := &targets[i]; p.read.Finish(outcome, debits[i].Charges, at) {
			p.write(debits[i].Key, at)
		}
	}
}

// take is zael.BucketStore.Take between lock and unlock.
func (s *Store) take(targets []target, at bucket.Instant, maxWait time.Duration, debits []zael.Debit) (fresh int, err error) {
	outcome := bucket.Fits
	for i := range debits {
		if debits[i].Bypass {
			continue
		}
		outcome = max(outcome, targets[i].read.Take(debits[i].Charges, at, maxWait, targets[i].birth))
	}
	switch outcome {
	case bucket.Fits:
		if fresh, err = s.admit(targets, debits); err != nil {
			outcome = bucket.Exceeds
		}
	case bucket.Exceeds:
		err = zael.ErrExceeded
	case bucket.StaleLimits:
		err = zael.ErrStaleLimits
	}
	finish(outcome, targets, at, debits)
	return fresh, err
}

// adjust is zael.BucketStore.Adjust between lock and unlock.
func (s *Store) adjust(targets []target, at bucket.Instant, debits []zael.Debit) (fresh int, err error) {
	for i := range debits {
		charges := debits[i].Charges
		if debits[i].Bypass {
			continue
		}
		if bad, err := targets[i].read.Adjust(charges, at, targets[i].birth); err != nil {
			return 0, &zael.ValidationError{Field: "amount of " + charges[bad].Name, Value: charges[bad].Amount, Reason: err.Error()}
		}
	}
	if fresh, err = s.admit(targets, debits); err != nil {
		return 0, err
	}
	finish(bucket.Fits, targets, at, debits)
	return fresh, nil
}
