package aggregator_test

import (
	"archive/zip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamotest"
	"github.com/zeroae/zael/internal/usage/stream"
)

var engine dynamotest.Engine

func TestMain(m *testing.M) { engine.Main(m) }

// TestBootstrap runs the function's program as make builds it.
func TestBootstrap(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("links the function, most of whose tests need an engine")
	}
	path := bootstrap(t)
	for name, test := range map[string]func(*testing.T, string){
		"counts":      testFunction,
		"bad records": testBadRecords,
		"timeout":     testTimeOut,
		"environment": testEnvironment,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, path)
		})
	}
}

// A bench is a table with a stream and clients of both.
type bench struct {
	endpoint, table string
	tables          *dynamodb.Client
	streams         *dynamodbstreams.Client
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{endpoint: engine.Endpoint(t), table: fmt.Sprintf("ZAEL-test-%d", time.Now().UnixNano())}
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	t.Cleanup(transport.CloseIdleConnections)
	config := aws.Config{
		Region: "us-east-1", BaseEndpoint: aws.String(b.endpoint), HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider("zael", "zael", ""),
	}
	b.tables, b.streams = dynamodb.NewFromConfig(config), dynamodbstreams.NewFromConfig(config)
	if err := dynamostore.CreateTable(t.Context(), b.tables, b.table); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) store(t *testing.T) *dynamostore.Store {
	t.Helper()
	s, err := dynamostore.New(b.tables, b.table, &dynamostore.Config{UsageCounted: true, CallTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.WithoutCancel(t.Context())) })
	return s
}

// work makes some acquires, settles some of them and rolls others back, and returns what
// was used: "entity name" and "entity events".
func (b *bench) work(t *testing.T, acquires int) map[string]int64 {
	t.Helper()
	l, err := zael.New(b.store(t), &zael.Config{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	const callers = 8
	used := map[string]int64{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for i := range acquires / callers {
				entity := fmt.Sprintf("e%d", (caller+i)%6)
				net, err := oneLease(t.Context(), l, entity)
				if err != nil {
					t.Errorf("working: %v", err)
					return
				}
				mu.Lock()
				used[entity+" events"]++
				for name, n := range net {
					used[entity+" "+name] += n
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return used
}

func oneLease(ctx context.Context, l *zael.Limiter, entity string) (zael.Amounts, error) {
	net := zael.Amounts{"rpm": 1, "tpm": 1 + rand.Int64N(500)}
	lease, err := l.Acquire(ctx, zael.Request{
		Entity: entity, Resource: "gpt-4", Consume: net,
		Limits: []zael.Limit{zael.PerMinute("rpm", 1_000_000), zael.PerMinute("tpm", 100_000_000)},
	})
	if err != nil {
		return nil, err
	}
	net = maps.Clone(net)
	switch rand.IntN(6) {
	case 0:
		net = zael.Amounts{}
		return net, lease.Rollback(ctx)
	case 1, 2:
		net["tpm"] = 1 + rand.Int64N(1000)
		if err := lease.Settle(zael.Amounts{"tpm": net["tpm"]}); err != nil {
			return nil, err
		}
	}
	return net, lease.Commit(ctx)
}

// usage returns the usage of all windows of a length, added up.
func (b *bench) usage(t *testing.T, window zael.Window) map[string]int64 {
	t.Helper()
	got := map[string]int64{}
	for r, err := range b.store(t).Usage(t.Context(), zael.UsageQuery{Resource: "gpt-4", Window: window, From: time.Now().AddDate(0, 0, -2)}) {
		if err != nil {
			t.Fatal(err)
		}
		got[r.Entity+" events"] += r.Events
		for name, n := range r.Amounts {
			got[r.Entity+" "+name] += n
		}
	}
	return got
}

func (b *bench) wantUsage(t *testing.T, want map[string]int64) {
	t.Helper()
	for _, window := range []zael.Window{zael.Hourly, zael.Daily} {
		if got := b.usage(t, window); !maps.Equal(got, want) {
			t.Errorf("%s usage: got %v, want %v", window, got, want)
		}
	}
}

// A recording client keeps the records that it reads.
type recording struct {
	*dynamodbstreams.Client
	records []types.Record
}

func (r *recording) GetRecords(ctx context.Context, in *dynamodbstreams.GetRecordsInput, opts ...func(*dynamodbstreams.Options)) (*dynamodbstreams.GetRecordsOutput, error) {
	out, err := r.Client.GetRecords(ctx, in, opts...)
	if err == nil {
		r.records = append(r.records, out.Records...)
	}
	return out, err
}

// records returns all records of the stream, as the function gets them.
func (b *bench) records(t *testing.T) []json.RawMessage {
	t.Helper()
	client := &recording{Client: b.streams}
	s, err := stream.Open(t.Context(), b.tables, client, b.table)
	if err != nil {
		t.Fatal(err)
	}
	shards, err := s.Shards(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, shard := range shards {
		r := s.After(shard.ID, "")
		for quiet := 0; quiet < 3; {
			records, end, err := r.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if quiet++; len(records) > 0 {
				quiet = 0
			}
			if end {
				break
			}
		}
	}
	var all []json.RawMessage
	for i := range client.records {
		all = append(all, eventOf(t, &client.records[i]))
	}
	return all
}

// eventOf returns a record as Lambda sends it.
func eventOf(t *testing.T, r *types.Record) json.RawMessage {
	t.Helper()
	d := map[string]any{
		"ApproximateCreationDateTime": float64(r.Dynamodb.ApproximateCreationDateTime.Unix()),
		"Keys":                        attributes(t, r.Dynamodb.Keys), "SequenceNumber": r.Dynamodb.SequenceNumber,
		"SizeBytes": r.Dynamodb.SizeBytes, "StreamViewType": r.Dynamodb.StreamViewType,
	}
	if r.Dynamodb.NewImage != nil {
		d["NewImage"] = attributes(t, r.Dynamodb.NewImage)
	}
	if r.Dynamodb.OldImage != nil {
		d["OldImage"] = attributes(t, r.Dynamodb.OldImage)
	}
	data, err := json.Marshal(map[string]any{
		"eventID": r.EventID, "eventName": r.EventName, "eventVersion": "1.1", "eventSource": "aws:dynamodb",
		"awsRegion": "us-east-1", "dynamodb": d,
	})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func attributes(t *testing.T, item map[string]types.AttributeValue) map[string]any {
	t.Helper()
	m := map[string]any{}
	for name, v := range item {
		switch v := v.(type) {
		case *types.AttributeValueMemberS:
			m[name] = map[string]string{"S": v.Value}
		case *types.AttributeValueMemberN:
			m[name] = map[string]string{"N": v.Value}
		case *types.AttributeValueMemberBOOL:
			m[name] = map[string]bool{"BOOL": v.Value}
		default:
			t.Fatalf("attribute %s is a %T", name, v)
		}
	}
	return m
}

// bootstrap builds the code of the function and unzips it, as Lambda does.
func bootstrap(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	zipped := filepath.Join(dir, "code.zip")
	pack := exec.CommandContext(t.Context(), "go", "run", "github.com/zeroae/zael/cmd/internal/bootstrap/pack", "-arch", runtime.GOARCH, "-o", zipped)
	pack.Stderr = os.Stderr
	if err := pack.Run(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(zipped)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 8<<20 {
		t.Errorf("got a zip of %d bytes, want at most 8 MB", info.Size())
	}
	r, err := zip.OpenReader(zipped)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	in, err := r.File[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	program, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, r.File[0].Name)
	if err := os.WriteFile(path, program, r.File[0].Mode()); err != nil {
		t.Fatal(err)
	}
	return path
}
