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
	_, at, err := s.instant(ctx, now)
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
// a holder says all of it.
type holdings struct {
	mu   sync.Mutex
	held map[holding]protocol.Held

	direct sync.Mutex // one write at a time, if they are not coalesced
}

type holding struct {
	key    zael.Key
	holder string
}

// of returns what a holder has of a bucket; ok is false if that is not known.
func (h *holdings) of(key zael.Key, holder string) (held protocol.Held, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	held, ok = h.held[holding{key, holder}]
	return held, ok
}

// set notes what a holder has. It is kept while that is something, or an entry in the item
// may say more, as a write was not answered.
func (h *holdings) set(key zael.Key, holder string, held protocol.Held, answered bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(held.Counts) == 0 && answered {
		delete(h.held, holding{key, holder})
		return
	}
	if h.held == nil {
		h.held = map[holding]protocol.Held{}
	}
	h.held[holding{key, holder}] = held
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
