package deadletter_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/testrig/streamfake"
	"github.com/zeroae/zael/internal/trial"
	"github.com/zeroae/zael/internal/usage"
	"github.com/zeroae/zael/internal/usage/deadletter"
	"github.com/zeroae/zael/internal/usage/stream"
)

// A queue is an SQS queue in memory. A message that is received stays hidden until it is
// released.
type queue struct {
	mu       sync.Mutex
	messages []types.Message
	hidden   map[string]bool
}

func (q *queue) put(body string) {
	id := fmt.Sprintf("m%d", len(q.messages))
	q.messages = append(q.messages, types.Message{MessageId: aws.String(id), ReceiptHandle: aws.String("receipt " + id), Body: aws.String(body)})
}

func (q *queue) left() (bodies []string) {
	for _, m := range q.messages {
		if q.hidden[*m.ReceiptHandle] {
			bodies = append(bodies, "hidden")
		}
		bodies = append(bodies, *m.MessageId)
	}
	return bodies
}

func (q *queue) ReceiveMessage(_ context.Context, in *sqs.ReceiveMessageInput, _ ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := &sqs.ReceiveMessageOutput{}
	for _, m := range q.messages {
		if !q.hidden[*m.ReceiptHandle] && len(out.Messages) < min(2, int(in.MaxNumberOfMessages)) { // few at a time
			q.hidden[*m.ReceiptHandle] = true
			out.Messages = append(out.Messages, m)
		}
	}
	return out, nil
}

func (q *queue) DeleteMessage(_ context.Context, in *sqs.DeleteMessageInput, _ ...func(*sqs.Options)) (*sqs.DeleteMessageOutput, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.messages = slices.DeleteFunc(q.messages, func(m types.Message) bool { return *m.ReceiptHandle == *in.ReceiptHandle })
	return &sqs.DeleteMessageOutput{}, nil
}

func (q *queue) ChangeMessageVisibility(_ context.Context, in *sqs.ChangeMessageVisibilityInput, _ ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityOutput, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.hidden[*in.ReceiptHandle] = false
	return &sqs.ChangeMessageVisibilityOutput{}, nil
}

// A bench is a stream, the table that is counted and a dead letter queue.
type bench struct {
	t      *testing.T
	stream *streamfake.Stream
	table  *dynamofake.Table
	queue  *queue
	fails  bool // the table
	seqs   []string
}

func (b *bench) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	if b.fails {
		return nil, errors.New("the table is away")
	}
	return b.table.UpdateItem(ctx, in, opts...)
}

func newBench(t *testing.T, takes int) *bench {
	t.Helper()
	b := &bench{t: t, stream: streamfake.New("a"), table: dynamofake.New(), queue: &queue{hidden: map[string]bool{}}}
	at := time.Date(2026, 1, 13, 14, 0, 0, 0, time.UTC)
	for i := range takes {
		b.seqs = append(b.seqs, b.stream.Take("a", []string{"e0", "e1"}[i%2], at, int64(i+1)))
	}
	return b
}

// dies queues the message of a batch that Lambda has given up.
func (b *bench) dies(from, to int) {
	b.queue.put(fmt.Sprintf(`{"requestContext":{"requestId":"r","functionArn":"arn:aws:lambda:us-east-1:123456789012:function:ZAEL-fake",
		"condition":"RetryAttemptsExhausted","approximateInvokeCount":4},"responseContext":{"statusCode":200,"executedVersion":"$LATEST"},
		"version":"1.0","timestamp":"2026-01-13T14:05:00.123Z","DDBStreamBatchInfo":{"shardId":"a","startSequenceNumber":%q,"endSequenceNumber":%q,
		"approximateArrivalOfFirstRecord":"2026-01-13T14:00:00Z","approximateArrivalOfLastRecord":"2026-01-13T14:00:00Z","batchSize":%d,"streamArn":%q}}`,
		b.seqs[from], b.seqs[to], to-from+1, streamfake.ARN))
}

func (b *bench) counter() *usage.Counter {
	b.t.Helper()
	c, err := usage.New(b, "fake", nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

// count counts a part of the stream, as the function does: records whose partition key ends with only.
func (b *bench) count(from, to int, only string) {
	b.t.Helper()
	reader := stream.Of(b.stream, streamfake.ARN).From("a", b.seqs[from])
	var batch []usage.Record
	for n := to - from + 1; n > 0; {
		records, _, err := reader.Next(b.t.Context())
		if err != nil {
			b.t.Fatal(err)
		}
		for i := range records[:min(n, len(records))] {
			n--
			if r := records[i]; strings.HasSuffix(r.PK, only) {
				batch = append(batch, r)
			}
		}
	}
	if r := b.counter().Count(b.t.Context(), batch); len(r.Failures) > 0 {
		b.t.Fatalf("counting: got %+v, want no failures", r)
	}
}

// redriver returns a Redrive for a table with a function.
func (b *bench) redriver() *deadletter.Redrive {
	return &deadletter.Redrive{
		NewCounter: func(how usage.CountingRules) (*usage.Counter, error) {
			config, err := how.Config()
			if err != nil {
				return nil, err
			}
			return usage.New(b, "fake", &config)
		},
		FunctionRules: usage.CountingRules{Windows: "hourly,daily", Days: 90},
		Table:         "fake", Stream: func(arn string) *stream.Stream { return stream.Of(b.stream, arn) },
	}
}

// redrive redrives the queue and returns the outcomes.
func (b *bench) redrive(most int, dry bool) []deadletter.Outcome {
	b.t.Helper()
	var mu sync.Mutex
	var all []deadletter.Outcome
	d := b.redriver()
	d.DryRun = dry
	err := d.Run(b.t.Context(), deadletter.NewQueue(b.queue, "https://sqs/q"), most, func(o deadletter.Outcome) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, o)
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return all
}

func (b *bench) used() map[string]int64 {
	b.t.Helper()
	s, err := dynamostore.NewTrial(b.table, "fake", &dynamostore.Config{UsageCounted: true, CallTimeout: time.Minute}, trial.Options{VirtualTime: true})
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = s.Close(b.t.Context()) }()
	got := map[string]int64{}
	for _, entity := range []string{"e0", "e1"} {
		for r, err := range s.Usage(b.t.Context(), zael.UsageQuery{Entity: entity}) {
			if err != nil {
				b.t.Fatal(err)
			}
			got[entity+" events"] += r.Events
			got[entity+" rpm"] += r.Amounts["rpm"]
		}
	}
	return got
}

func (b *bench) wantAll() {
	b.t.Helper()
	if got, want := b.used(), b.stream.Used(); !maps.Equal(got, want) {
		b.t.Errorf("usage: got %v, want %v", got, want)
	}
}

// A batch had partly succeeded, and newer ones completely: each record counts once, however
// often a message is redriven, and by several redrives at once.
func TestRedriveCountsOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, 30)
	b.count(0, 4, "")
	b.count(5, 9, "e0") // of this batch only one entity's
	b.dies(5, 9)
	b.count(10, 14, "")
	b.dies(15, 20) // of this one nothing
	b.count(21, 26, "")
	b.count(27, 29, "")
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { b.redrive(0, false) })
	}
	wg.Wait()
	b.wantAll()
	if left := b.queue.left(); len(left) > 0 {
		t.Errorf("got the messages %v left, want none", left)
	}
	// Queues may deliver a message again.
	b.dies(5, 9)
	b.dies(0, 29)
	for _, o := range b.redrive(0, false) {
		if o.Err != nil {
			t.Errorf("redriven again: got %v, want nil", o.Err)
		}
	}
	b.wantAll()
}

// Messages whose records cannot be counted stay, with a reason.
func TestRedriveKeeps(t *testing.T) {
	t.Parallel()
	b := newBench(t, 30)
	b.fails = true
	b.dies(0, 9)
	if o := b.redrive(0, false); len(o) != 1 || o[0].Err == nil || !strings.Contains(o[0].Err.Error(), "the table is away") {
		t.Errorf("with a table that fails: got %+v, want its error", o)
	}
	if got := b.queue.left(); !slices.Equal(got, []string{"m0"}) {
		t.Errorf("with a table that fails: got the messages %v, want m0, available at once", got)
	}
	b.fails = false

	b.queue.put("hello")
	b.queue.put(`{"requestContext":{}}`)
	b.queue.put(`{"DDBStreamBatchInfo":{"shardId":"a","startSequenceNumber":"1","endSequenceNumber":"2","streamArn":"arn:aws:dynamodb:us-east-1:123456789012:table/fake2/stream/x"}}`)
	outcomes := b.redrive(0, false)
	if len(outcomes) != 4 || outcomes[0].Err != nil {
		t.Fatalf("got %+v, want four outcomes, the first of them good", outcomes)
	}
	for _, o := range outcomes[1:] {
		if !errors.Is(o.Err, deadletter.ErrForeign) {
			t.Errorf("%s: got %v, want ErrForeign", o.Letter.ID, o.Err)
		}
	}
	if got := b.queue.left(); !slices.Equal(got, []string{"m1", "m2", "m3"}) {
		t.Errorf("got the messages %v, want the foreign ones", got)
	}
}

// Records that the stream has lost are reported; those that are left count, and the message
// stays.
func TestRedriveTrimmed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 20)
		b.dies(0, 9)
		b.stream.Trim("a", 6)
		for range 2 {
			o := b.redrive(0, false)
			if len(o) != 1 || !errors.Is(o[0].Err, stream.ErrTrimmed) || o[0].Records != 4 {
				t.Errorf("trimmed: got %+v, want ErrTrimmed and 4 records", o)
			}
		}
		if got, want := b.used(), map[string]int64{"e0 events": 2, "e0 rpm": 7 + 9, "e1 events": 2, "e1 rpm": 8 + 10}; !maps.Equal(got, want) {
			t.Errorf("usage: got %v, want %v", got, want)
		}
		b.stream.Trim("a", 12) // more than the message names
		if o := b.redrive(0, false); len(o) != 1 || !errors.Is(o[0].Err, stream.ErrTrimmed) || o[0].Records != 0 {
			t.Errorf("trimmed beyond the message: got %+v, want ErrTrimmed and no records", o)
		}
		b.stream.Trim("a", 20) // everything
		if o := b.redrive(0, false); len(o) != 1 || !errors.Is(o[0].Err, stream.ErrTrimmed) {
			t.Errorf("trimmed wholly: got %+v, want ErrTrimmed", o)
		}
		b.stream.Drop("a")
		if o := b.redrive(0, false); len(o) != 1 || !errors.Is(o[0].Err, stream.ErrTrimmed) {
			t.Errorf("a shard that is gone: got %+v, want ErrTrimmed", o)
		}
		if got := b.queue.left(); !slices.Equal(got, []string{"m0"}) {
			t.Errorf("got the messages %v, want m0 kept", got)
		}
	})
}

func TestRedriveDryAndMost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 30)
		b.dies(0, 9)
		b.dies(10, 19)
		b.dies(20, 29)
		if o := b.redrive(0, true); len(o) != 3 || o[0].Records != 10 || o[0].Updates != 0 || o[0].Letter.Reason != "RetryAttemptsExhausted" {
			t.Errorf("dry: got %+v, want three of 10 records and no updates", o)
		}
		if got := b.used(); len(got) != 0 {
			t.Errorf("after a dry run: got %v, want no usage", got)
		}
		if o := b.redrive(1, false); len(o) != 1 {
			t.Errorf("at most one: got %+v", o)
		}
		if got := b.queue.left(); !slices.Equal(got, []string{"m1", "m2"}) {
			t.Errorf("got the messages %v, want the other two, available at once", got)
		}
		b.redrive(0, false)
		b.wantAll()
	})
}
