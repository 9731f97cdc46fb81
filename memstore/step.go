package memstore

import (
	"math/rand/v2"
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

// state is a limit of the place's bucket; zero if there is none.
func (p *place) state(name string) bucket.State {
	if p.record == nil {
		return bucket.State{}
	}
	if e := p.record.find(name); e != nil {
		return e.state()
	}
	return bucket.State{}
}

// under brings a limit's state under a definition, at the latest instant known
// of the bucket: at an older one the change would count for the time between.
// A limit that is not there may have been forgotten when it was full: it is as
// full as it was then.
func (p *place) under(state bucket.State, d bucket.Definition, at bucket.Instant) bucket.State {
	if !state.Absent() {
		if p.record != nil { // none: an earlier charge of the same call made the state
			at = max(at, p.record.latest)
		}
		return state.Under(d, at, 0)
	}
	state = state.Under(d, at, rand.Uint64())
	if at < p.shard.swept {
		state.Mark = max(state.Mark, d.Drip(p.shard.swept))
	}
	return state
}

// take is zael.BucketStore.Take between lock and unlock.
func (s *Store) take(places []place, at bucket.Instant, maxWait time.Duration, debits []zael.Debit) (fresh int, err error) {
	fits := true
	for i := range debits {
		p := &places[i]
		charges := debits[i].Charges
		charged := false
		for j := range charges {
			ch := &charges[j]
			kept := p.state(ch.Name)
			if kept.Stale(ch.Definition) {
				showKept(places, debits)
				return 0, zael.ErrStaleLimits
			}
			state := p.under(kept, ch.Definition, at)
			next, ok := state.Take(at, ch.Amount, maxWait)
			ch.State, ch.Receipt = next, bucket.Receipt{Mark: state.Mark} // the mark before, for refuse
			fits = fits && ok
			charged = charged || ch.Amount > 0
		}
		if p.record == nil && charged {
			fresh++
		}
	}
	if !fits {
		refuse(places, at, debits)
		return 0, zael.ErrExceeded
	}
	if err := s.admit(fresh); err != nil {
		refuse(places, at, debits)
		return 0, err
	}
	for i := range debits {
		p := &places[i]
		charges := debits[i].Charges
		for j := range charges {
			ch := &charges[j]
			ch.Receipt = ch.State.Receipt()
			p.keep(debits[i].Key, ch, at)
		}
	}
	return fresh, nil
}

// keep writes a charge's state. One of 0 makes no new limit.
func (p *place) keep(key zael.Key, ch *zael.Charge, at bucket.Instant) {
	if p.record == nil {
		if ch.Amount <= 0 {
			return
		}
		p.record = p.shard.table.insert(p.hash, key)
		p.record.latest = at
	}
	p.record.latest = max(p.record.latest, at)
	p.shard.table.set(p.record, ch.Name, &ch.State, ch.Amount > 0)
}

// refuse undoes what take wrote into the debits, and keeps definitions that
// would admit sooner.
func refuse(places []place, at bucket.Instant, debits []zael.Debit) {
	for i := range debits {
		p := &places[i]
		for j := range debits[i].Charges {
			ch := &debits[i].Charges[j]
			ch.State.Mark, ch.Receipt = ch.Receipt.Mark, bucket.Receipt{}
			if kept := p.state(ch.Name); !kept.Absent() && kept.Definition != ch.Definition &&
				ch.State.Wait(at, ch.Amount) < kept.Wait(at, ch.Amount) {
				p.shard.table.set(p.record, ch.Name, &ch.State, false)
			}
		}
	}
}

// showKept writes the states as they are kept into the debits.
func showKept(places []place, debits []zael.Debit) {
	for i := range debits {
		for j := range debits[i].Charges {
			ch := &debits[i].Charges[j]
			ch.State, ch.Receipt = places[i].state(ch.Name), bucket.Receipt{}
		}
	}
}

// adjust is zael.BucketStore.Adjust between lock and unlock.
func (s *Store) adjust(places []place, at bucket.Instant, debits []zael.Debit) (fresh int, err error) {
	for i := range debits {
		p := &places[i]
		charges := debits[i].Charges
		seen := at
		if p.record != nil {
			seen = max(seen, p.record.latest)
		}
		charged := false
		for j := range charges {
			ch := &charges[j]
			state := p.state(ch.Name)
			for k := range j {
				if charges[k].Name == ch.Name {
					state = charges[k].State
				}
			}
			if ch.State, err = p.adjusted(state, ch, at, seen); err != nil {
				return 0, &zael.ValidationError{Field: "amount of " + ch.Name, Value: ch.Amount, Reason: err.Error()}
			}
			charged = charged || ch.Amount > 0
		}
		if p.record == nil && charged {
			fresh++
		}
	}
	if err := s.admit(fresh); err != nil {
		return 0, err
	}
	for i := range debits {
		p := &places[i]
		for j := range debits[i].Charges {
			p.keep(debits[i].Key, &debits[i].Charges[j], at)
		}
	}
	return fresh, nil
}

// adjusted is a limit's state after one charge.
func (p *place) adjusted(state bucket.State, ch *zael.Charge, at, seen bucket.Instant) (bucket.State, error) {
	if ch.Amount < 0 {
		return state.Give(seen, -ch.Amount, ch.Receipt), nil
	}
	if !state.Stale(ch.Definition) && (ch.Amount > 0 || !state.Absent()) {
		state = p.under(state, ch.Definition, at)
	}
	return state.Charge(at, ch.Amount)
}
