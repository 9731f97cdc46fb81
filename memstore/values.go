package memstore

import (
	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// TakeValues implements zael.ValueStore. A store that counts usage answers no call.
func (s *Store) TakeValues(at bucket.Instant, key zael.Key, limits []bucket.Limit, amounts [fewLimits]int64) (marks [fewLimits]int64, outcome bucket.Outcome, ok bool) {
	if s.usage != nil || len(limits) > fewLimits {
		return marks, outcome, false
	}
	s.noteCall(at)
	var entries [fewLimits]*entry
	h, index := s.hash(key)
	sh := &s.shards[index]
	sh.mu.Lock()
	r := sh.table.find(h, key)
	if r == nil {
		sh.mu.Unlock()
		return marks, outcome, false
	}
	for i := range limits {
		l := &limits[i]
		e := r.find(l.Name)
		if e == nil || e.limit.definition != l.Definition {
			sh.mu.Unlock()
			return marks, outcome, false
		}
		mark, fits := bucket.Take(&e.limit.definition, e.mark, at, amounts[i], 0)
		if !fits {
			outcome = bucket.Exceeds
		}
		entries[i], marks[i] = e, mark
	}
	if outcome == bucket.Fits {
		for i := range limits {
			entries[i].mark = marks[i]
		}
		r.latest = bucket.Latest(r.latest, at)
	} else {
		for i := range limits {
			marks[i] = entries[i].mark
		}
	}
	if r.latest > at {
		s.noteInstant(r.latest)
	}
	owed := sh.owedSlots(0, r, at)
	sh.mu.Unlock()
	if owed > 0 {
		s.sweep(owed, at)
	}
	return marks, outcome, true
}
