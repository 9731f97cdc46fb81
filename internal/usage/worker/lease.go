package worker

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

// A lease is the item of a shard: which worker reads it, and how far it is counted. Its
// owner increments the heartbeat. Others may claim a lease whose heartbeat has not changed
// for the length of a lease by their own clock; clocks are not compared.
type lease struct {
	shard      string
	parent     string
	owner      string // "" if nobody reads the shard
	heartbeat  int64
	checkpoint string // sequence number of the last record that is counted; "" for none
	done       bool   // read to its end
	windows    string // the owner's
	renewed    time.Time
}

// Attributes of a lease.
const (
	ownerAttribute      = "owner"
	heartbeatAttribute  = "beat"
	checkpointAttribute = "checkpoint"
	doneAttribute       = "done"
	parentAttribute     = "parent"
	windowsAttribute    = "windows"
	ttlAttribute        = "ttl"
)

// leaseRetention is how long the table keeps a lease after its last renewal: longer than
// the stream keeps the shard.
const leaseRetention = 7 * 24 * time.Hour

// tableClient is what a Worker uses of *dynamodb.Client, besides its Counter.
type tableClient interface {
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
}

// leases are the leases of a stream.
type leases struct {
	client tableClient
	table  string
	label  string // of the stream

	windows string        // by which this worker counts
	timeout time.Duration // of a write; meanwhile the leases of other shards wait
}

func (s *leases) prefix() string { return schema.ShardKey + s.label + "#" }

func (s *leases) key(shard string) map[string]types.AttributeValue {
	return schema.SystemKey(s.prefix() + shard)
}

// load reads all leases of the stream.
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
			return nil, fmt.Errorf("reading the leases of the shards: %w", err)
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
	l.heartbeat, _ = schema.NumberIn(it, heartbeatAttribute) // only differences matter
	if expires, err := schema.NumberIn(it, ttlAttribute); err == nil && expires != 0 {
		l.renewed = time.Unix(expires, 0).Add(-leaseRetention)
	}
	if b, ok := it[doneAttribute].(*types.AttributeValueMemberBOOL); ok {
		l.done = b.Value
	}
	return l
}

// Windows returns the windows by which the workers of a stream count that are alive, ""
// if none is.
func Windows(ctx context.Context, c tableClient, table, label string, length time.Duration) (string, error) {
	all, err := (&leases{client: c, table: table, label: label}).load(ctx)
	if err != nil {
		return "", err
	}
	since := time.Now().Add(-max(aliveLeases*length, aliveLeast))
	for _, l := range all {
		if l.owner != "" && !l.done && l.windows != "" && l.renewed.After(since) {
			return l.windows, nil // workers that are alive agree
		}
	}
	return "", nil
}

// For Windows a worker is alive that has renewed a lease within so many lengths of a
// lease, or so recently: clocks differ.
const (
	aliveLeases = 4
	aliveLeast  = time.Minute
)

// errLost reports that another worker has the lease.
var errLost = errors.New("another worker has the shard now")

// A leaseUpdate is a conditional update of a lease, besides the heartbeat and the expiry.
type leaseUpdate struct {
	condition string
	set       string
	remove    string
	values    map[string]types.AttributeValue
}

func (s *leases) update(ctx context.Context, shard string, u leaseUpdate) (lease, error) {
	names := map[string]string{"#beat": heartbeatAttribute, "#ttl": ttlAttribute}
	for placeholder, name := range map[string]string{
		"#owner": ownerAttribute, "#checkpoint": checkpointAttribute, "#done": doneAttribute, "#parent": parentAttribute,
		"#windows": windowsAttribute,
	} {
		if strings.Contains(u.condition+u.set+u.remove, placeholder) {
			names[placeholder] = name
		}
	}
	values := map[string]types.AttributeValue{":ttl": schema.Number(time.Now().Add(leaseRetention).Unix()), ":one": schema.Number(1)}
	maps.Copy(values, u.values)
	expression := "SET #ttl = :ttl"
	if u.set != "" {
		expression += ", " + u.set
	}
	if u.remove != "" {
		expression += " REMOVE " + u.remove
	}
	ctx, stop := context.WithTimeout(ctx, s.timeout)
	defer stop()
	out, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(s.table), Key: s.key(shard),
		ConditionExpression: aws.String(u.condition), UpdateExpression: aws.String(expression + " ADD #beat :one"),
		ExpressionAttributeNames: names, ExpressionAttributeValues: values, ReturnValues: types.ReturnValueAllNew,
	})
	if _, lost := errors.AsType[*types.ConditionalCheckFailedException](err); lost {
		return lease{}, errLost
	}
	if err != nil {
		return lease{}, fmt.Errorf("writing the lease of the shard %s: %w", shard, err)
	}
	return s.leaseOf(out.Attributes), nil
}

// create creates the lease of a shard. It returns errLost if there is one already.
func (s *leases) create(ctx context.Context, shard, parent string) (lease, error) {
	return s.update(ctx, shard, leaseUpdate{
		condition: "attribute_not_exists(#beat)", set: "#parent = :parent",
		values: map[string]types.AttributeValue{":parent": schema.Text(parent)},
	})
}

// claim makes this worker the owner of a lease that has not changed since it was read.
func (s *leases) claim(ctx context.Context, l lease, me string) (lease, error) {
	return s.update(ctx, l.shard, leaseUpdate{
		condition: "#beat = :beat", set: "#owner = :me, #windows = :windows",
		values: map[string]types.AttributeValue{":beat": schema.Number(l.heartbeat), ":me": schema.Text(me), ":windows": schema.Text(s.windows)},
	})
}

// renew writes the heartbeat and the checkpoint.
func (s *leases) renew(ctx context.Context, shard, me, checkpoint string) (lease, error) {
	return s.updateOwned(ctx, shard, me, checkpoint, leaseUpdate{})
}

// finish marks the shard as read to its end.
func (s *leases) finish(ctx context.Context, shard, me, checkpoint string) (lease, error) {
	return s.updateOwned(ctx, shard, me, checkpoint, leaseUpdate{
		set: "#done = :done", remove: "#owner",
		values: map[string]types.AttributeValue{":done": &types.AttributeValueMemberBOOL{Value: true}},
	})
}

// release gives the lease up, so that others can claim it at once.
func (s *leases) release(ctx context.Context, shard, me, checkpoint string) (lease, error) {
	return s.updateOwned(ctx, shard, me, checkpoint, leaseUpdate{remove: "#owner"})
}

func (s *leases) updateOwned(ctx context.Context, shard, me, checkpoint string, u leaseUpdate) (lease, error) {
	values := map[string]types.AttributeValue{":me": schema.Text(me)}
	maps.Copy(values, u.values)
	u.condition, u.values = "#owner = :me", values
	if checkpoint != "" {
		if u.set != "" {
			u.set += ", "
		}
		u.set += "#checkpoint = :checkpoint"
		values[":checkpoint"] = schema.Text(checkpoint)
	}
	return s.update(ctx, shard, u)
}

// abandon marks the shard of a lease as done that is gone from the stream.
func (s *leases) abandon(ctx context.Context, l lease) (lease, error) {
	return s.update(ctx, l.shard, leaseUpdate{
		condition: "#beat = :beat", set: "#done = :done", remove: "#owner",
		values: map[string]types.AttributeValue{":beat": schema.Number(l.heartbeat), ":done": &types.AttributeValueMemberBOOL{Value: true}},
	})
}
