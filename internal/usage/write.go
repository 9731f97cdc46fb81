package usage

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/zeroae/zael/internal/pause"
	"github.com/zeroae/zael/internal/schema"
)

// Attributes of an item of usage besides its keys and counters.
const (
	firstAttribute = "first_seq"   // of the first change in it, sequenceDigits long
	startAttribute = "first_state" // of the bucket before the first
	lastAttribute  = "last_seq"    // of the last
	stateAttribute = "state"       // of the bucket after the last
	holesAttribute = "holes"       // see counted; missing if there are none
	ttlAttribute   = "ttl"
)

// maxCalls is how often one chain asks the table; each of them but the last
// finds that another worker has just written.
const maxCalls = 10

const (
	pauseBase = 5 * time.Millisecond
	pauseMost = 200 * time.Millisecond
)

var errBusy = errors.New("usage: others write the same item all the time")

// chain counts a chain of changes.
func (c *Counter) chain(ctx context.Context, p *place, chain []change) (updates int, err error) {
	if _, nothing := sum(chain); nothing {
		return 0, nil
	}
	var item map[string]types.AttributeValue
	for calls := 0; calls < maxCalls; calls++ {
		if calls > 1 {
			if err := pause.Backoff(ctx, calls, pauseBase, pauseMost); err != nil {
				return updates, err
			}
		}
		if len(item) == 0 {
			// What nearly always holds: all of it is new, and it begins where the
			// last one ended, or the item does.
			var ok bool
			updates++
			if item, ok, err = c.update(ctx, p, chain, nil); err != nil || ok {
				return updates, err
			}
		}
		for len(item) > 0 {
			was, err := countedOf(item)
			if err != nil {
				return updates, fmt.Errorf("%w: usage %s %s: %w", ErrUncountable, p.keys.Usage(p.key.Entity), p.sort(), err)
			}
			run, rest := was.missing(chain)
			if run == nil {
				return updates, nil
			}
			if _, nothing := sum(run); !nothing {
				var ok bool
				updates++
				if item, ok, err = c.exact(ctx, p, run, &was); err != nil {
					return updates, err
				}
				if !ok {
					break // others have written
				}
				calls = 0
			}
			if chain = rest; len(chain) == 0 {
				return updates, nil
			}
		}
	}
	return updates, errBusy
}

// exact writes a run into an item that is as it was read.
func (c *Counter) exact(ctx context.Context, p *place, run []change, was *counted) (item map[string]types.AttributeValue, ok bool, err error) {
	next, lost, err := was.with(run)
	if err != nil {
		return nil, false, fmt.Errorf("usage: writing %s %s: %w", p.keys.Usage(p.key.Entity), p.sort(), err)
	}
	item, ok, err = c.update(ctx, p, run, &move{from: was, to: &next})
	if ok && lost > 0 {
		c.config.Log.Error("too many gaps in usage: what failed there cannot be counted any more",
			"entity", p.key.Entity, "resource", p.key.Resource, "window", string(p.window), "gaps", lost)
	}
	return item, ok, err
}

// A move is from one state of an item to another.
type move struct{ from, to *counted }

func (p *place) sort() string { return schema.UsageSort(p.key.Resource, p.window, p.start) }

// update adds a run to the item, under the condition that all of it is new and
// follows what the item has, or, with m, that the item has not changed. item is
// how it is since, or, if the condition does not hold, as it is.
func (c *Counter) update(ctx context.Context, p *place, run []change, m *move) (item map[string]types.AttributeValue, ok bool, err error) {
	d, _ := sum(run)
	names := map[string]string{
		"#gp": "GSI1PK", "#gs": "GSI1SK", "#first": firstAttribute, "#last": lastAttribute, "#start": startAttribute,
		"#state": stateAttribute, "#ttl": ttlAttribute, "#e": schema.UsageEvents,
	}
	values := map[string]types.AttributeValue{
		":gp":   schema.Text(p.keys.UsageIndex(p.key.Resource, p.window, p.start)),
		":gs":   schema.Text(p.key.Entity),
		":ttl":  schema.Number(p.end.Add(c.config.Retention).Unix()),
		":e":    schema.Number(d.events),
		":last": schema.Text(run[len(run)-1].sequence), ":state": schema.Text(run[len(run)-1].after),
		":first": schema.Text(run[0].sequence), ":start": schema.Text(run[0].before),
	}
	// The keys of the index stay as they were made: it is written once.
	sets := []string{"#gp = if_not_exists(#gp, :gp)", "#gs = if_not_exists(#gs, :gs)", "#ttl = :ttl", "#last = :last", "#state = :state"}
	var remove, condition string
	returned := types.ReturnValueNone
	if m == nil {
		sets = append(sets, "#first = if_not_exists(#first, :first)", "#start = if_not_exists(#start, :start)")
		condition = "attribute_not_exists(#last) OR (#last < :first AND #state = :start)"
	} else {
		returned = types.ReturnValueAllNew
		sets = append(sets, "#first = :first", "#start = :start")
		values[":start"] = schema.Text(m.to.start)
		values[":first"], values[":last"], values[":state"] = schema.Text(m.to.first), schema.Text(m.to.last), schema.Text(m.to.at)
		values[":wasfirst"], values[":waslast"] = schema.Text(m.from.first), schema.Text(m.from.last)
		names["#holes"] = holesAttribute
		condition = "#first = :wasfirst AND #last = :waslast AND "
		if len(m.from.holes) == 0 {
			condition += "attribute_not_exists(#holes)"
		} else {
			values[":washoles"] = schema.Text(m.from.holesText())
			condition += "#holes = :washoles"
		}
		switch {
		case len(m.to.holes) > 0:
			values[":holes"] = schema.Text(m.to.holesText())
			sets = append(sets, "#holes = :holes")
		case len(m.from.holes) > 0:
			remove = " REMOVE #holes"
		}
	}
	adds := []string{"#e :e"}
	i := 0
	for name, n := range d.amounts {
		id := strconv.Itoa(i)
		names["#c"+id], values[":c"+id] = schema.Counter+name, schema.Number(n)
		adds = append(adds, "#c"+id+" :c"+id)
		i++
	}
	out, err := c.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                           aws.String(c.table),
		Key:                                 map[string]types.AttributeValue{"PK": schema.Text(p.keys.Usage(p.key.Entity)), "SK": schema.Text(p.sort())},
		ConditionExpression:                 aws.String(condition),
		UpdateExpression:                    aws.String("SET " + strings.Join(sets, ", ") + remove + " ADD " + strings.Join(adds, ", ")),
		ExpressionAttributeNames:            names,
		ExpressionAttributeValues:           values,
		ReturnValues:                        returned,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	if err == nil {
		return out.Attributes, true, nil
	}
	if failed, is := errors.AsType[*types.ConditionalCheckFailedException](err); is {
		return failed.Item, false, nil
	}
	if refused, is := errors.AsType[smithy.APIError](err); is && refused.ErrorCode() == "ValidationException" {
		err = fmt.Errorf("%w: %w", ErrUncountable, err) // the item is full, or has something else in it
	}
	return nil, false, fmt.Errorf("usage: writing %s %s: %w", p.keys.Usage(p.key.Entity), p.sort(), err)
}

// countedOf is what an item says it has in it.
func countedOf(item map[string]types.AttributeValue) (c counted, err error) {
	for attribute, to := range map[string]*string{firstAttribute: &c.first, lastAttribute: &c.last} {
		if *to, err = padded(schema.TextIn(item, attribute)); err != nil {
			return c, fmt.Errorf("attribute %s: %w", attribute, err)
		}
	}
	c.start, c.at = schema.TextIn(item, startAttribute), schema.TextIn(item, stateAttribute)
	if c.holes, err = parseHoles(schema.TextIn(item, holesAttribute)); err != nil {
		return c, fmt.Errorf("attribute %s: %w", holesAttribute, err)
	}
	return c, nil
}
