package postgresstore

import (
	"context"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/oncekey"
)

// onceKeys are the keys of takes and adjusts that a transaction has locked and read. What it keeps
// is to be written.
type onceKeys struct {
	known map[string]oncekey.Kept
	keeps []keptKey
}

// A keptKey is a row of the table once.
type keptKey struct {
	key string
	oncekey.Kept
}

// Kept implements oncekey.Keys.
func (k *onceKeys) Kept(key, now string) (*oncekey.Kept, error) {
	if kept, ok := k.known[takeKeys+key]; ok && kept.Until > now {
		return &kept, nil
	}
	return nil, nil //nolint:nilnil // it is not known
}

// Keep implements oncekey.Keys.
func (k *onceKeys) Keep(key, _ string, kept oncekey.Kept) error {
	k.known[takeKeys+key] = kept
	k.keeps = append(k.keeps, keptKey{takeKeys + key, kept})
	return nil
}

// TakeOnce implements zael.OnceStore.
func (s *Store) TakeOnce(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit, once zael.OnceTake) (at time.Time, first []byte, err error) {
	o, err := oncekey.Take(now, &once, storable)
	if err != nil {
		return now, nil, err
	}
	return s.bucketOp(ctx, now, debits, opRules{takeOp, maxWait, o})
}

// AdjustOnce implements zael.OnceStore.
func (s *Store) AdjustOnce(ctx context.Context, now time.Time, debits []zael.Debit, once zael.Once, answer []byte) (first []byte, err error) {
	o, err := oncekey.Adjust(now, &once, answer, storable)
	if err != nil {
		return nil, err
	}
	_, first, err = s.bucketOp(ctx, now, debits, opRules{kind: adjustOp, once: o})
	return first, err
}
