package memstore

import (
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// fewLimits is how many limits takeKnown can do.
const fewLimits = 4

// takeKnown is take for what nearly every call is: one bucket that exists, under
// the definitions it has, and that admits. Otherwise it changes nothing and
// returns false.
func (s *Store) takeKnown(at bucket.Instant, maxWait time.Duration, debit *zael.Debit) bool {
	charges := debit.Charges
	if len(charges) > fewLimits {
		return false
	}
	var entries [fewLimits]*entry
	h, index := s.hash(debit.Key)
	sh := &s.shards[index]
	sh.mu.Lock()
	r := sh.table.find(h, debit.Key)
	if r == nil {
		sh.mu.Unlock()
		return false
	}
	for i := range charges {
		ch := &charges[i]
		e := r.find(ch.Name)
		if e == nil || e.limit.definition != ch.Definition {
			sh.mu.Unlock()
			return false
		}
		mark, ok := e.limit.definition.TakeMark(e.mark, at, ch.Amount, maxWait)
		if !ok {
			sh.mu.Unlock()
			return false
		}
		entries[i] = e
		ch.Receipt = bucket.Receipt{Mark: mark, Axis: e.axis}
		ch.State = bucket.State{Definition: ch.Definition, Mark: mark, Axis: e.axis}
	}
	for i := range charges {
		entries[i].mark = charges[i].Receipt.Mark
	}
	r.latest = max(r.latest, at)
	owed := sh.owed(0)
	sh.mu.Unlock()
	if owed > 0 {
		s.sweep(owed, at)
	}
	return true
}
