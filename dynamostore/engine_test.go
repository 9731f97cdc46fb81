package dynamostore_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/testrig/dynamotest"
	"github.com/zeroae/zael/internal/trial"
	"github.com/zeroae/zael/storetest"
)

var engine dynamotest.Engine

func TestMain(m *testing.M) {
	if table := os.Getenv(onceVariable); table != "" {
		if err := serveOnce(context.Background(), table); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if text := os.Getenv(workVariable); text != "" {
		if err := working(context.Background(), text); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	engine.Main(m)
}

// A transport counts requests, and says of each when it was sent.
type transport struct {
	http.Transport
	requests atomic.Int64
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	t.requests.Add(1)
	return t.Transport.RoundTrip(r)
}

// newClient is a client of the engine.
func newClient(tb testing.TB) (*dynamodb.Client, *transport) {
	tb.Helper()
	c, t := clientOf(engine.Endpoint(tb))
	tb.Cleanup(t.CloseIdleConnections)
	return c, t
}

func clientOf(endpoint string) (*dynamodb.Client, *transport) {
	t := &transport{Transport: http.Transport{MaxIdleConns: 300, MaxIdleConnsPerHost: 300}}
	return dynamodb.New(dynamodb.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(endpoint), HTTPClient: &http.Client{Transport: t},
		Credentials: credentials.NewStaticCredentialsProvider("zael", "zael", ""),
	}), t
}

var tables atomic.Int64

func newTable(tb testing.TB, c *dynamodb.Client) string {
	tb.Helper()
	table := fmt.Sprintf("ZAEL-test-%d-%d", time.Now().UnixNano(), tables.Add(1))
	if err := dynamostore.CreateTable(tb.Context(), streamless{c}, table); err != nil {
		tb.Fatal(err)
	}
	return table
}

// A streamless client makes tables without the stream, which no test here reads: DynamoDB
// Local takes a third of its time to write it, and the longer the more is in it.
type streamless struct{ *dynamodb.Client }

func (c streamless) CreateTable(ctx context.Context, in *dynamodb.CreateTableInput, o ...func(*dynamodb.Options)) (*dynamodb.CreateTableOutput, error) {
	in.StreamSpecification = nil
	return c.Client.CreateTable(ctx, in, o...)
}

// opened closes a store at the end of the test. The store does not list the resource of
// most tests.
func opened(tb testing.TB, s *dynamostore.Store, err error) *dynamostore.Store {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	s.KnowResource("gpt-4") // listing it would be one more call, at no certain time
	tb.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(tb.Context())); err != nil {
			tb.Errorf("Close: got %v, want nil", err)
		}
	})
	return s
}

// roles are those that every store here has.
func roles(more ...storetest.Role) []storetest.Role {
	return append(more, storetest.Kinds, storetest.EntityStore, storetest.LimitStore, storetest.AdminStore, storetest.OnceStore, storetest.SlotStore, storetest.CapacityReader, storetest.ListStore, storetest.AuditStore)
}

// The suite on a table in memory: the checks of BucketStore twice, with and without TakeLocal and
// AdjustLocal before each call; with -short once, as a Limiter asks.
func TestStoreOnFake(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T) *dynamostore.Store {
		t.Helper()
		s, err := dynamostore.NewTrial(dynamofake.New(), "fake", patient(), trial.Options{VirtualTime: true})
		return opened(t, s, err)
	}
	if testing.Short() {
		storetest.Run(t, func(t *testing.T) zael.Store { t.Helper(); return askedLocally(start(t)) }, roles()...)
		return
	}
	storetest.Run(t, func(t *testing.T) zael.Store { t.Helper(); return start(t) }, roles(storetest.LocalStore)...)
}

// The suite on the engine, in one table with a namespace for each check: each check once, as a
// Limiter asks.
func TestStore(t *testing.T) {
	t.Parallel()
	c, _ := newClient(t)
	table := newTable(t, c)
	var n atomic.Int64
	storetest.Run(t, func(t *testing.T) zael.Store {
		t.Helper()
		s, err := dynamostore.NewTrial(c, table, &dynamostore.Config{Namespace: fmt.Sprintf("ns%d", n.Add(1)), CallTimeout: time.Minute}, trial.Options{VirtualTime: true})
		return askedLocally(opened(t, s, err))
	}, roles()...)
}

func askedLocally(s *dynamostore.Store) localFirst { return localFirst{s, s, s, s, s, s, s, s, s} }

// A localFirst is a store whose Take and Adjust ask locally first. It is no LocalStore.
type localFirst struct {
	zael.EntityStore
	zael.LimitStore
	zael.AdminStore
	zael.OnceStore
	zael.CapacityReader
	zael.ListStore
	zael.SlotStore
	zael.AuditStore
	store *dynamostore.Store
}

func (s localFirst) Take(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
	if at, answered, err := s.store.TakeLocal(now, maxWait, debits); answered {
		return at, err
	}
	return s.store.Take(ctx, now, maxWait, debits)
}

func (s localFirst) Adjust(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
	if at, answered, err := s.store.AdjustLocal(now, debits); answered {
		return at, err
	}
	return s.store.Adjust(ctx, now, debits)
}

func (s localFirst) Buckets(ctx context.Context, now time.Time, keys []zael.Key) (time.Time, []zael.Bucket, error) {
	return s.store.Buckets(ctx, now, keys)
}

// patient lets the calls of a store take as long as they do on a busy machine.
func patient() *dynamostore.Config { return &dynamostore.Config{CallTimeout: time.Minute} }

var t0 = time.Date(2026, 1, 13, 14, 0, 0, 0, time.UTC)

func define(burst, amount int64, period time.Duration) bucket.Definition {
	return bucket.Definition{Burst: burst, Amount: amount, Period: period, Capacity: min(burst, amount)}
}

func ask(name string, d bucket.Definition, n int64) zael.Charge {
	return zael.Charge{Name: name, Definition: d, Amount: n}
}

func debit(entity string, charges ...zael.Charge) zael.Debit {
	return zael.Debit{Key: zael.Key{Entity: entity, Resource: "gpt-4"}, Charges: charges}
}

func back(c zael.Charge, n int64) zael.Charge {
	c.Amount = -n
	return c
}

func take(t *testing.T, s zael.Store, after time.Duration, want error, debits ...zael.Debit) {
	t.Helper()
	if _, err := s.Take(t.Context(), t0.Add(after), 0, debits); !errors.Is(err, want) {
		t.Fatalf("Take at %v: got %v, want %v", after, err, want)
	}
}

// adjust adjusts at t0.
func adjust(t *testing.T, s zael.Store, debits ...zael.Debit) {
	t.Helper()
	if _, err := s.Adjust(t.Context(), t0, debits); err != nil {
		t.Fatalf("Adjust: got %v, want nil", err)
	}
}

// state is a limit as the store has it.
func state(t *testing.T, s zael.Store, entity, name string) bucket.State {
	t.Helper()
	_, got, err := s.Buckets(t.Context(), t0, []zael.Key{{Entity: entity, Resource: "gpt-4"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range got[0].Limits {
		if l.Name == name {
			return l.State
		}
	}
	return bucket.State{}
}

func left(t *testing.T, s zael.Store, after time.Duration, entity, name string, want int64) {
	t.Helper()
	at, err := bucket.At(t0.Add(after))
	if err != nil {
		t.Fatal(err)
	}
	if got := state(t, s, entity, name).Available(at); got != want {
		t.Errorf("left of %s of %s at %v: got %d, want %d", name, entity, after, got, want)
	}
}
