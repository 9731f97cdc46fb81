package memstore

import (
	"errors"
	"fmt"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

const (
	// idle is how long a bucket or a limit must have been full to be forgotten.
	// Callers whose clocks differ by less do not notice.
	idle = bucket.Instant(time.Second)

	sweepEvery = 1024 // calls of a shard
	sweepSlots = 256  // looked at each time
	freshSlots = 4    // looked at for each new bucket: more than it adds
	fullSlots  = 512  // looked at when there is no room
)

// errFull is the error of a charge to a new bucket beyond Config.MaxBuckets.
var errFull = errors.New("memstore: all buckets that Config.MaxBuckets allows are in use")

// admit counts the buckets that the debits will make. It fails if there is no room.
func (s *Store) admit(targets []target, debits []zael.Debit) (fresh int, err error) {
	for i := range debits {
		if targets[i].record == nil && !debits[i].Bypass && takesTokens(&debits[i]) {
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

// takesTokens reports whether a debit takes tokens, and so makes its bucket.
func takesTokens(debit *zael.Debit) bool {
	for i := range debit.Charges {
		if debit.Charges[i].Amount > 0 {
			return true
		}
	}
	return false
}

// owedSlots is how many slots a call has to look at in return. In the record that the
// call is about it looks at once, as its shard may not have its turn for long.
func (sh *shard) owedSlots(fresh int, r *record, at bucket.Instant) int {
	slots := fresh * freshSlots
	if sh.calls++; sh.calls%sweepEvery == 0 {
		slots += sweepSlots
		if r != nil && len(r.more) > 0 {
			sh.forget(r, at-idle)
		}
	}
	return slots
}

// sweep looks at some slots of the shard whose turn it is. It forgets the buckets and
// limits there that have been full for idle, and returns how many buckets that were.
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
			if r.idle(full) {
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

// makeRoom forgets full buckets in all shards, and reports whether there were any.
func (s *Store) makeRoom(at bucket.Instant) bool {
	forgotten := 0
	for range s.shards {
		forgotten += s.sweep(fullSlots, at)
	}
	return forgotten > 0
}
