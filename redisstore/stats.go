package redisstore

import "sync/atomic"

// Stats are counts since the store was made.
type Stats struct {
	Calls      uint64 // calls of the server for buckets
	Retried    uint64 // of them: what was seen of a bucket was outdated
	Unanswered uint64 // calls whose fate the answer did not tell
	Repeated   uint64 // operations repeated after an unanswered call: some may be charged more than once
	Undone     uint64 // takes given back because the caller left, the other bucket refused, or the answer was lost
	Stranded   uint64 // takes that nobody holds and that may stay charged until they refill
	Contended  uint64 // operations given up with zael.ErrContention
	Shared     uint64 // operations that were one write with others
	Remembered uint64 // refusals from memory, without a call
	// Unreplicated counts writes that fewer than Config.Replicas replicas had in time.
	Unreplicated uint64
}

type counters struct {
	calls, retried, unanswered, repeated, undone, stranded, contended, shared, remembered, unreplicated atomic.Uint64
}

// Stats returns the counts.
func (s *Store) Stats() Stats {
	c := &s.stats
	return Stats{
		Calls: c.calls.Load(), Retried: c.retried.Load(), Unanswered: c.unanswered.Load(), Repeated: c.repeated.Load(), Undone: c.undone.Load(),
		Stranded: c.stranded.Load(), Contended: c.contended.Load(), Shared: c.shared.Load(), Remembered: c.remembered.Load(),
		Unreplicated: c.unreplicated.Load(),
	}
}

// gaveBack counts takes that were to be given back.
func (s *Store) gaveBack(takes int64, ok bool) {
	if ok {
		s.stats.undone.Add(uint64(takes))
	} else {
		s.stats.stranded.Add(uint64(takes))
	}
}
