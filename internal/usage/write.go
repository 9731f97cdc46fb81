package usage

import (
	"context"
	"errors"
	"fmt"
	"maps"
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

// chain counts a chain of changes. What cannot be counted it tells fail; after an
// error of another kind nobody knows what of the chain is.
func (c *Counter) chain(ctx context.Context, p *place, chain []member, fail failing) (updates int, err error) {
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
			item, ok, err = c.follow(ctx, p, chain)
			switch {
			case errors.Is(err, ErrUncountable):
				fail(chain, err)
				return updates, nil
			case err != nil || ok:
				return updates, err
			}
		}
		for len(item) > 0 {
			was, err := countedOf(item)
			if err != nil {
				fail(chain, fmt.Errorf("%w: usage %s: %w", ErrUncountable, p, err))
				return updates, nil
			}
			known, doubtful := was.divide(chain)
			fail(doubtful, fmt.Errorf("usage: %s: %w", p, errBlurred))
			chain = known
			run, rest := was.missing(chain)
			if run == nil {
				return updates, nil
			}
			if _, nothing := sum(run); !nothing {
				updates++
				now, ok, err := c.insert(ctx, p, run, &was)
				switch {
				case errors.Is(err, ErrUncountable):
					fail(run, err)
				case err != nil:
					return updates, err
				default:
					item = now
				}
				if err == nil && !ok {
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

func (p *place) sort() string { return schema.UsageSort(p.key.Resource, p.window, p.start) }

func (p *place) String() string { return p.keys.Usage(p.key.Entity) + " " + p.sort() }

// follow writes a run that is all new, and follows what the item has.
func (c *Counter) follow(ctx context.Context, p *place, run []member) (item map[string]types.AttributeValue, ok bool, err error) {
	first, last := &run[0], &run[len(run)-1]
	to := &counted{first: first.sequence, last: last.sequence, start: first.before, at: last.after}
	return c.write(ctx, p, run, to, &guard{
		condition: "attribute_not_exists(#last) OR (#last < :first AND #state = :start)",
		sets:      []string{"#first = if_not_exists(#first, :first)", "#start = if_not_exists(#start, :start)"},
		returned:  types.ReturnValueNone,
	})
}

// insert writes a run that the item has not, if the item is as it was read.
func (c *Counter) insert(ctx context.Context, p *place, run []member, was *counted) (item map[string]types.AttributeValue, ok bool, err error) {
	to, lost, err := was.with(run, c.mostHoles)
	if err != nil {
		return nil, false, fmt.Errorf("usage: writing %s: %w", p, err)
	}
	g := &guard{
		condition: "#first = :wasfirst AND #last = :waslast AND ",
		sets:      []string{"#first = :first", "#start = :start"},
		names:     map[string]string{"#holes": holesAttribute},
		values:    map[string]types.AttributeValue{":wasfirst": schema.Text(was.first), ":waslast": schema.Text(was.last)},
		returned:  types.ReturnValueAllNew,
	}
	before, after := was.holesText(), to.holesText()
	if before == "" {
		g.condition += "attribute_not_exists(#holes)"
	} else {
		g.condition += "#holes = :washoles"
		g.values[":washoles"] = schema.Text(before)
	}
	switch {
	case after != "":
		g.sets = append(g.sets, "#holes = :holes")
		g.values[":holes"] = schema.Text(after)
	case before != "":
		g.remove = " REMOVE #holes"
	}
	item, ok, err = c.write(ctx, p, run, &to, g)
	if ok && lost > 0 {
		c.config.Log.Error("too many gaps in usage: of what failed there it is not known any more whether it is counted; it goes to the dead letters",
			"entity", p.key.Entity, "resource", p.key.Resource, "window", string(p.window), "gaps", lost)
	}
	return item, ok, err
}

// A guard is under which condition an item is written, and what of it depends on
// that.
type guard struct {
	condition string
	sets      []string
	remove    string
	names     map[string]string
	values    map[string]types.AttributeValue
	returned  types.ReturnValue
}

// write adds a run to an item, which then has in it what to says. item is how it
// is since, or, if the condition does not hold, as it is.
func (c *Counter) write(ctx context.Context, p *place, run []member, to *counted, g *guard) (item map[string]types.AttributeValue, ok bool, err error) {
	d, _ := sum(run)
	names := map[string]string{
		"#gp": "GSI1PK", "#gs": "GSI1SK", "#first": firstAttribute, "#last": lastAttribute, "#start": startAttribute,
		"#state": stateAttribute, "#ttl": ttlAttribute, "#e": schema.UsageEvents,
	}
	values := map[string]types.AttributeValue{
		":gp":    schema.Text(p.keys.UsageIndex(p.key.Resource, p.window, p.start)),
		":gs":    schema.Text(p.key.Entity),
		":ttl":   schema.Number(p.end.Add(c.config.Retention).Unix()),
		":e":     schema.Number(d.events),
		":first": schema.Text(to.first), ":start": schema.Text(to.start), ":last": schema.Text(to.last), ":state": schema.Text(to.at),
	}
	maps.Copy(names, g.names)
	maps.Copy(values, g.values)
	// The keys of the index stay as they were made: it is written once.
	sets := append([]string{"#gp = if_not_exists(#gp, :gp)", "#gs = if_not_exists(#gs, :gs)", "#ttl = :ttl", "#last = :last", "#state = :state"}, g.sets...)
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
		Key:                                 schema.ItemKey(p.keys.Usage(p.key.Entity), p.sort()),
		ConditionExpression:                 aws.String(g.condition),
		UpdateExpression:                    aws.String("SET " + strings.Join(sets, ", ") + g.remove + " ADD " + strings.Join(adds, ", ")),
		ExpressionAttributeNames:            names,
		ExpressionAttributeValues:           values,
		ReturnValues:                        g.returned,
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
	return nil, false, fmt.Errorf("usage: writing %s: %w", p, err)
}

// countedOf is what an item says it has in it.
func countedOf(item map[string]types.AttributeValue) (c counted, err error) {
	for attribute, to := range map[string]*string{firstAttribute: &c.first, lastAttribute: &c.last} {
		if *to, err = padded(schema.TextIn(item, attribute)); err != nil {
			return c, fmt.Errorf("attribute %s: %w", attribute, err)
		}
	}
	c.start, c.at = schema.TextIn(item, startAttribute), schema.TextIn(item, stateAttribute)
	if err = c.parseHoles(schema.TextIn(item, holesAttribute)); err != nil {
		return c, fmt.Errorf("attribute %s: %w", holesAttribute, err)
	}
	return c, nil
}
