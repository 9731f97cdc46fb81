package postgresstore

import (
	"context"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/stamp"
	"github.com/zeroae/zael/internal/storearg"
)

// A onceOp is the part of an op that is made once.
type onceOp struct {
	key    string // "": it is made whenever it is asked for
	hash   string
	any    bool   // the hash does not matter
	unless string // the key of an end, or ""
	now    string
	until  string
	answer func(at time.Time, debits []zael.Debit) []byte
	at     time.Time

	kept  []byte // what is to be kept with the key
	first []byte // what was kept with the key, if that is known
}

// undone reports whether a take is to be given back if its caller has left.
func (o *onceOp) undone() bool { return o == nil || o.key == "" }

// newOnce returns the part of an op with a key, checked.
func newOnce(now time.Time, once *zael.Once) (*onceOp, error) {
	o := &onceOp{hash: once.Hash}
	var err error
	if o.now, err = stamp.Checked("now", now); err != nil {
		return nil, err
	}
	if once.Key == "" {
		return o, nil
	}
	if err := names.Name("Once.Key", once.Key); err != nil {
		return nil, err
	}
	o.key = takeKeys + once.Key
	o.until, err = stamp.Checked("Once.Until", once.Until)
	return o, err
}

// TakeOnce implements zael.OnceStore.
func (s *Store) TakeOnce(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit, once zael.OnceTake) (at time.Time, first []byte, err error) {
	c, err := newOnce(now, &once.Once)
	if err != nil {
		return now, nil, err
	}
	if once.Unless != "" {
		if err := names.Name("OnceTake.Unless", once.Unless); err != nil {
			return now, nil, err
		}
		c.unless = takeKeys + once.Unless
	}
	c.answer = once.Answer
	return s.bucketOp(ctx, now, debits, opRules{takeOp, maxWait, c})
}

// AdjustOnce implements zael.OnceStore.
func (s *Store) AdjustOnce(ctx context.Context, now time.Time, debits []zael.Debit, once zael.Once, answer []byte) (first []byte, err error) {
	c, err := newOnce(now, &once)
	if err != nil {
		return nil, err
	}
	if c.key == "" {
		return nil, storearg.Invalid("Once.Key", "", "is empty: name the change")
	}
	answer = slices.Clone(answer)
	c.any, c.answer = true, func(time.Time, []zael.Debit) []byte { return answer }
	_, first, err = s.bucketOp(ctx, now, debits, opRules{kind: adjustOp, once: c})
	return first, err
}
