package sqlitestore

import (
	"context"
	"database/sql/driver"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/sqladmin"
	"github.com/zeroae/zael/internal/stamp"
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

	first []byte // what was kept with the key, if that is known
}

// undone reports whether a take is to be given back if its caller has left.
func (o *onceOp) undone() bool { return o == nil || o.key == "" }

// oncesKept is the prefix of keys of takes and adjusts, apart from those of administration in the
// same table. What is kept with them is in base64, as the column is text.
const oncesKept = "/"

// purgeEvery is how many keys are kept until up to twice as many old ones are deleted.
const purgeEvery = 16

// newOnce returns the part of an op with a key, checked.
func newOnce(now time.Time, once *zael.Once) (*onceOp, error) {
	o := &onceOp{hash: once.Hash, at: now}
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
	o.key = oncesKept + once.Key
	o.until, err = stamp.Checked("Once.Until", once.Until)
	return o, err
}

// once performs an op, in one step with its key if it has one.
func (t *txn) once(o *op, perform func(*op) (err, fatal error)) (err, fatal error) {
	c := o.once
	if c == nil {
		return perform(o)
	}
	if c.key != "" {
		k, err := t.kept(c.key, c.now)
		switch {
		case err != nil:
			return nil, err
		case k != nil && k.Hash != c.hash && !c.any:
			return zael.ErrKeyUsed, nil
		case k != nil:
			if c.first, err = base64.StdEncoding.DecodeString(string(k.Answer)); err != nil {
				err = fmt.Errorf("the answer kept with key %s: %w", c.key, err)
			}
			return nil, err
		}
	}
	if c.unless != "" {
		if k, err := t.kept(c.unless, c.now); err != nil || k != nil {
			return zael.ErrLeaseClosed, err
		}
	}
	if len(o.debits) > 0 {
		if err, fatal := perform(o); err != nil || fatal != nil {
			return err, fatal
		}
	}
	if c.key == "" {
		return nil, nil
	}
	answer := base64.StdEncoding.EncodeToString(c.answer(c.at, o.debits))
	return nil, t.keep(c.key, c.now, sqladmin.Kept{Hash: c.hash, Until: c.until, Answer: []byte(answer)})
}

// kept returns what is kept with a key; nil if that is not known.
func (t *txn) kept(key, now string) (k *sqladmin.Kept, err error) {
	err = t.conn.query("SELECT hash, until, result FROM once WHERE key = ? AND until > ?", func(v []driver.Value) error {
		k = new(sqladmin.Kept)
		k.Hash, _ = v[0].(string)
		k.Until, _ = v[1].(string)
		text, _ := v[2].(string)
		k.Answer = []byte(text)
		return nil
	}, key, now)
	return k, err
}

// keep keeps an answer with a key, and now and then deletes old keys.
func (t *txn) keep(key, now string, k sqladmin.Kept) error {
	_, err := t.exec("INSERT INTO once (key, hash, until, result) VALUES (?, ?, ?, ?) "+
		"ON CONFLICT (key) DO UPDATE SET hash = excluded.hash, until = excluded.until, result = excluded.result",
		key, k.Hash, k.Until, string(k.Answer))
	if err != nil {
		return err
	}
	if t.onces++; t.onces%purgeEvery != 0 {
		return nil
	}
	_, err = t.exec("DELETE FROM once WHERE key IN (SELECT key FROM once WHERE until <= ? ORDER BY until LIMIT ?)", now, int64(2*purgeEvery))
	return err
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
		c.unless = oncesKept + once.Unless
	}
	c.answer = once.Answer
	first, err = s.bucketOp(ctx, takeOp, now, maxWait, debits, c)
	return now, first, err
}

// AdjustOnce implements zael.OnceStore.
func (s *Store) AdjustOnce(ctx context.Context, now time.Time, debits []zael.Debit, once zael.Once, answer []byte) (first []byte, err error) {
	c, err := newOnce(now, &once)
	if err != nil {
		return nil, err
	}
	if c.key == "" {
		return nil, &zael.ValidationError{Field: "Once.Key", Reason: "is empty: name the change"}
	}
	answer = slices.Clone(answer)
	c.any, c.answer = true, func(time.Time, []zael.Debit) []byte { return answer }
	return s.bucketOp(ctx, adjustOp, now, 0, debits, c)
}

// Extend implements zael.OnceStore.
func (s *Store) Extend(ctx context.Context, now time.Time, d zael.Debit) (deadline time.Time, held bool, err error) {
	o := op{kind: adjustOp}
	if err := o.copyArguments(now, []zael.Debit{d}); err != nil {
		return deadline, false, err
	}
	type answer struct {
		deadline bucket.Instant
		held     bool
	}
	result := new(answer) // the writer may set it after this call has ended
	err = s.change(ctx, func(t *txn) error {
		r, err := t.row(d.Key)
		if err != nil {
			return err
		}
		r.Own = o.debits[0].Holder
		if result.deadline, result.held = r.Extend(o.charges, o.at); result.held {
			t.touch(r)
		}
		return nil
	})
	if err != nil || !result.held {
		return deadline, false, err
	}
	return result.deadline.Time(), true, nil
}
