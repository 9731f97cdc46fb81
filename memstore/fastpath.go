package memstore

import (
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// fewLimits is how many limits takeKnown takes from at most.
const fewLimits = 4

// takeKnown is take for nearly every call: of one bucket that exists, under the
// definitions that it has. Otherwise ok is false, and nothing has changed.
func (s *Store) takeKnown(at bucket.Instant, maxWait time.Duration, debit *zael.Debit) (outcome bucket.Outcome, ok bool) {
	charges := debit.Charges
	if len(charges) > fewLimits {
		return bucket.Fits, false
	}
	var entries [fewLimits]*entry
	h, index := s.hash(debit.Key)
	sh := &s.shards[index]
	sh.mu.Lock()
	r := sh.table.find(h, debit.Key)
	if r == nil {
		sh.mu.Unlock()
		return bucket.Fits, false
	}
	for i := range charges {
		ch := &charges[i]
		e := r.find(ch.Name)
		if e == nil || e.limit.definition != ch.Definition {
			sh.mu.Unlock()
			return bucket.Fits, false
		}
		mark, fits := bucket.Take(&e.limit.definition, e.mark, at, ch.Amount, maxWait)
		if !fits {
			outcome = bucket.Exceeds
		}
		entries[i] = e
		ch.Receipt = bucket.Receipt{Mark: mark, Generation: e.generation}
	}
	if outcome == bucket.Fits {
		for i := range charges {
			entries[i].mark = charges[i].Receipt.Mark
		}
		r.latest = bucket.Latest(r.latest, at)
	} else {
		for i := range charges {
			charges[i].State, charges[i].Receipt = entries[i].state(), bucket.Receipt{}
		}
	}
	s.leave(sh, r, at)
	return outcome, true
}
