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
	sh, r := s.lockRecord(debit.Key)
	if r == nil {
		return bucket.Fits, false
	}
	for i := range charges {
		ch := &charges[i]
		e := r.find(ch.Name, false)
		if e == nil || e.limit.definition != ch.Definition {
			sh.mu.Unlock()
			return bucket.Fits, false
		}
		var fits bool
		if e.limit.plain {
			var mark int64
			mark, fits = bucket.TakePlain(&e.limit.definition, e.mark, at, ch.Amount, maxWait)
			ch.Receipt = bucket.Receipt{Mark: mark, Generation: e.generation}
		} else {
			ch.State, fits = r.state(e).Take(at, ch.Amount, maxWait)
			ch.Receipt = ch.State.Receipt()
		}
		if !fits {
			outcome = bucket.Exceeds
		}
		entries[i] = e
	}
	if outcome == bucket.Fits {
		for i := range charges {
			if entries[i].limit.plain {
				entries[i].mark = charges[i].Receipt.Mark
			} else {
				r.setMark(entries[i], &charges[i].State)
			}
		}
		r.latest = bucket.Latest(r.latest, at)
	} else {
		for i := range charges {
			charges[i].State, charges[i].Receipt = r.state(entries[i]), bucket.Receipt{}
		}
	}
	s.leave(sh, r, at)
	return outcome, true
}
