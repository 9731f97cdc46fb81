package memstore

import (
	"errors"
	"fmt"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

const (
	// idle is how long a bucket must have been full to be forgotten. Callers
	// whose instants lie no further apart never notice.
	idle = bucket.Instant(time.Second)

	sweepEvery = 1024 // calls of a shard
	sweepSlots = 256  // looked at each time
	freshSlots = 4    // looked at for each new bucket: more than it adds
	fullSlots  = 512  // looked at when there is no room
)

// errFull: see Config.MaxBuckets.
var errFull = errors.New("memstore: all buckets that Config.MaxBuckets allows are in use")

// admit counts the buckets that debits will make, if there is room for them.
func (s *Store) admit(places []place, debits []zael.Debit) (fresh int, err error) {
	for i := range debits {
		if places[i].record == nil && charges(&debits[i]) {
			fresh++
		}
	}
	if fresh == 0 {
		return 0, nil
	}
	if s.max < 0 {
		return 0, &zael.ValidationError{Field: "Config.MaxBuckets", Value: s.max, Reason: "is negative: use 0 for no bound"}
	}
	if count := s.count.Add(int64(fresh)); s.max > 0 && count > s.max {
		s.count.Add(int64(-fresh))
		return 0, fmt.Errorf("%w (%d): raise it, or admit fewer entities: %w", errFull, s.max, zael.ErrUnavailable)
	}
	return fresh, nil
}

// charges reports whether a debit takes tokens, and so makes its bucket.
func charges(debit *zael.Debit) bool {
	for i := range debit.Charges {
		if debit.Charges[i].Amount > 0 {
			return true
		}
	}
	return false
}

// owed is how many slots a call has to look at in return. In the record that the
// call is about it looks at once, as its shard may not have its turn for long.
func (sh *shard) owed(fresh int, r *record, at bucket.Instant) int {
	slots := fresh * freshSlots
	if sh.calls++; sh.calls%sweepEvery == 0 {
		slots += sweepSlots
		if r != nil && len(r.more) > 0 {
			sh.forget(r, at-idle)
		}
	}
	return slots
}

// sweep looks at some slots of the shard whose turn it is, forgets the buckets
// and limits there that have been full since idle before at, and returns how many
// buckets.
func (s *Store) sweep(slots int, at bucket.Instant) (forgotten int) {
	sh := &s.shards[s.cursor.Add(1)%uint32(len(s.shards))]
	if !sh.mu.TryLock() {
		return 0 // its turn comes again
	}
	defer sh.mu.Unlock()
	forgotten = sh.sweep(slots, at-idle)
	s.count.Add(int64(-forgotten))
	return forgotten
}

func (sh *shard) sweep(slots int, full bucket.Instant) (forgotten int) {
	t := &sh.table
	for range min(slots, len(t.slots)) {
		sh.hand &= len(t.slots) - 1
		if r := t.slots[sh.hand].record; r != nil {
			if r.full(full) {
				t.remove(sh.hand) // and another may stand there now
				forgotten++
				continue
			}
			if len(r.more) > 0 {
				sh.forget(r, full)
			}
		}
		sh.hand++
	}
	if forgotten > 0 {
		sh.swept = bucket.Latest(sh.swept, full)
		t.shrink()
	}
	return forgotten
}

// makeRoom looks for buckets to forget when there is no room for a new one.
func (s *Store) makeRoom(at bucket.Instant) bool {
	forgotten := 0
	for range s.shards {
		forgotten += s.sweep(fullSlots, at)
	}
	return forgotten > 0
}
