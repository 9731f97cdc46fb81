package memstore

import (
	"time"

	"github.com/zeroae/zael"
)

// Count counts usage of charges that no bucket has taken.
func (s *Store) Count(now time.Time, debits []zael.Debit, events int64) {
	s.usage.count(now, debits, events)
}
