package memstore

import (
	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// TakeValues implements zael.ValueStore. A store that counts usage answers no call.
func (s *Store) TakeValues(at bucket.Instant, entity string, p *zael.PolicyLimits, amounts zael.Four[int64]) (
	_ zael.Four[int64], _ zael.Four[uint64], outcome bucket.Outcome, ok bool,
) {
	limits, ask := p.Limits, amounts.Array()
	var entries [fewLimits]*entry
	var marks [fewLimits]int64
	var generations [fewLimits]uint64
	if s.usage != nil || len(limits) > fewLimits || s.settings.latest.Load() != 0 {
		return zael.Four[int64]{}, zael.Four[uint64]{}, outcome, false
	}
	s.noteCall(at)
	key := zael.Key{Entity: entity, Resource: p.Resource}
	h, index := s.hash(key)
	sh := &s.shards[index]
	sh.mu.Lock()
	r := sh.table.find(h, key)
	if r == nil {
		sh.mu.Unlock()
		return zael.Four[int64]{}, zael.Four[uint64]{}, outcome, false
	}
	for i := range limits {
		e := r.findLimit(i, &limits[i])
		if e == nil || !e.limit.plain {
			sh.mu.Unlock()
			return zael.Four[int64]{}, zael.Four[uint64]{}, outcome, false
		}
		mark, fits := bucket.Take(&limits[i].Definition, e.mark, at, ask[i], 0)
		if !fits {
			outcome = bucket.Exceeds
		}
		entries[i], marks[i], generations[i] = e, mark, e.generation
	}
	switch {
	case outcome == bucket.Fits:
		for i := range limits {
			entries[i].mark = marks[i]
		}
		r.latest = bucket.Latest(r.latest, at)
	case r.latest > at: // by a later instant it may fit: the Limiter sees to its clock
		sh.mu.Unlock()
		return zael.Four[int64]{}, zael.Four[uint64]{}, outcome, false
	default:
		for i := range limits {
			marks[i] = entries[i].mark
		}
	}
	s.leave(sh, r, at)
	return zael.FourOf(&marks), zael.FourOf(&generations), outcome, true
}

// AdjustValues implements zael.ValueStore.
func (s *Store) AdjustValues(
	at bucket.Instant, entity string, p *zael.PolicyLimits, amounts, marks zael.Four[int64], generations zael.Four[uint64],
) (ok bool) {
	limits, change, receipts, births := p.Limits, amounts.Array(), marks.Array(), generations.Array()
	var entries [fewLimits]*entry
	if s.usage != nil || len(limits) > fewLimits {
		return false
	}
	s.noteCall(at)
	key := zael.Key{Entity: entity, Resource: p.Resource}
	h, index := s.hash(key)
	sh := &s.shards[index]
	sh.mu.Lock()
	r := sh.table.find(h, key)
	if r == nil {
		sh.mu.Unlock()
		return false
	}
	later := bucket.Latest(r.latest, at)
	for i := range limits {
		e := r.findLimit(i, &limits[i])
		if e == nil || !e.limit.plain {
			sh.mu.Unlock()
			return false
		}
		state := r.state(e)
		switch n := change[i]; {
		case n > 0:
			charged, err := state.Charge(at, n)
			if err != nil {
				sh.mu.Unlock()
				return false
			}
			state = charged
		case n < 0:
			state = state.Give(later, -n, bucket.Receipt{Mark: receipts[i], Generation: births[i]})
		}
		entries[i], receipts[i] = e, state.Mark
	}
	for i := range limits {
		entries[i].mark = receipts[i]
	}
	r.latest = later
	s.leave(sh, r, at)
	return true
}

// leave ends a call about a record whose shard is locked.
func (s *Store) leave(sh *shard, r *record, at bucket.Instant) {
	if r.latest > at {
		s.noteInstant(r.latest)
	}
	owed := sh.owedSlots(0, r, at)
	sh.mu.Unlock()
	if owed > 0 {
		s.sweep(owed, at)
	}
}
