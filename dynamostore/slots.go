package dynamostore

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/coalesce"
)

var _ zael.SlotStore = (*Store)(nil)

// Renew implements zael.SlotStore. A renewal also writes what the holder has, if the answer
// to a take of it was lost, and removes a few holders whose deadline is past.
func (s *Store) Renew(ctx context.Context, now time.Time, d zael.Debit) (held bool, err error) {
	if !s.inflight.Begin() {
		return false, errClosed
	}
	defer s.inflight.End()
	debits := []zael.Debit{d}
	if err := s.check(ctx, debits); err != nil {
		return false, err
	}
	_, at, err := s.clock.Instant(ctx, now)
	if err != nil {
		return false, err
	}
	m := coalesce.Op{Kind: coalesce.Renew, Holder: d.Holder, Charges: slices.Clone(d.Charges), At: at}
	switch s.do(ctx, d.Key, &m); m.Outcome {
	case coalesce.Failed:
		return false, m.Err
	case coalesce.Applied:
		r, _ := m.Bucket.(*protocol.Record)
		own := ownOf(r, d.Holder)
		return own != nil && len(d.Charges) > 0 && own.Generation == d.Charges[0].Receipt.Generation, nil
	default:
		return false, nil
	}
}

// holdings are what holders of this process have of buckets, by what it knows: each write of
// a holder says all of it. There is no entry for what has nothing.
type holdings struct {
	mu   sync.Mutex
	held map[holding]protocol.Held

	direct sync.Mutex // one write at a time, if they are not coalesced
}

type holding struct {
	key    zael.Key
	holder string
}

// of returns what a holder has of a bucket.
func (h *holdings) of(key zael.Key, holder string) protocol.Held {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.held[holding{key, holder}]
}

// release notes what debits release: from now on each write says that it is not held, so that it
// is released whatever comes of theirs.
func (h *holdings) release(debits []zael.Debit) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range debits {
		k := holding{debits[i].Key, debits[i].Holder}
		held, ok := h.held[k]
		if !ok {
			continue
		}
		if h.held[k] = held.Release(debits[i].Charges); len(h.held[k].Counts) == 0 {
			delete(h.held, k)
		}
	}
}

// update notes what a holder has after a write, which was planned when it had before.
func (h *holdings) update(key zael.Key, holder string, before, after protocol.Held) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := holding{key, holder}
	if after = after.Without(before, h.held[k]); len(after.Counts) == 0 {
		delete(h.held, k)
		return
	}
	if h.held == nil {
		h.held = map[holding]protocol.Held{}
	}
	h.held[k] = after
}

// slotStates writes the states of slots into the charges of a take that took nothing: without
// holders whose deadline is past, and by when as many are free as were asked for.
func slotStates(charges []zael.Charge, b coalesce.Bucket, holder string, at bucket.Instant) {
	r, _ := b.(*protocol.Record)
	for i := range charges {
		if charges[i].Definition.Kind == bucket.Slots {
			r.Slots(holder).Finish(bucket.Exceeds, charges[i:i+1], at)
		}
	}
}
