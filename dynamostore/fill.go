package dynamostore

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
)

// fillChange is the change of a bucket by a reset or a top-up. It is written for exactly
// the limits that were read. An acquire that meets the transaction is surely not
// applied, and is sent again.
func (s *Store) fillChange(ctx context.Context, now time.Time, edit *zael.Edit) (c change, err error) {
	key := zael.Key(edit.Scope())
	if err := checkKey(key); err != nil {
		return c, err
	}
	_, at, err := s.clock.Instant(ctx, now)
	if err != nil {
		return c, err
	}
	r, err := s.readBucket(ctx, key)
	if err != nil {
		return c, err
	}
	after := bucket.Record{Limits: r.Bucket(key, at).Limits}
	if c.result.Available, err = edit.Fill(&after, at, s.random()); err != nil {
		return c, err
	}
	f := protocol.Fill{
		Key: key, Before: r, After: after.Limits, At: at, ID: s.random(), Index: s.keys.bucketIndex(key), NoExpiry: s.trial.VirtualTime,
	}
	if u, changes := f.Update(); changes {
		in := s.updateInput(&u)
		c.writes = []types.TransactWriteItem{{Update: &types.Update{
			TableName: in.TableName, Key: in.Key, ConditionExpression: in.ConditionExpression, UpdateExpression: in.UpdateExpression,
			ExpressionAttributeNames: in.ExpressionAttributeNames, ExpressionAttributeValues: in.ExpressionAttributeValues,
		}}}
	}
	return c, nil
}
