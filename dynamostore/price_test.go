package dynamostore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/trial"
)

// A price is what requests cost by what the engine says in its answers. Of a
// condition that failed it says nothing: AWS bills a write unit.
type price struct {
	requests, failed    int // conditions that failed are among the requests
	table, index, reads float64
}

// A till is a transport that adds up prices on the wire.
type till struct {
	http.Transport
	mu  sync.Mutex
	sum price
}

type consumed struct {
	Table   units            `json:"Table"`
	Indexes map[string]units `json:"GlobalSecondaryIndexes"`
	Units   float64          `json:"CapacityUnits"`
}

type units struct {
	Units float64 `json:"CapacityUnits"`
}

func (p *till) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := p.Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	var one struct {
		Consumed consumed `json:"ConsumedCapacity"`
	}
	_ = json.Unmarshal(body, &one) // of a batch it is a list: not asked for
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sum.requests++
	if strings.Contains(string(body), "ConditionalCheckFailed") {
		p.sum.failed++
	}
	if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".UpdateItem") {
		p.sum.table += one.Consumed.Table.Units
		for _, u := range one.Consumed.Indexes {
			p.sum.index += u.Units
		}
	} else {
		p.sum.reads += one.Consumed.Units
	}
	return resp, nil
}

func (p *till) take() price {
	p.mu.Lock()
	defer p.mu.Unlock()
	sum := p.sum
	p.sum = price{}
	return sum
}

// What a Limiter's calls cost, from the wire.
func TestPrices(t *testing.T) {
	t.Parallel()
	plain, _ := newClient(t)
	table := newTable(t, plain)
	wire := new(till)
	t.Cleanup(wire.CloseIdleConnections)
	c := dynamodb.New(dynamodb.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(engine.Endpoint(t)), HTTPClient: &http.Client{Transport: wire},
		Credentials: credentials.NewStaticCredentialsProvider("zael", "zael", ""),
	})
	s, err := dynamostore.NewTrial(c, table, &dynamostore.Config{CallTimeout: time.Minute}, trial.Options{CountUnits: true})
	opened(t, s, err)
	l, err := zael.New(s, &zael.Config{Timeout: time.Minute, ConfigTTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	names := []string{"rpd", "tpd", "ipd", "opd"}
	request := func(entity string, limits int, n int64) zael.Request {
		req := zael.Request{Entity: entity, Resource: "gpt-4", Consume: zael.Amounts{}}
		for _, name := range names[:limits] {
			req.Limits = append(req.Limits, zael.PerDay(name, 100))
			req.Consume[name] = n
		}
		return req
	}
	cascade := func(req zael.Request) zael.Request {
		req.Cascade = true
		return req
	}
	stored := func(req zael.Request) zael.Request {
		req.UseStoredLimits, req.Limits = true, nil
		return req
	}
	done := func(context.Context, *zael.Lease) error { return nil }
	settles := func(to int64) func(context.Context, *zael.Lease) error {
		return func(_ context.Context, lease *zael.Lease) error { return lease.Settle(zael.Amounts{"rpd": to}) }
	}
	errFailed := errors.New("the work failed")
	fails := func(context.Context, *zael.Lease) error { return errFailed }

	if err := l.SetLimits(ctx, zael.Scope{}, []zael.Limit{zael.PerDay("rpd", 100)}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.CreateEntity(ctx, zael.Entity{ID: "child", ParentID: "parent"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Buckets(ctx, time.Now(), nil); err != nil { // it knows the time then
		t.Fatal(err)
	}
	wire.take()
	for _, tt := range []struct {
		what string
		req  zael.Request
		work func(context.Context, *zael.Lease) error
		want error
		cost price
	}{
		// A Limiter reads once in ConfigTTL whether there are settings.
		{"first use, and of the limiter", request("a", 1, 1), done, nil, price{2, 0, 1, 1, 0}},
		{"hit", request("a", 1, 1), done, nil, price{1, 0, 1, 0, 0}},
		{"settle to what was taken", request("a", 1, 2), settles(2), nil, price{1, 0, 1, 0, 0}},
		{"settle to more", request("a", 1, 2), settles(5), nil, price{2, 0, 2, 0, 0}},
		{"settle to less", request("a", 1, 5), settles(1), nil, price{2, 0, 2, 0, 0}},
		{"rollback", request("a", 1, 5), fails, errFailed, price{2, 0, 2, 0, 0}},
		{"refusal", request("a", 1, 100), done, zael.ErrExceeded, price{1, 1, 0, 0, 0}},
		{"first use of two limits", request("b", 2, 1), done, nil, price{1, 0, 1, 1, 0}},
		{"two limits", request("b", 2, 1), done, nil, price{1, 0, 1, 0, 0}},
		{"two limits, one settled", request("b", 2, 1), settles(2), nil, price{2, 0, 2, 0, 0}},
		{"first use of four limits", request("c", 4, 1), done, nil, price{1, 0, 1, 1, 0}},
		{"four limits", request("c", 4, 1), done, nil, price{1, 0, 1, 0, 0}},
		{"rollback of four limits", request("c", 4, 1), fails, errFailed, price{2, 0, 2, 0, 0}},
		// The parent is looked up once; a batch's read units are not counted here.
		{"first use of a cascade", cascade(request("child", 1, 1)), done, nil, price{3, 0, 2, 2, 0}},
		{"cascade", cascade(request("child", 1, 1)), done, nil, price{2, 0, 2, 0, 0}},
		{"cascade, settled", cascade(request("child", 1, 2)), settles(1), nil, price{4, 0, 4, 0, 0}},
		{"cascade, rolled back", cascade(request("child", 1, 2)), fails, errFailed, price{4, 0, 4, 0, 0}},
		{"the parent, nearly all", request("parent", 1, 90), done, nil, price{1, 0, 1, 0, 0}},
		{"cascade, refused by the parent, which is asked first", cascade(request("child", 1, 20)), done, zael.ErrExceeded, price{2, 1, 0, 0, 1}},
		{"stored limits, first", stored(request("d", 1, 1)), done, nil, price{3, 0, 1, 1, 0}},
		{"stored limits", stored(request("d", 1, 1)), done, nil, price{1, 0, 1, 0, 0}},
	} {
		if err := l.Do(ctx, tt.req, tt.work); !errors.Is(err, tt.want) {
			t.Fatalf("%s: got %v, want %v", tt.what, err, tt.want)
		}
		if got := wire.take(); got != tt.cost {
			t.Errorf("%s: got %+v, want %+v", tt.what, got, tt.cost)
		}
	}

	// A process's first call asks for the time, once.
	other, err := dynamostore.NewTrial(c, table, &dynamostore.Config{CallTimeout: time.Minute}, trial.Options{CountUnits: true})
	opened(t, other, err)
	for i, want := range []price{{2, 0, 1, 1, 1}, {1, 0, 1, 0, 0}} {
		if _, err := other.Take(ctx, time.Now(), 0, []zael.Debit{debit("e", ask("rpd", define(10, 10, time.Hour), 1))}); err != nil {
			t.Fatal(err)
		}
		if got := wire.take(); got != want {
			t.Errorf("call %d of a process: got %+v, want %+v", i+1, got, want)
		}
	}
}
