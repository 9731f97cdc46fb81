package worker_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/testrig/streamfake"
	"github.com/zeroae/zael/internal/trial"
	"github.com/zeroae/zael/internal/usage"
	"github.com/zeroae/zael/internal/usage/stream"
	"github.com/zeroae/zael/internal/usage/worker"
)

// A process is a worker that can be killed: its calls have no effect then.
type process struct {
	*dynamofake.Table
	fail    func(*dynamodb.UpdateItemInput) error // may fail a write
	hang    func(*dynamodb.UpdateItemInput) bool  // reports whether one is never answered
	load    func()                                // called before the leases are read
	windows []zael.Window                         // nil: hourly and daily

	dead   atomic.Bool
	beats  atomic.Int64 // writes of leases
	worker *worker.Worker
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // of Run, after ended
	log    *logs
}

func (p *process) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	if p.dead.Load() {
		return nil, errors.New("killed")
	}
	if _, ok := in.ExpressionAttributeNames["#beat"]; ok {
		p.beats.Add(1)
	}
	if p.hang != nil && p.hang(in) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if p.fail != nil {
		if err := p.fail(in); err != nil {
			return nil, err
		}
	}
	return p.Table.UpdateItem(ctx, in, opts...)
}

func (p *process) Query(ctx context.Context, in *dynamodb.QueryInput, opts ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	if p.load != nil {
		p.load()
	}
	return p.Table.Query(ctx, in, opts...)
}

// logs is the log of a worker.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

const lease = 10 * time.Second

// run starts a worker.
func run(t *testing.T, s *streamfake.Stream, p *process, once bool) {
	t.Helper()
	counter, err := usage.New(p, "fake", &usage.Config{Windows: p.windows})
	if err != nil {
		t.Fatal(err)
	}
	p.log = new(logs)
	p.worker, err = worker.New(stream.Of(s, streamfake.ARN), p, "fake", counter, &worker.Config{
		Lease: lease, Once: once, Poll: 200 * time.Millisecond, Log: slog.New(slog.NewTextHandler(p.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, p.cancel = context.WithCancel(t.Context())
	p.ended = make(chan struct{})
	go func() {
		defer close(p.ended)
		p.err = p.worker.Run(ctx)
	}()
}

// start starts a worker that runs until it is stopped or killed.
func start(t *testing.T, s *streamfake.Stream, table *dynamofake.Table) *process {
	t.Helper()
	p := &process{Table: table}
	run(t, s, p, false)
	return p
}

func (p *process) kill() {
	p.dead.Store(true)
	p.cancel()
	<-p.ended
}

// stop ends a worker gracefully.
func (p *process) stop() {
	p.cancel()
	<-p.ended
}

// once runs a worker until it has caught up.
func once(t *testing.T, s *streamfake.Stream, p *process) {
	t.Helper()
	run(t, s, p, true)
	defer p.cancel()
	<-p.ended
	if p.err != nil {
		t.Fatalf("Run: got %v, want nil; the log:\n%s", p.err, p.log.text.String())
	}
}

// used returns the hourly usage of some entities, added up.
func used(t *testing.T, table *dynamofake.Table, entities ...string) map[string]int64 {
	t.Helper()
	s, err := dynamostore.NewTrial(table, "fake", &dynamostore.Config{UsageCounted: true, CallTimeout: time.Minute}, trial.Options{VirtualTime: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close(t.Context()) }()
	got := map[string]int64{}
	for _, entity := range entities {
		for r, err := range s.Usage(t.Context(), zael.UsageQuery{Entity: entity}) {
			if err != nil {
				t.Fatal(err)
			}
			got[entity+" events"] += r.Events
			for name, n := range r.Amounts {
				got[entity+" "+name] += n
			}
		}
	}
	return got
}

func wantUsed(t *testing.T, s *streamfake.Stream, table *dynamofake.Table, entities ...string) {
	t.Helper()
	if got, want := used(t, table, entities...), s.Used(); !maps.Equal(got, want) {
		t.Errorf("usage: got %v, want %v", got, want)
	}
}
