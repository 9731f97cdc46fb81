package sqlitestore

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/zeroae/zael"
)

// Renew implements zael.SlotStore.
func (s *Store) Renew(ctx context.Context, now time.Time, d zael.Debit) (held bool, err error) {
	o := op{}
	if err := o.copyArguments(now, []zael.Debit{d}); err != nil {
		return false, err
	}
	type answer struct {
		held    bool
		charges []zael.Charge
	}
	result := new(answer) // the writer may set it after this call has ended
	err = s.change(ctx, func(t *txn) error {
		r, err := t.row(d.Key)
		if err != nil {
			return err
		}
		r.Forgotten, r.Own = t.file.forgotten, d.Holder
		charges := slices.Clone(o.charges)
		held, changed := r.Renew(charges, o.at, rand.Uint64())
		if changed {
			t.touch(r)
		}
		*result = answer{held, charges}
		return nil
	})
	if err != nil {
		return false, err
	}
	copy(d.Charges, result.charges)
	return result.held, nil
}
