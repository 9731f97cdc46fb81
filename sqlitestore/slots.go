package sqlitestore

import (
	"context"
	"time"

	"github.com/zeroae/zael"
)

// Renew implements zael.SlotStore.
func (s *Store) Renew(ctx context.Context, now time.Time, d zael.Debit) (held bool, err error) {
	_, held, err = s.Extend(ctx, now, d)
	return held, err
}
