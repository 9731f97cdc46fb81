package usage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/pause"
	"github.com/zeroae/zael/internal/schema"
)

// An itemKey names an item of usage: what one life of a bucket took in one window.
type itemKey struct {
	keys       schema.Keys
	key        zael.Key
	window     zael.Window
	start, end time.Time
	life       string
}

func (k *itemKey) partition() string { return k.keys.Usage(k.key.Entity) }

func (k *itemKey) sort() string { return schema.UsageSort(k.key.Resource, k.window, k.start, k.life) }

// Attributes of an item of usage, besides its keys and schema.UsageBefore and UsageAfter.
const (
	firstAttribute = "first"
	lastAttribute  = "last"
	ttlAttribute   = "ttl"
)

// The usual write: the item is new, or its coverage does not begin later and ends
// earlier. It keeps the beginning and moves the end.
const (
	extendCondition = "attribute_not_exists(#last) OR (#first <= :first AND #last < :last)"
	extendUpdate    = "#first = if_not_exists(#first, :first), #before = if_not_exists(#before, :before)"
)

// The other write: the item is as it was read, and gets the merger.
const (
	mergeCondition = "#first = :seenFirst AND #last = :seenLast"
	mergeUpdate    = "#first = :first, #before = :before"
)

const commonUpdate = "#last = :last, #after = :after, #gp = :gp, #gs = :gs, #ttl = :ttl"

// maxCalls bounds the calls of one write; each but the last two finds that another worker
// has just written.
const maxCalls = 10

const (
	pauseBase = 5 * time.Millisecond
	pauseMost = 200 * time.Millisecond
)

var errBusy = errors.New("other workers keep writing the same item")

// write merges covered into an item. After an error it is not known whether it has.
func (c *Counter) write(ctx context.Context, k *itemKey, covered *coverage) (calls int, err error) {
	var seen *coverage // the item's, if a call returned it
	for calls < maxCalls {
		if calls > 1 {
			if err := pause.Backoff(ctx, calls, pauseBase, pauseMost); err != nil {
				return calls, err
			}
		}
		next := *covered
		if seen != nil {
			if seen.contains(covered) {
				return calls, nil
			}
			next = seen.merge(covered)
		}
		calls++
		var ok bool
		if seen, ok, err = c.update(ctx, k, &next, seen); ok || err != nil {
			return calls, err
		}
	}
	return calls, errBusy
}

// update writes an item if it is as it was seen or, if seen is nil, if next extends it.
// Otherwise it returns the item's coverage, nil if there is no item.
func (c *Counter) update(ctx context.Context, k *itemKey, next, seen *coverage) (found *coverage, ok bool, err error) {
	condition, update := extendCondition, extendUpdate
	values := map[string]types.AttributeValue{
		":first": schema.Number(next.first), ":before": next.before.attribute(),
		":last": schema.Number(next.last), ":after": next.after.attribute(),
		":gp": schema.Text(k.keys.UsageIndex(k.key.Resource, k.window, k.start)), ":gs": schema.Text(k.key.Entity),
		":ttl": schema.Number(k.end.Add(c.config.Retention).Unix()),
	}
	if seen != nil {
		condition, update = mergeCondition, mergeUpdate
		values[":seenFirst"], values[":seenLast"] = schema.Number(seen.first), schema.Number(seen.last)
	}
	_, err = c.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:           aws.String(c.table),
		Key:                 schema.ItemKey(k.partition(), k.sort()),
		ConditionExpression: aws.String(condition),
		UpdateExpression:    aws.String("SET " + update + ", " + commonUpdate),
		ExpressionAttributeNames: map[string]string{
			"#first": firstAttribute, "#before": schema.UsageBefore, "#last": lastAttribute, "#after": schema.UsageAfter,
			"#gp": "GSI1PK", "#gs": "GSI1SK", "#ttl": ttlAttribute,
		},
		ExpressionAttributeValues:           values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	if err == nil {
		return nil, true, nil
	}
	if failed, is := errors.AsType[*types.ConditionalCheckFailedException](err); is {
		if len(failed.Item) == 0 {
			return nil, false, nil
		}
		found, err = coverageIn(failed.Item)
		return found, false, err
	}
	if refused, is := errors.AsType[smithy.APIError](err); is && refused.ErrorCode() == "ValidationException" {
		err = fmt.Errorf("%w: %w", ErrUncountable, err) // the item is full, or another program's
	}
	return nil, false, err
}

// attribute returns c as an item has it.
func (c counters) attribute() types.AttributeValue {
	m := make(map[string]types.AttributeValue, len(c))
	for name, n := range c {
		m[name] = schema.Number(n)
	}
	return &types.AttributeValueMemberM{Value: m}
}

// coverageIn decodes the coverage of an item.
func coverageIn(item map[string]types.AttributeValue) (*coverage, error) {
	var c coverage
	var errs [4]error
	c.first, errs[0] = schema.NumberIn(item, firstAttribute)
	c.last, errs[1] = schema.NumberIn(item, lastAttribute)
	c.before, errs[2] = countersIn(item, schema.UsageBefore)
	c.after, errs[3] = countersIn(item, schema.UsageAfter)
	err := errors.Join(errs[:]...)
	if err == nil && (c.first < 1 || c.last < c.first) {
		err = fmt.Errorf("attributes %s and %s are %d and %d", firstAttribute, lastAttribute, c.first, c.last)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the item is not usage: %w", ErrUncountable, err)
	}
	return &c, nil
}

func countersIn(item map[string]types.AttributeValue, attribute string) (counters, error) {
	m, ok := item[attribute].(*types.AttributeValueMemberM)
	if !ok {
		return nil, fmt.Errorf("attribute %s is not a map", attribute)
	}
	c := counters{}
	for name := range m.Value {
		n, err := schema.NumberIn(m.Value, name)
		if err != nil {
			return nil, fmt.Errorf("attribute %s: %w", attribute, err)
		}
		c[name] = n
	}
	return c, nil
}
