package dynamostore

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/pause"
	"github.com/zeroae/zael/internal/schema"
	"github.com/zeroae/zael/internal/stamp"
	"github.com/zeroae/zael/internal/storearg"
)

var _ zael.OnceStore = (*Store)(nil)

// A once-key of a take or an adjust is an item of its own: hash, until, answer (in base64) and ttl.
const (
	oncePartition = "O#" // before a key
	onceSort      = "#META"
)

func (s *Store) keptKey(key string) item {
	return schema.ItemKey(s.keys.Prefix+oncePartition+key, onceSort)
}

// A keptAnswer is what is kept with a key.
type keptAnswer struct {
	hash   string
	answer []byte
}

// keptIn returns what an item keeps; nil if its key is not known.
func keptIn(it item, now time.Time) (*keptAnswer, error) {
	if it == nil || schema.TextIn(it, "until") <= stamp.Text(now) {
		return nil, nil //nolint:nilnil // it is not known
	}
	answer, err := base64.StdEncoding.DecodeString(schema.TextIn(it, "answer"))
	if err != nil {
		return nil, fmt.Errorf("dynamostore: the answer in %s: %w", schema.TextIn(it, "PK"), err)
	}
	return &keptAnswer{schema.TextIn(it, "hash"), answer}, nil
}

// kept reads what is kept with a key; nil if it is not known.
func (s *Store) kept(ctx context.Context, now time.Time, key string) (*keptAnswer, error) {
	found, err := s.getAll(ctx, "reading a once-key", []item{s.keptKey(key)})
	if err != nil {
		return nil, err
	}
	return keptIn(found[keyOf(s.keptKey(key))], now)
}

// keep is the write of a key, unless somebody has used it.
func (s *Store) keep(now time.Time, once *zael.Once, answer []byte) *types.Update {
	u := &types.Update{
		TableName: aws.String(s.table), Key: s.keptKey(once.Key),
		UpdateExpression:         aws.String("SET #hash = :hash, #until = :until, #answer = :answer"),
		ConditionExpression:      aws.String("attribute_not_exists(#until) OR #until <= :now"),
		ExpressionAttributeNames: map[string]string{"#hash": "hash", "#until": "until", "#answer": "answer"},
		ExpressionAttributeValues: item{
			":hash": schema.Text(once.Hash), ":until": schema.Text(stamp.Text(once.Until)),
			":answer": schema.Text(base64.StdEncoding.EncodeToString(answer)), ":now": schema.Text(stamp.Text(now)),
		},
	}
	if !s.trial.VirtualTime {
		u.UpdateExpression = aws.String(*u.UpdateExpression + ", #ttl = :ttl")
		u.ExpressionAttributeNames["#ttl"], u.ExpressionAttributeValues[":ttl"] = "ttl", schema.Number(once.Until.Unix())
	}
	return u
}

// notKept is the condition of a transaction that nobody has used a key.
func (s *Store) notKept(now time.Time, key string) types.TransactWriteItem {
	return types.TransactWriteItem{ConditionCheck: &types.ConditionCheck{
		TableName: aws.String(s.table), Key: s.keptKey(key),
		ConditionExpression:       aws.String("attribute_not_exists(#until) OR #until <= :now"),
		ExpressionAttributeNames:  map[string]string{"#until": "until"},
		ExpressionAttributeValues: item{":now": schema.Text(stamp.Text(now))},
	}}
}

// checkOnce checks a key and its time.
func checkOnce(now time.Time, once *zael.Once) error {
	if err := storable.Name("Once.Key", once.Key); err != nil {
		return err
	}
	if _, err := stamp.Checked("now", now); err != nil {
		return err
	}
	_, err := stamp.Checked("Once.Until", once.Until)
	return err
}

// inTransaction returns a bucket's update as a part of a transaction.
func (s *Store) inTransaction(u *protocol.Update) types.TransactWriteItem {
	in := s.updateInput(u)
	return types.TransactWriteItem{Update: &types.Update{
		TableName: in.TableName, Key: in.Key, ConditionExpression: in.ConditionExpression, UpdateExpression: in.UpdateExpression,
		ExpressionAttributeNames: in.ExpressionAttributeNames, ExpressionAttributeValues: in.ExpressionAttributeValues,
	}}
}

// AdjustOnce implements zael.OnceStore. What changes buckets, and the key, are one transaction;
// a key alone is one write.
func (s *Store) AdjustOnce(ctx context.Context, now time.Time, debits []zael.Debit, once zael.Once, answer []byte) (first []byte, err error) {
	const what = "adjusting once"
	if once.Key == "" {
		return nil, storearg.Invalid("Once.Key", "", "is empty: name the change")
	}
	if !s.inflight.Begin() {
		return nil, errClosed
	}
	defer s.inflight.End()
	if err := errors.Join(checkOnce(now, &once), s.check(ctx, debits)); err != nil {
		return nil, err
	}
	if len(debits) > 0 { // transactions of one bucket would hinder each other
		l := s.laneOf(debits[0].Key)
		if !l.enter(ctx) {
			return nil, s.translate(ctx, what, ctx.Err())
		}
		defer l.leave()
	}
	_, at, err := s.clock.Instant(ctx, now)
	if err != nil {
		return nil, err
	}
	writes := make([]*protocol.BucketWrite, len(debits))
	for i := range debits {
		if d := &debits[i]; !d.Bypass {
			writes[i] = s.newWrite(coalesce.Batch{Key: d.Key, Kind: coalesce.Adjust, Charges: slices.Clone(d.Charges), At: at, Holder: d.Holder})
		}
	}
	keep := s.keep(now, &once, answer)
	for n := 0; ; n++ {
		all := []types.TransactWriteItem{{Update: keep}}
		var of []*protocol.BucketWrite // that the parts after the first are
		for i, w := range writes {
			var u *protocol.Update
			if w == nil {
				u = s.countUpdate(now, &debits[i], 0)
			} else if u, err = s.planned(ctx, w); err != nil {
				return nil, err
			}
			if u != nil {
				all, of = append(all, s.inTransaction(u)), append(of, w)
			}
		}
		var failed int
		if len(all) == 1 {
			failed, err = s.updateOnce(ctx, what, keep)
		} else {
			failed, err = s.transactAnywhere(ctx, what, all...)
		}
		switch {
		case err != nil:
			return nil, err
		case failed < 0:
			s.changed(debits)
			return nil, nil
		case failed == 0:
			k, err := s.kept(ctx, now, once.Key)
			if err != nil || k != nil {
				return k.first(), err
			}
			continue // its time has ended just now
		case of[failed-1] != nil:
			if err := s.readKnown(ctx, of[failed-1]); err != nil {
				return nil, err
			}
		}
		if n >= 10*maxRetries || pause.Backoff(ctx, n, raceBase, raceMost) != nil {
			return nil, s.contended(ctx, what)
		}
	}
}

// first returns the answer, nil if there is none.
func (k *keptAnswer) first() []byte {
	if k == nil {
		return nil
	}
	return k.answer
}

// contended returns the error of a call that lost the race for its item in every try, or whose
// context has ended.
func (s *Store) contended(ctx context.Context, what string) error {
	if ctx.Err() != nil {
		return s.translate(ctx, what, ctx.Err())
	}
	return fmt.Errorf("dynamostore: %s: %w", what, zael.ErrContention)
}

// changed notes that buckets were changed by a transaction, which does not tell how.
func (s *Store) changed(debits []zael.Debit) {
	for i := range debits {
		s.cache.forget(debits[i].Key)
		s.coalescer.Forget(debits[i].Key)
	}
}

// planned returns the update of a write; nil if there is nothing to write.
func (s *Store) planned(ctx context.Context, w *protocol.BucketWrite) (*protocol.Update, error) {
	for {
		switch plan := w.Plan(); plan.Action {
		case protocol.Send:
			return &plan.Update, nil
		case protocol.Read:
			if err := s.readKnown(ctx, w); err != nil {
				return nil, err
			}
		case protocol.Finish:
			return nil, plan.Err
		}
	}
}

// countUpdate counts the charges of a bypassed debit.
func (s *Store) countUpdate(now time.Time, d *zael.Debit, events int64) *protocol.Update {
	c := protocol.Count{Key: d.Key, Charges: d.Charges, Events: events, Settings: d.SettingsRev, ID: s.random(), Index: s.keys.bucketIndex(d.Key)}
	if !s.trial.VirtualTime {
		c.Expiry = now.Add(bypassExpiry).Unix()
	}
	u := c.Update()
	return &u
}

// updateOnce writes a key alone. failed is 0 if it was used before, and otherwise -1.
func (s *Store) updateOnce(ctx context.Context, what string, u *types.Update) (failed int, err error) {
	for n := 0; ; n++ {
		callCtx, cancel := context.WithTimeout(ctx, s.callTime(ctx))
		_, err := s.client.UpdateItem(callCtx, &dynamodb.UpdateItemInput{
			TableName: u.TableName, Key: u.Key, ConditionExpression: u.ConditionExpression, UpdateExpression: u.UpdateExpression,
			ExpressionAttributeNames: u.ExpressionAttributeNames, ExpressionAttributeValues: u.ExpressionAttributeValues,
		}, noRetries)
		cancel()
		if err == nil {
			return -1, nil
		}
		if _, used := errors.AsType[*types.ConditionalCheckFailedException](err); used {
			return 0, nil // by somebody else, or by an earlier copy of this write: the answer is the same
		}
		if !retries.Again(ctx, n, err) {
			return -1, s.translate(ctx, what, err)
		}
	}
}

// Extend implements zael.OnceStore: a write under the condition that the holder's entry is as it was
// read.
func (s *Store) Extend(ctx context.Context, now time.Time, d zael.Debit) (deadline time.Time, held bool, err error) {
	const what = "extending a holder"
	if !s.inflight.Begin() {
		return deadline, false, errClosed
	}
	defer s.inflight.End()
	if err := s.check(ctx, []zael.Debit{d}); err != nil {
		return deadline, false, err
	}
	_, at, err := s.clock.Instant(ctx, now)
	if err != nil {
		return deadline, false, err
	}
	r, err := s.readBucket(ctx, d.Key)
	for n := 0; err == nil; n++ {
		own := ownOf(r, d.Holder)
		if own == nil || len(d.Charges) == 0 || own.Generation != d.Charges[0].Receipt.Generation {
			return deadline, false, nil
		}
		w := s.newWrite(coalesce.Batch{Key: d.Key, Kind: coalesce.Renew, Charges: slices.Clone(d.Charges), At: at, Holder: d.Holder})
		w.Know(r)
		plan := w.Plan()
		if plan.Action != protocol.Send {
			return deadline, false, plan.Err
		}
		applied, err := s.send(ctx, w, &plan.Update)
		switch {
		case err == nil && applied:
			return ownOf(w.Known(), d.Holder).Deadline.Time(), true, nil
		case err == nil:
			r = w.Known()
		case !retries.Again(ctx, n, err):
			return deadline, false, s.translate(ctx, what, err)
		default: // the entry says whether it was applied
			if r, err = s.readBucket(ctx, d.Key); err != nil {
				return deadline, false, err
			}
		}
		if n >= protocol.MaxCalls {
			return deadline, false, s.contended(ctx, what)
		}
	}
	return deadline, false, err
}

// ownOf returns the entry of a holder in a record, nil if there is none.
func ownOf(r *protocol.Record, id string) *bucket.Holder {
	slots := r.Slots(id)
	for i := range slots.Holders {
		if slots.Holders[i].ID == id {
			return &slots.Holders[i]
		}
	}
	return nil
}
