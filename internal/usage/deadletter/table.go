// Package deadletter brings back records that were given up: it reads them from the stream
// again, which keeps them for 24 hours, and counts them.
package deadletter

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael/internal/schema"
	"github.com/zeroae/zael/internal/usage"
)

// A Letter names records that were given up: those of a shard from First to Last.
type Letter struct {
	ID          string // of the message or the item
	Stream      string // ARN
	Shard       string
	First, Last string // sequence numbers
	Reason      string
	Time        time.Time // when they were given up

	usage.CountingRules // of the program that gave them up; zero if the letter has none

	receipt string // of a message
}

// keepFor is how long a Table keeps letters: as long as the queue does.
const keepFor = 14 * 24 * time.Hour

// Client is what a Table uses of *dynamodb.Client.
type Client interface {
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
	TransactWriteItems(context.Context, *dynamodb.TransactWriteItemsInput, ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error)
}

// A Table keeps the letters of workers, which have no queue, in the table that they count.
type Table struct {
	client Client
	table  string
}

// NewTable returns the letters in a table.
func NewTable(c Client, table string) *Table { return &Table{c, table} }

// reasonBytes is how much of a reason is kept: some quote the record, and an item that is
// too large could never be written.
const reasonBytes = 1024

// Put stores a letter.
func (t *Table) Put(ctx context.Context, label string, l *Letter) error {
	reason := l.Reason
	if len(reason) > reasonBytes {
		reason = strings.ToValidUTF8(reason[:reasonBytes], "") + "…"
	}
	_, err := t.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(t.table),
		Key:       schema.SystemKey(schema.DeadKey + label + "#" + l.Shard + "#" + l.First),
		UpdateExpression: aws.String("SET #stream = :stream, #shard = :shard, #first = :first, #last = :last, #reason = :reason, " +
			"#windows = :windows, #days = :days, #time = :time, #ttl = :ttl"),
		ExpressionAttributeNames: map[string]string{
			"#stream": "stream", "#shard": "shard", "#first": "first", "#last": "last", "#reason": "reason",
			"#windows": "windows", "#days": "retention_days", "#time": "created_at", "#ttl": "ttl",
		},
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":stream": schema.Text(l.Stream), ":shard": schema.Text(l.Shard), ":first": schema.Text(l.First), ":last": schema.Text(l.Last), ":reason": schema.Text(reason),
			":windows": schema.Text(l.Windows), ":days": schema.Text(strconv.Itoa(l.Days)),
			":time": schema.Text(l.Time.UTC().Format(time.RFC3339)),
			":ttl":  schema.Number(l.Time.Add(keepFor).Unix()),
		},
	})
	if err != nil {
		return fmt.Errorf("storing a dead letter: %w", err)
	}
	return nil
}

// Receive returns all letters of the table.
func (t *Table) Receive(ctx context.Context) (letters []Letter, err error) {
	in := &dynamodb.QueryInput{
		TableName: aws.String(t.table), ConsistentRead: aws.Bool(true),
		KeyConditionExpression:   aws.String("#pk = :pk AND #sk BETWEEN :from AND :to"),
		ExpressionAttributeNames: map[string]string{"#pk": "PK", "#sk": "SK"},
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":pk": schema.Text(schema.Of("").System()), ":from": schema.Text(schema.DeadKey), ":to": schema.Text(schema.DeadKey + "\U0010ffff"),
		},
	}
	for {
		out, err := t.client.Query(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("reading the dead letters of the table: %w", err)
		}
		for _, it := range out.Items {
			l := Letter{
				ID: schema.TextIn(it, "SK"), Stream: schema.TextIn(it, "stream"), Shard: schema.TextIn(it, "shard"),
				First: schema.TextIn(it, "first"), Last: schema.TextIn(it, "last"), Reason: schema.TextIn(it, "reason"),
				CountingRules: usage.CountingRules{Windows: schema.TextIn(it, "windows")},
			}
			l.Days, _ = strconv.Atoi(schema.TextIn(it, "retention_days"))         // 0 means unknown
			l.Time, _ = time.Parse(time.RFC3339, schema.TextIn(it, "created_at")) // only shown
			letters = append(letters, l)
		}
		if len(out.LastEvaluatedKey) == 0 {
			return letters, nil
		}
		in.ExclusiveStartKey = out.LastEvaluatedKey
	}
}

// Delete implements Source.
func (t *Table) Delete(ctx context.Context, l *Letter) error {
	_, err := t.client.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{
		{Delete: &types.Delete{TableName: aws.String(t.table), Key: schema.SystemKey(l.ID)}},
	}})
	if err != nil {
		return fmt.Errorf("deleting a dead letter: %w", err)
	}
	return nil
}

// Release implements Source. The letter was never hidden.
func (*Table) Release(context.Context, *Letter) error { return nil }
