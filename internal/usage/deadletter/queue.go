package deadletter

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// queueClient is what a Queue uses of *sqs.Client.
type queueClient interface {
	ReceiveMessage(context.Context, *sqs.ReceiveMessageInput, ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error)
	DeleteMessage(context.Context, *sqs.DeleteMessageInput, ...func(*sqs.Options)) (*sqs.DeleteMessageOutput, error)
	ChangeMessageVisibility(context.Context, *sqs.ChangeMessageVisibilityInput, ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityOutput, error)
}

// A Queue has the letters that Lambda writes about batches of the function. They name the
// records that failed and do not contain them.
type Queue struct {
	client queueClient
	url    string
}

// NewQueue returns the letters in a queue.
func NewQueue(c queueClient, url string) *Queue { return &Queue{c, url} }

const (
	// hideFor is how long a message is hidden from others: longer than it takes to count
	// the batches of all messages of one response.
	hideFor     = 10 * time.Minute
	maxMessages = 10 // in one response
)

// A message is what Lambda writes about a batch that it gives up.
type message struct {
	RequestContext struct {
		Condition string `json:"condition"` // why
	} `json:"requestContext"`
	Timestamp time.Time `json:"timestamp"`
	Batch     struct {
		Shard  string `json:"shardId"`
		First  string `json:"startSequenceNumber"`
		Last   string `json:"endSequenceNumber"`
		Stream string `json:"streamArn"`
	} `json:"DDBStreamBatchInfo"`
}

// Receive implements Source. It does not return messages that others have received. A
// message that is not about a batch becomes a letter without a Stream.
func (q *Queue) Receive(ctx context.Context) (letters []Letter, err error) {
	out, err := q.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl: aws.String(q.url), MaxNumberOfMessages: maxMessages, VisibilityTimeout: int32(hideFor / time.Second), WaitTimeSeconds: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("reading the dead letters of %s: %w", q.url, err)
	}
	for i := range out.Messages {
		letters = append(letters, letterOf(&out.Messages[i]))
	}
	return letters, nil
}

func letterOf(m *types.Message) Letter {
	l := Letter{ID: aws.ToString(m.MessageId), receipt: aws.ToString(m.ReceiptHandle)}
	var in message
	if err := json.Unmarshal([]byte(aws.ToString(m.Body)), &in); err != nil {
		l.Reason = "it is not JSON: " + err.Error()
		return l
	}
	b := in.Batch
	if b.Stream == "" || b.Shard == "" || b.First == "" || b.Last == "" {
		l.Reason = "it names no records of a table's stream"
		return l
	}
	l.Stream, l.Shard, l.First, l.Last, l.Reason, l.Time = b.Stream, b.Shard, b.First, b.Last, in.RequestContext.Condition, in.Timestamp
	return l
}

// Delete implements Source.
func (q *Queue) Delete(ctx context.Context, l *Letter) error {
	_, err := q.client.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: aws.String(q.url), ReceiptHandle: aws.String(l.receipt)})
	if err != nil {
		return fmt.Errorf("deleting the message %s: %w", l.ID, err)
	}
	return nil
}

// Release implements Source. Others can receive the letter at once.
func (q *Queue) Release(ctx context.Context, l *Letter) error {
	_, err := q.client.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{
		QueueUrl: aws.String(q.url), ReceiptHandle: aws.String(l.receipt), VisibilityTimeout: 0,
	})
	if err != nil {
		return fmt.Errorf("releasing the message %s: %w", l.ID, err)
	}
	return nil
}
