// Package deadletter brings back the records that were given up: it reads them
// again from the stream, which has them for 24 hours, and counts them. What was
// counted before does not count again.
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
	Stream      string // its ARN
	Shard       string
	First, Last string // sequence numbers
	Reason      string
	Time        time.Time // when they were given up

	usage.Counting // how they were to be counted; zero if the letter does not say

	receipt string // of a message
}

// keepFor is how long letters stay: as long as the queue's messages.
const keepFor = 14 * 24 * time.Hour

// Client is what a Table uses of *dynamodb.Client.
type Client interface {
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
	TransactWriteItems(context.Context, *dynamodb.TransactWriteItemsInput, ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error)
}

// A Table keeps the letters of the worker, which has no queue, in the table that
// it counts.
type Table struct {
	client Client
	table  string
}

// NewTable is the letters in a table.
func NewTable(c Client, table string) *Table { return &Table{c, table} }

// reasonBytes is how much of a reason is kept: some quote what they are about, and
// an item that is too large would never be written.
const reasonBytes = 1024

// Put keeps a letter.
func (t *Table) Put(ctx context.Context, label string, l *Letter) error {
	reason := l.Reason
	if len(reason) > reasonBytes {
		reason = strings.ToValidUTF8(reason[:reasonBytes], "") + "…"
	}
	_, err := t.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(t.table),
		Key:       letterKey(schema.DeadKey + label + "#" + l.Shard + "#" + l.First),
		UpdateExpression: aws.String("SET #stream = :stream, #shard = :shard, #first = :first, #last = :last, #reason = :reason, " +
			"#windows = :windows, #days = :days, #time = :time, #ttl = :ttl"),
		ExpressionAttributeNames: map[string]string{
			"#stream": "stream", "#shard": "shard", "#first": "first", "#last": "last", "#reason": "reason",
			"#windows": "windows", "#days": "retention_days", "#time": "created_at", "#ttl": "ttl",
		},
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":stream": text(l.Stream), ":shard": text(l.Shard), ":first": text(l.First), ":last": text(l.Last), ":reason": text(reason),
			":windows": text(l.Windows), ":days": text(strconv.Itoa(l.Days)),
			":time": text(l.Time.UTC().Format(time.RFC3339)),
			":ttl":  &types.AttributeValueMemberN{Value: fmt.Sprint(l.Time.Add(keepFor).Unix())},
		},
	})
	if err != nil {
		return fmt.Errorf("keeping a dead letter: %w", err)
	}
	return nil
}

// Receive is all letters that there are.
func (t *Table) Receive(ctx context.Context) (letters []Letter, err error) {
	in := &dynamodb.QueryInput{
		TableName: aws.String(t.table), ConsistentRead: aws.Bool(true),
		KeyConditionExpression:   aws.String("#pk = :pk AND #sk BETWEEN :from AND :to"),
		ExpressionAttributeNames: map[string]string{"#pk": "PK", "#sk": "SK"},
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":pk": text(schema.Of("").System()), ":from": text(schema.DeadKey), ":to": text(schema.DeadKey + "\U0010ffff"),
		},
	}
	for {
		out, err := t.client.Query(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("reading the dead letters of the table: %w", err)
		}
		for _, it := range out.Items {
			l := Letter{
				ID: textIn(it, "SK"), Stream: textIn(it, "stream"), Shard: textIn(it, "shard"),
				First: textIn(it, "first"), Last: textIn(it, "last"), Reason: textIn(it, "reason"),
				Counting: usage.Counting{Windows: textIn(it, "windows")},
			}
			l.Days, _ = strconv.Atoi(textIn(it, "retention_days"))         // 0 is not known
			l.Time, _ = time.Parse(time.RFC3339, textIn(it, "created_at")) // for the reader's eyes
			letters = append(letters, l)
		}
		if len(out.LastEvaluatedKey) == 0 {
			return letters, nil
		}
		in.ExclusiveStartKey = out.LastEvaluatedKey
	}
}

// Done deletes a letter.
func (t *Table) Done(ctx context.Context, l *Letter) error {
	_, err := t.client.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{
		{Delete: &types.Delete{TableName: aws.String(t.table), Key: letterKey(l.ID)}},
	}})
	if err != nil {
		return fmt.Errorf("deleting a dead letter: %w", err)
	}
	return nil
}

// Keep leaves a letter for another time: it is where it was.
func (*Table) Keep(context.Context, *Letter) error { return nil }

func letterKey(sk string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{"PK": text(schema.Of("").System()), "SK": text(sk)}
}

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func textIn(item map[string]types.AttributeValue, name string) string {
	if v, ok := item[name].(*types.AttributeValueMemberS); ok {
		return v.Value
	}
	return ""
}
