//go:build unix

package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"

	limits "github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/usage/stream"
)

// queueServer is the part of SQS that redrive uses.
type queueServer struct {
	mu       sync.Mutex
	messages map[string]string
	hidden   map[string]bool
}

func (q *queueServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var in struct {
		QueueURL string `json:"QueueUrl"`
		Receipt  string `json:"ReceiptHandle"`
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || !strings.HasSuffix(in.QueueURL, "/dead") {
		http.Error(w, `{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"no such queue"}`, http.StatusBadRequest)
		return
	}
	switch r.Header.Get("X-Amz-Target") {
	case "AmazonSQS.ReceiveMessage":
		out := map[string][]map[string]string{}
		for id, body := range q.messages {
			if !q.hidden[id] {
				q.hidden[id] = true
				out["Messages"] = []map[string]string{{"MessageId": id, "ReceiptHandle": id, "Body": body}}
				break
			}
		}
		data, err := json.Marshal(out)
		if err != nil {
			panic(err)
		}
		_, _ = w.Write(data)
	case "AmazonSQS.DeleteMessage":
		delete(q.messages, in.Receipt)
	case "AmazonSQS.ChangeMessageVisibility":
		q.hidden[in.Receipt] = false
	default:
		http.Error(w, "{}", http.StatusBadRequest)
	}
}

// change changes the messages and returns how many are left.
func (q *queueServer) change(f func(messages map[string]string)) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	f(q.messages)
	return len(q.messages)
}

// zael runs a command on the table, as a process if it is to have more settings of AWS, and returns what
// it prints.
func (b *usageBench) zael(wantCode int, environment []string, args ...string) string {
	b.t.Helper()
	out, _ := b.run(wantCode, environment, args...)
	return out
}

func (b *usageBench) run(wantCode int, environment []string, args ...string) (out, errs string) {
	b.t.Helper()
	if len(environment) == 0 {
		return b.shop().run(wantCode, args...)
	}
	cmd := exec.CommandContext(b.t.Context(), program, args...)
	cmd.Env = b.environment(environment...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		b.t.Fatal(err)
	}
	if code := cmd.ProcessState.ExitCode(); code != wantCode {
		b.t.Errorf("zael %s: got exit code %d, want %d; it printed\n%s%s", strings.Join(args, " "), code, wantCode, &stdout, &stderr)
	}
	return stdout.String(), stderr.String()
}

// limiter returns a limiter on the table.
func (b *usageBench) limiter() *limits.Limiter {
	b.t.Helper()
	s, err := dynamostore.New(b.client, b.table, &dynamostore.Config{CallTimeout: time.Minute})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = s.Close(context.WithoutCancel(b.t.Context())) })
	l, err := limits.New(s, &limits.Config{Timeout: time.Minute})
	if err != nil {
		b.t.Fatal(err)
	}
	return l
}

// redrive reads what the function gave up from the table's stream again.
func TestRedrive(t *testing.T) {
	t.Parallel()
	b := newUsageBench(t)
	l := b.limiter()
	want := map[string]int64{}
	for i := range 60 {
		entity := fmt.Sprintf("key-%d", i%3)
		net, err := workOnce(t.Context(), l, entity)
		if err != nil {
			t.Fatal(err)
		}
		want[entity+" events"]++
		for name, n := range net {
			want[entity+" "+name] += n
		}
	}
	b.function("hourly,daily", "90")
	arn, shard, sequences := b.stream()
	message := func(first, last string) string {
		return fmt.Sprintf(`{"requestContext":{"condition":"RetryAttemptsExhausted"},"timestamp":"2026-01-13T14:05:00.123Z","DDBStreamBatchInfo":
			{"shardId":%q,"startSequenceNumber":%q,"endSequenceNumber":%q,"batchSize":9,"streamArn":%q}}`, shard, first, last, arn)
	}
	half := len(sequences) / 2
	q := &queueServer{hidden: map[string]bool{}, messages: map[string]string{
		"one": message(sequences[0], sequences[half]), "two": message(sequences[half-3], sequences[len(sequences)-1]),
		"other": `{"hello":"world"}`,
	}}
	server := httptest.NewServer(q)
	defer server.Close()
	environment, queue := []string{"AWS_ENDPOINT_URL_SQS=" + server.URL}, "https://sqs.us-east-1.amazonaws.com/123456789012/dead"

	out := b.zael(1, environment, "redrive", "--queue", queue, "--dry-run")
	if !strings.Contains(out, "would count  one") || !strings.Contains(out, "would count  two") || !strings.Contains(out, "kept  other") {
		t.Errorf("dry run: got %q, want all three messages", out)
	}
	if n := q.change(func(map[string]string) {}); n != 3 {
		t.Errorf("dry run: got %d messages left, want 3", n)
	}
	out = b.zael(1, environment, "redrive", "--queue", queue)
	if !strings.Contains(out, "kept  other") || !strings.Contains(out, "counted  one") || !strings.Contains(out, "2 messages counted, 1 left") {
		t.Errorf("got %q, want two messages counted and one kept", out)
	}
	if got := b.usage("", limits.Hourly); !maps.Equal(got, want) {
		t.Errorf("usage: got %v, want %v", got, want)
	}
	// A message that has no time is shown without one.
	if out = b.zael(1, environment, "redrive", "--queue", queue, "--json"); !strings.Contains(out, `"id": "other"`) || strings.Contains(out, `"time"`) {
		t.Errorf("got %s, want the message other without a time", out)
	}
	q.change(func(m map[string]string) {
		delete(m, "other")
		m["again"] = message(sequences[0], sequences[len(sequences)-1])
		m["gone"] = strings.ReplaceAll(message(sequences[0], sequences[1]), shard, "shardId-00000000000000000000-00000000")
	})
	out = b.zael(1, environment, "redrive", "--queue", queue, "--json")
	var all []struct {
		ID      string `json:"id"`
		Counted bool   `json:"counted"`
		Gone    bool   `json:"gone"`
		Error   string `json:"error"`
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 2 {
		t.Fatalf("got %s (%v), want two outcomes", out, err)
	}
	for _, o := range all {
		if o.Counted != (o.ID == "again") || o.Gone != (o.ID == "gone") {
			t.Errorf("got %+v, want only the message again counted, and the other lost", o)
		}
	}
	if got := b.usage("", limits.Daily); !maps.Equal(got, want) {
		t.Errorf("usage after all of it came again: got %v, want %v", got, want)
	}
	q.change(func(m map[string]string) { delete(m, "gone") })
	if out := b.zael(0, environment, "redrive", "--queue", queue); out != "no dead letters\n" {
		t.Errorf("an empty queue: got %q", out)
	}
	b.zael(1, environment, "redrive", "--queue", "https://sqs.us-east-1.amazonaws.com/123456789012/typo")
	b.zael(2, nil, "redrive", "--max", "-1")
	b.zael(2, nil, "redrive", "--queue", "dead")
	// The queue of a table at an endpoint is at the endpoint in the queue's URL, not on AWS.
	if out := b.zael(0, nil, "redrive", "--queue", server.URL+"/123456789012/dead"); out != "no dead letters\n" {
		t.Errorf("a queue that is not on AWS: got %q", out)
	}
	b.zael(2, nil, "redrive", "--store", "memory:")
	b.zael(2, nil, "redrive", "--windows", "weekly")
	b.zael(2, nil, "aggregate", "--retention", "0")
	b.zael(2, nil, "aggregate", "--lease", "1ms")
	b.zael(1, nil, "aggregate", "--store", "dynamodb://none?endpoint="+b.endpoint)
	b.zael(4, nil, "aggregate", "--timeout", "1s", "--store", "dynamodb://usage?endpoint=http://127.0.0.1:1")
}

// stream returns the ARN of the table's stream, its shard and the sequence numbers.
func (b *usageBench) stream() (arn, shard string, sequences []string) {
	b.t.Helper()
	streams := dynamodbstreams.New(dynamodbstreams.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(b.endpoint), Credentials: credentials.NewStaticCredentialsProvider("zael", "zael", ""),
	})
	s, err := stream.Open(b.t.Context(), b.client, streams, b.table)
	if err != nil {
		b.t.Fatal(err)
	}
	shards, err := s.Shards(b.t.Context())
	if err != nil || len(shards) != 1 {
		b.t.Fatalf("got the shards %v (%v), want one", shards, err)
	}
	r := s.After(shards[0].ID, "")
	for quiet := 0; quiet < 3; {
		records, _, err := r.Next(b.t.Context())
		if err != nil {
			b.t.Fatal(err)
		}
		if quiet++; len(records) > 0 {
			quiet = 0
		}
		for i := range records {
			sequences = append(sequences, records[i].Sequence)
		}
	}
	return s.ARN, shards[0].ID, sequences
}

// A table without a stream is an error that names it.
func TestUsageNeedsAStream(t *testing.T) {
	t.Parallel()
	b := newUsageBench(t)
	in := dynamostore.TableInput(b.table + "-keys")
	in.StreamSpecification = &types.StreamSpecification{StreamEnabled: aws.Bool(true), StreamViewType: types.StreamViewTypeKeysOnly}
	if _, err := b.client.CreateTable(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if out := b.shop().main("", "aggregate", "--store", "dynamodb://"+b.stack+"-keys?endpoint="+b.endpoint); out.code == 0 || !strings.Contains(out.out+out.errs, "has no stream of new and old images") {
		t.Errorf("got %+v, want the remedy named", out)
	}
}
