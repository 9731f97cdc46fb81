package dynamostore

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/enginecall"
	"github.com/zeroae/zael/internal/engineclock"
	"github.com/zeroae/zael/internal/schema"
)

const (
	undoFor    = 10 * time.Second // a give-back may take so long, in a line or while the bucket is throttled; nobody need wait for it
	maxRetries = 4                // of calls that failed without an answer

	retryBase = 10 * time.Millisecond
	retryMost = 160 * time.Millisecond
	raceBase  = time.Millisecond // after another writer came first
	raceMost  = 16 * time.Millisecond
)

// noRetries turns the SDK's retries off: what to repeat is decided here.
func noRetries(o *dynamodb.Options) { o.Retryer = aws.NopRetryer{} }

// retries are those of calls without an answer.
//
//nolint:gochecknoglobals // a constant
var retries = enginecall.Retries{FateOf: fateOf, Most: maxRetries, Base: retryBase, Longest: retryMost}

// callTime returns how long one call may take.
func (s *Store) callTime(ctx context.Context) time.Duration {
	return enginecall.Time(ctx, s.config.CallTimeout)
}

// updateItem makes one call. It reports whether the update was applied; r is the item after
// it, or, if its condition failed, the item as it is.
func (s *Store) updateItem(ctx context.Context, u *protocol.Update) (r *protocol.Record, ok bool, err error) {
	sent := s.clock.Read()
	out, err := s.client.UpdateItem(ctx, s.updateInput(u), noRetries)
	s.stats.count(func(c *Stats) { c.Writes++ })
	if err == nil {
		s.learnTime(out.ResultMetadata, sent)
		s.units(out.ConsumedCapacity, false)
		r, err = recordOf(out.Attributes)
		return r, true, err
	}
	s.learnTimeOf(err, sent)
	if failed, is := errors.AsType[*types.ConditionalCheckFailedException](err); is {
		s.stats.count(func(c *Stats) {
			c.Failed++
			if s.trial.CountUnits {
				c.WriteUnits++ // which AWS bills at least, and no answer tells
			}
		})
		r, err = recordOf(failed.Item)
		return r, false, err
	}
	return nil, false, err
}

// getItem reads an item, and sees every write before.
func (s *Store) getItem(ctx context.Context, key item) (item, error) {
	ctx, cancel := context.WithTimeout(ctx, s.callTime(ctx))
	defer cancel()
	sent := s.clock.Read()
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: aws.String(s.table), Key: key, ConsistentRead: aws.Bool(true), ReturnConsumedCapacity: s.capacity(),
	}, noRetries)
	s.stats.count(func(c *Stats) { c.Reads++ })
	if err != nil {
		s.learnTimeOf(err, sent)
		return nil, err
	}
	s.learnTime(out.ResultMetadata, sent)
	s.units(out.ConsumedCapacity, true)
	return out.Item, nil
}

// units counts what a call cost.
func (s *Store) units(c *types.ConsumedCapacity, reading bool) {
	if c == nil {
		return
	}
	n := aws.ToFloat64(c.CapacityUnits)
	s.stats.count(func(c *Stats) {
		if reading {
			c.ReadUnits += n
		} else {
			c.WriteUnits += n
		}
	})
}

// learnTime notes the time in an answer.
func (s *Store) learnTime(metadata middleware.Metadata, sent engineclock.Reading) {
	if date, ok := awsmiddleware.GetServerTime(metadata); ok && !date.IsZero() {
		s.clock.Heard(date, time.Second, sent)
	}
}

// learnTimeOf notes the time in an answer that is an error.
func (s *Store) learnTimeOf(err error, sent engineclock.Reading) {
	e, ok := errors.AsType[*awshttp.ResponseError](err)
	if !ok || e.Response == nil {
		return
	}
	if date, err := time.Parse(time.RFC1123, e.Response.Header.Get("Date")); err == nil {
		s.clock.Heard(date, time.Second, sent)
	}
}

const askingTime = "asking the table's clock"

// askTime reads an item to learn the engine's time.
func (s *Store) askTime(ctx context.Context) error {
	return s.retryRead(ctx, askingTime, func() error {
		_, err := s.getItem(ctx, schema.ItemKey(s.keys.System(), schema.VersionKey))
		return err
	})
}

// retryRead makes a call that changes nothing until it is answered.
func (s *Store) retryRead(ctx context.Context, what string, call func() error) error {
	return s.translate(ctx, what, retries.Read(ctx, call))
}

// readBucket reads a bucket's item.
func (s *Store) readBucket(ctx context.Context, key zael.Key) (*protocol.Record, error) {
	var it item
	err := s.retryRead(ctx, "reading a bucket", func() (err error) {
		it, err = s.getItem(ctx, s.itemKey(key))
		return err
	})
	if err != nil {
		return nil, err
	}
	return recordOf(it)
}
