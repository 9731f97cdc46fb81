package sqlitestore

import (
	"context"
	"database/sql/driver"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/oncekey"
)

// purgeEvery is how many keys are kept until up to twice as many old ones are deleted.
const purgeEvery = 16

// onceKeys are the keys of takes and adjusts. They begin with a "/", apart from those of
// administration in the same table, and what is kept with them is in base64, as the column is text.
type onceKeys struct{ *txn }

// Kept implements oncekey.Keys.
func (t onceKeys) Kept(key, now string) (*oncekey.Kept, error) {
	k, err := t.kept("/"+key, now)
	if err != nil || k == nil {
		return nil, err
	}
	if k.Answer, err = base64.StdEncoding.DecodeString(string(k.Answer)); err != nil {
		return nil, fmt.Errorf("the answer kept with key %s: %w", key, err)
	}
	return k, nil
}

// Keep implements oncekey.Keys.
func (t onceKeys) Keep(key, now string, k oncekey.Kept) error {
	k.Answer = []byte(base64.StdEncoding.EncodeToString(k.Answer))
	return t.keep("/"+key, now, k)
}

// once performs an op, in one step with its key if it has one.
func (t *txn) once(o *op, perform func(*op) (err, fatal error)) (err, fatal error) {
	if o.once == nil {
		return perform(o)
	}
	return o.once.Perform(onceKeys{t}, o.debits, func() (err, fatal error) { return perform(o) })
}

// kept returns what is kept with a key; nil if that is not known.
func (t *txn) kept(key, now string) (k *oncekey.Kept, err error) {
	err = t.conn.query("SELECT hash, until, result FROM once WHERE key = ? AND until > ?", func(v []driver.Value) error {
		k = new(oncekey.Kept)
		k.Hash, _ = v[0].(string)
		k.Until, _ = v[1].(string)
		text, _ := v[2].(string)
		k.Answer = []byte(text)
		return nil
	}, key, now)
	return k, err
}

// keep keeps an answer with a key, and now and then deletes old keys.
func (t *txn) keep(key, now string, k oncekey.Kept) error {
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
	o, err := oncekey.Take(now, &once, storable)
	if err != nil {
		return now, nil, err
	}
	first, err = s.bucketOp(ctx, takeOp, now, maxWait, debits, o)
	return now, first, err
}

// AdjustOnce implements zael.OnceStore.
func (s *Store) AdjustOnce(ctx context.Context, now time.Time, debits []zael.Debit, once zael.Once, answer []byte) (first []byte, err error) {
	o, err := oncekey.Adjust(now, &once, answer, storable)
	if err != nil {
		return nil, err
	}
	return s.bucketOp(ctx, adjustOp, now, 0, debits, o)
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
