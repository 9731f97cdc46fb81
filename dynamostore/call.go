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
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/engineclock"
	"github.com/zeroae/zael/internal/pause"
	"github.com/zeroae/zael/internal/schema"
)

const (
	leastCall  = 50 * time.Millisecond
	undoFor    = 10 * time.Second // a give-back may take so long, in a line or while the bucket is throttled; nobody need wait for it
	maxRetries = 4                // of calls that failed without an answer

	retryBase = 10 * time.Millisecond
	retryMost = 160 * time.Millisecond
	raceBase  = time.Millisecond // after another writer came first
	raceMost  = 16 * time.Millisecond
)

// noRetries turns the SDK's retries off: what to repeat is decided here.
func noRetries(o *dynamodb.Options) { o.Retryer = aws.NopRetryer{} }

// callTime returns how long one call may take, so that there is time for another
// before ctx's deadline. If there is none the call may take as long as any: it is
// ended by ctx, or goes on for the sake of its answer.
func (s *Store) callTime(ctx context.Context) time.Duration {
	d := s.config.CallTimeout
	if deadline, ok := ctx.Deadline(); ok {
		if left := time.Until(deadline); left > leastCall {
			d = min(d, max(left/2, leastCall))
		}
	}
	return d
}

// updateItem makes one call. It reports whether the update was applied; r is the item after
// it, or, if its condition failed, the item as it is.
func (s *Store) updateItem(ctx context.Context, u *protocol.Update) (r *protocol.Record, ok bool, err error) {
	sent := s.read()
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
	sent := s.read()
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
		s.clock.Answer(date, time.Second, sent, s.read())
	}
}

// learnTimeOf notes the time in an answer that is an error.
func (s *Store) learnTimeOf(err error, sent engineclock.Reading) {
	e, ok := errors.AsType[*awshttp.ResponseError](err)
	if !ok || e.Response == nil {
		return
	}
	if date, err := time.Parse(time.RFC1123, e.Response.Header.Get("Date")); err == nil {
		s.clock.Answer(date, time.Second, sent, s.read())
	}
}

// instant returns now, which the caller has just read from this machine's wall
// clock, by the engine's clock. If the offset between the two is not known it asks
// the engine first.
func (s *Store) instant(ctx context.Context, now time.Time) (time.Time, bucket.Instant, error) {
	if !s.trial.VirtualTime {
		entered := s.read()
		offset, known := s.clock.Offset(entered)
		if !known && !s.timeless.Load() {
			if err := s.askTime(ctx); err != nil {
				return now, 0, err
			}
			offset, _ = s.clock.Offset(entered)
		}
		now = now.Add(offset)
	}
	at, err := bucket.At(now)
	if err != nil {
		return now, 0, invalid("now", nil, err.Error())
	}
	return now, at, nil
}

// An asking is a call for the engine's time. Callers that come meanwhile wait for it.
type asking struct {
	done chan struct{}
	err  error // once done is closed
}

// askTime reads an item to learn the engine's time. Concurrent callers share one
// read and its error, unless the reading caller was cancelled.
func (s *Store) askTime(ctx context.Context) error {
	for {
		a, mine := s.askFirst()
		if a == nil {
			return nil
		}
		if mine {
			a.err = s.retryRead(ctx, "asking the table's clock", func() error {
				_, err := s.getItem(ctx, schema.ItemKey(s.keys.System(), schema.VersionKey))
				return err
			})
			if a.err == nil {
				s.timeless.Store(s.clock.Silent())
			}
			s.asked.Store(nil)
			close(a.done)
			return a.err
		}
		select {
		case <-a.done:
			if a.err != nil && !errors.Is(a.err, context.Canceled) && !errors.Is(a.err, context.DeadlineExceeded) {
				return a.err
			}
		case <-ctx.Done():
			return s.translate(ctx, "asking the table's clock", ctx.Err())
		}
	}
}

// askFirst returns the call that is under way; a new one, which is the caller's to
// make; or none, if the offset is known by now.
func (s *Store) askFirst() (a *asking, mine bool) {
	for {
		if a = s.asked.Load(); a != nil {
			return a, false
		}
		if _, known := s.clock.Offset(s.read()); known || s.timeless.Load() {
			return nil, false
		}
		if a = (&asking{done: make(chan struct{})}); s.asked.CompareAndSwap(nil, a) {
			return a, true
		}
	}
}

// retryRead makes a call that changes nothing until it is answered.
func (s *Store) retryRead(ctx context.Context, what string, call func() error) error {
	for i := 0; ; i++ {
		err := call()
		if err == nil {
			return nil
		}
		if fateOf(err) == rejected || i >= maxRetries || pause.Backoff(ctx, i, retryBase, retryMost) != nil {
			return s.translate(ctx, what, err)
		}
	}
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
