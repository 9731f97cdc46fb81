package memstore

import (
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// fewLimits is how many limits takeKnown can do.
const fewLimits = 4

// outcome of takeKnown.
type outcome uint8

const (
	unknown outcome = iota // nothing has changed: take has to look
	taken
	refused
)

// takeKnown is take for what nearly every call is: one bucket that exists, under
// the definitions it has.
func (s *Store) takeKnown(at bucket.Instant, maxWait time.Duration, debit *zael.Debit) outcome {
	charges := debit.Charges
	if len(charges) > fewLimits {
		return unknown
	}
	var entries [fewLimits]*entry
	h, index := s.hash(debit.Key)
	sh := &s.shards[index]
	sh.mu.Lock()
	r := sh.table.find(h, debit.Key)
	if r == nil {
		sh.mu.Unlock()
		return unknown
	}
	result := taken
	for i := range charges {
		ch := &charges[i]
		e := r.find(ch.Name)
		if e == nil || e.limit.definition != ch.Definition {
			sh.mu.Unlock()
			return unknown
		}
		mark, ok := bucket.Take(&e.limit.definition, e.mark, at, ch.Amount, maxWait)
		if !ok {
			result = refused
		}
		entries[i] = e
		ch.Receipt = bucket.Receipt{Mark: mark, Generation: e.generation}
	}
	if result == taken {
		for i := range charges {
			entries[i].mark = charges[i].Receipt.Mark
		}
		r.latest = bucket.Latest(r.latest, at)
	} else {
		for i := range charges {
			charges[i].State, charges[i].Receipt = entries[i].state(), bucket.Receipt{}
		}
	}
	if r.latest > at {
		s.see(r.latest)
	}
	owed := sh.owed(0, r, at)
	sh.mu.Unlock()
	if owed > 0 {
		s.sweep(owed, at)
	}
	return result
}
