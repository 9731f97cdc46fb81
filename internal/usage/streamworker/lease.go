package streamworker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael/internal/schema"
)

// A lease is the item of a shard: who reads it, and how far it is read. Its owner
// adds to beat all the time; when others see it stand still for the length of a
// lease, they take it, whatever any clock says.
type lease struct {
	shard      string
	parent     string
	owner      string // nobody's if empty
	beat       int64
	checkpoint string    // sequence number up to which all is counted; "": nothing
	done       bool      // to its end
	windows    string    // its owner's
	beaten     time.Time // when it last was, by its owner's clock
}

// Attributes of a lease.
const (
	ownerAttribute      = "owner"
	beatAttribute       = "beat"
	checkpointAttribute = "checkpoint"
	doneAttribute       = "done"
	parentAttribute     = "parent"
	windowsAttribute    = "windows"
	ttlAttribute        = "ttl"
)

// leaseKeep is how long a lease stays in the table after its last beat: longer
// than a stream has its shard.
const leaseKeep = 7 * 24 * time.Hour

// tableClient is what a Worker uses of *dynamodb.Client, besides its Counter.
type tableClient interface {
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
}

// leases are those of one stream.
type leases struct {
	client tableClient
	table  string
	label  string

	windows  string        // that we count by
	patience time.Duration // with one write: another shard's lease has to be renewed
}

func (s *leases) prefix() string { return schema.ShardKey + s.label + "#" }

func (s *leases) key(shard string) map[string]types.AttributeValue {
	return schema.SystemKey(s.prefix() + shard)
}

// load reads all.
func (s *leases) load(ctx context.Context) (map[string]lease, error) {
	in := &dynamodb.QueryInput{
		TableName: aws.String(s.table), ConsistentRead: aws.Bool(true),
		KeyConditionExpression:   aws.String("#pk = :pk AND #sk BETWEEN :from AND :to"),
		ExpressionAttributeNames: map[string]string{"#pk": "PK", "#sk": "SK"},
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":pk": schema.Text(schema.Of("").System()), ":from": schema.Text(s.prefix()), ":to": schema.Text(s.prefix() + "\U0010ffff"),
		},
	}
	all := map[string]lease{}
	for {
		out, err := s.client.Query(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("reading who reads which shard: %w", err)
		}
		for _, it := range out.Items {
			l := s.leaseOf(it)
			all[l.shard] = l
		}
		if len(out.LastEvaluatedKey) == 0 {
			return all, nil
		}
		in.ExclusiveStartKey = out.LastEvaluatedKey
	}
}

func (s *leases) leaseOf(it map[string]types.AttributeValue) lease {
	l := lease{
		shard: strings.TrimPrefix(schema.TextIn(it, "SK"), s.prefix()), parent: schema.TextIn(it, parentAttribute),
		owner: schema.TextIn(it, ownerAttribute), checkpoint: schema.TextIn(it, checkpointAttribute),
		windows: schema.TextIn(it, windowsAttribute),
	}
	l.beat, _ = schema.NumberIn(it, beatAttribute) // another value is a beat too
	if expires, err := schema.NumberIn(it, ttlAttribute); err == nil && expires != 0 {
		l.beaten = time.Unix(expires, 0).Add(-leaseKeep)
	}
	if b, ok := it[doneAttribute].(*types.AttributeValueMemberBOOL); ok {
		l.done = b.Value
	}
	return l
}

// Windows are those that a worker which lives counts by, as the leases of a stream
// say; empty if there is none.
func Windows(ctx context.Context, c tableClient, table, label string, length time.Duration) (string, error) {
	all, err := (&leases{client: c, table: table, label: label}).load(ctx)
	if err != nil {
		return "", err
	}
	since := time.Now().Add(-max(sureLife*length, leastLife))
	for _, l := range all {
		if l.owner != "" && !l.done && l.windows != "" && l.beaten.After(since) {
			return l.windows, nil // all who live agree
		}
	}
	return "", nil
}

// A worker lives for Windows if it has shown that in so many lengths of a lease, and
// in so long: clocks differ.
const (
	sureLife  = 4
	leastLife = time.Minute
)

// errLost says that a lease is somebody else's by now.
var errLost = errors.New("another worker has the shard now")

// A write changes a lease under a condition.
type write struct {
	condition string
	sets      string // more than the beat
	remove    string
	values    map[string]types.AttributeValue
}

func (s *leases) write(ctx context.Context, shard string, w write) (lease, error) {
	names := map[string]string{"#beat": beatAttribute, "#ttl": ttlAttribute}
	for placeholder, name := range map[string]string{
		"#owner": ownerAttribute, "#checkpoint": checkpointAttribute, "#done": doneAttribute, "#parent": parentAttribute,
		"#windows": windowsAttribute,
	} {
		if strings.Contains(w.condition+w.sets+w.remove, placeholder) {
			names[placeholder] = name
		}
	}
	values := map[string]types.AttributeValue{":ttl": schema.Number(time.Now().Add(leaseKeep).Unix()), ":one": schema.Number(1)}
	maps.Copy(values, w.values)
	update := "SET #ttl = :ttl"
	if w.sets != "" {
		update += ", " + w.sets
	}
	if w.remove != "" {
		update += " REMOVE " + w.remove
	}
	ctx, stop := context.WithTimeout(ctx, s.patience)
	defer stop()
	out, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(s.table), Key: s.key(shard),
		ConditionExpression: aws.String(w.condition), UpdateExpression: aws.String(update + " ADD #beat :one"),
		ExpressionAttributeNames: names, ExpressionAttributeValues: values, ReturnValues: types.ReturnValueAllNew,
	})
	if _, lost := errors.AsType[*types.ConditionalCheckFailedException](err); lost {
		return lease{}, errLost
	}
	if err != nil {
		return lease{}, fmt.Errorf("writing who reads the shard %s: %w", shard, err)
	}
	return s.leaseOf(out.Attributes), nil
}

// create makes the item of a shard; errLost if there is one.
func (s *leases) create(ctx context.Context, shard, parent string) (lease, error) {
	return s.write(ctx, shard, write{
		condition: "attribute_not_exists(#beat)", sets: "#parent = :parent",
		values: map[string]types.AttributeValue{":parent": schema.Text(parent)},
	})
}

// take makes a lease ours, if it still is as it was seen.
func (s *leases) take(ctx context.Context, l lease, me string) (lease, error) {
	return s.write(ctx, l.shard, write{
		condition: "#beat = :beat", sets: "#owner = :me, #windows = :windows",
		values: map[string]types.AttributeValue{":beat": schema.Number(l.beat), ":me": schema.Text(me), ":windows": schema.Text(s.windows)},
	})
}

// renew shows that we are there, and how far we are.
func (s *leases) renew(ctx context.Context, shard, me, checkpoint string) (lease, error) {
	return s.owned(ctx, shard, me, checkpoint, "", "")
}

// finish says that the shard is read to its end.
func (s *leases) finish(ctx context.Context, shard, me, checkpoint string) (lease, error) {
	return s.owned(ctx, shard, me, checkpoint, "#done = :done", "#owner")
}

// release lets others have the shard at once.
func (s *leases) release(ctx context.Context, shard, me, checkpoint string) (lease, error) {
	return s.owned(ctx, shard, me, checkpoint, "", "#owner")
}

func (s *leases) owned(ctx context.Context, shard, me, checkpoint, sets, remove string) (lease, error) {
	w := write{condition: "#owner = :me", sets: sets, remove: remove, values: map[string]types.AttributeValue{":me": schema.Text(me)}}
	if sets != "" {
		w.values[":done"] = &types.AttributeValueMemberBOOL{Value: true}
	}
	if checkpoint != "" {
		if w.sets != "" {
			w.sets += ", "
		}
		w.sets += "#checkpoint = :checkpoint"
		w.values[":checkpoint"] = schema.Text(checkpoint)
	}
	return s.write(ctx, shard, w)
}

// abandon marks a shard that is gone as done, if nobody has it.
func (s *leases) abandon(ctx context.Context, l lease) (lease, error) {
	return s.write(ctx, l.shard, write{
		condition: "#beat = :beat", sets: "#done = :done", remove: "#owner",
		values: map[string]types.AttributeValue{":beat": schema.Number(l.beat), ":done": &types.AttributeValueMemberBOOL{Value: true}},
	})
}
