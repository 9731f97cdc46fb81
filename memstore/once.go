package memstore

import (
	"bytes"
	"context"
	"hash/maphash"
	"sync"
	"time"

	"github.com/zeroae/zael"
)

const onceShards = 64 // the parts that once-keys are kept in, so that callers seldom meet

// A onceShard has the once-keys of takes and adjusts that have its hash. It is locked
// before the shards of buckets.
type onceShard struct {
	mu   sync.Mutex
	keys onceKeys
}

// onceShard returns the index of a key's shard, -1 without a key.
func (s *Store) onceShard(key string) int {
	if key == "" {
		return -1
	}
	return int(maphash.String(s.seed, key) % onceShards)
}

// TakeOnce implements zael.OnceStore.
func (s *Store) TakeOnce(_ context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit, once zael.OnceTake) (at time.Time, first []byte, err error) {
	own, end := s.onceShard(once.Key), s.onceShard(once.Unless)
	low, high := min(own, end), max(own, end)
	if low >= 0 {
		s.once[low].mu.Lock()
		defer s.once[low].mu.Unlock()
	}
	if high > low {
		s.once[high].mu.Lock()
		defer s.once[high].mu.Unlock()
	}
	if own >= 0 {
		if k, known := s.once[own].keys.lookup(s.seed, once.Key, now); known {
			if string(k.hash) != once.Hash {
				return now, nil, zael.ErrKeyUsed
			}
			return now, bytes.Clone(k.answer), nil
		}
	}
	if end >= 0 {
		if _, known := s.once[end].keys.lookup(s.seed, once.Unless, now); known {
			return now, nil, zael.ErrLeaseClosed
		}
	}
	if len(debits) == 0 {
		return now, nil, nil
	}
	at, _, err = s.TakeLocal(now, maxWait, debits)
	if err == nil && own >= 0 {
		s.once[own].keys.keep(s.seed, &once.Once, now, once.Answer(at, debits))
	}
	return at, nil, err
}

// AdjustOnce implements zael.OnceStore.
func (s *Store) AdjustOnce(_ context.Context, now time.Time, debits []zael.Debit, once zael.Once, answer []byte) (first []byte, err error) {
	if once.Key == "" {
		return nil, &zael.ValidationError{Field: "Once.Key", Reason: "is empty: name the change"}
	}
	sh := &s.once[s.onceShard(once.Key)]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if k, known := sh.keys.lookup(s.seed, once.Key, now); known {
		return bytes.Clone(k.answer), nil
	}
	if len(debits) > 0 {
		if _, _, err := s.AdjustLocal(now, debits); err != nil {
			return nil, err
		}
	}
	sh.keys.keep(s.seed, &once, now, answer)
	return nil, nil
}

// Extend implements zael.OnceStore.
func (s *Store) Extend(_ context.Context, now time.Time, d zael.Debit) (deadline time.Time, held bool, err error) {
	at, err := instantOf(now)
	if err != nil {
		return deadline, false, err
	}
	s.noteCall(at)
	debits := []zael.Debit{d}
	targets := s.lock(nil, debits)
	defer s.unlock(targets)
	p := &targets[0]
	if p.record == nil {
		return deadline, false, nil
	}
	read(targets, debits)
	until, held := p.read.Extend(d.Charges, at)
	if !held {
		return deadline, false, nil
	}
	p.write(d.Key, at)
	return until.Time(), true, nil
}
