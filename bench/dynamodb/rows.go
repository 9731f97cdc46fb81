package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bench/internal/crowd"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/trial"
)

// A bench has a table, and what its rows have in common.
type bench struct {
	endpoint, table string
	rounds          int
	d               time.Duration // of a round
	prefixes        atomic.Int64  // used so far; each row has buckets of its own
}

func (b *bench) prefix() string { return fmt.Sprintf("r%d-", b.prefixes.Add(1)) }

// plenty returns a limit that no row exhausts.
func plenty() []zael.Limit {
	return []zael.Limit{{Name: "rpm", RefillAmount: 1e9, RefillPeriod: time.Second, Burst: 1e9}}
}

// bare returns the operation of the bare loop: the library's UpdateItem with the write
// that zael makes for an acquire of one limit on a bucket in use, with fixed values. It
// ignores the response.
func (b *bench) bare(c *dynamodb.Client, prefix string, keys int) func(context.Context, int, int) error {
	s, n := func(v string) types.AttributeValue { return &types.AttributeValueMemberS{Value: v} },
		func(v string) types.AttributeValue { return &types.AttributeValueMemberN{Value: v} }
	const definition = "1:1000000000/1s^1000000000@0.0"
	return func(ctx context.Context, caller, _ int) error {
		_, err := c.UpdateItem(ctx, &dynamodb.UpdateItemInput{
			TableName: aws.String(b.table),
			Key:       map[string]types.AttributeValue{"PK": s(fmt.Sprintf("E#%s%d", prefix, caller%keys)), "SK": s("B#bench")},
			ConditionExpression: aws.String("(attribute_not_exists(#m0) OR (#d0 = :d0 AND #m0 <= :h0))" +
				" AND (attribute_not_exists(#o) OR #o <> :id) AND (attribute_not_exists(#ttl) OR #ttl <= :ttl)"),
			UpdateExpression: aws.String("SET #m0 = :v0, #d0 = :d0, #o = :o, #b = if_not_exists(#b, :id), #gp = :gp, #gs = :gs, #ttl = :ttl ADD #v :one, #c0 :c0, #e :e"),
			ExpressionAttributeNames: map[string]string{
				"#m0": "m_rpm", "#d0": "d_rpm", "#c0": "c_rpm", "#o": "o", "#e": "e", "#v": "v", "#b": "b", "#gp": "GSI1PK", "#gs": "GSI1SK", "#ttl": "ttl",
			},
			ExpressionAttributeValues: map[string]types.AttributeValue{
				":d0": s(definition), ":h0": n("123456789012345"), ":v0": n("12345678901234"), ":c0": n("1"), ":e": n("1"), ":one": n("1"), ":ttl": n("1900000000"),
				":id": s("0123456789abcdef"), ":o": s("fedcba9876543210"), ":gp": s("R#bench#3"), ":gs": s(prefix),
			},
			ReturnValues:                        types.ReturnValueAllNew,
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		})
		return err
	}
}

// A process has a limiter and a store with a client of its own.
type process struct {
	*zael.Limiter
	store *dynamostore.Store
	wire  *wire
}

func (b *bench) process(ids, units bool) (*process, error) {
	c, w := client(b.endpoint, ids)
	s, err := dynamostore.NewTrial(c, b.table, &dynamostore.Config{CallTimeout: 10 * time.Second}, trial.Options{CountUnits: units})
	if err != nil {
		return nil, err
	}
	l, err := zael.New(s, &zael.Config{Timeout: 30 * time.Second})
	return &process{l, s, w}, err
}

// request returns a request for the key of a caller.
func request(prefix string, caller, keys int, limits []zael.Limit) zael.Request {
	return zael.Request{
		Entity: fmt.Sprintf("%s%d", prefix, caller%keys), Resource: "bench", Limits: limits, Consume: zael.Amounts{"rpm": 1},
	}
}

// A pair compares zael with the bare loop, by medians of rounds that take turns.
type pair struct {
	bare, zael *crowd.Measurement
	ratio, cpu float64 // rate and CPU time of zael, relative to the bare loop
	calls      float64 // for each acquire
}

func (b *bench) pair(ctx context.Context, callers, keys int) (*pair, error) {
	// The bare loop has the same connection pool, so that the pools are not compared.
	cfg := config(b.endpoint)
	cfg.HTTPClient = &http.Client{Transport: tuned(b.endpoint)}
	c := dynamodb.NewFromConfig(cfg)
	p, err := b.process(false, false)
	if err != nil {
		return nil, err
	}
	defer p.store.Close(context.WithoutCancel(ctx))
	bare := b.bare(c, b.prefix(), keys)
	prefix := b.prefix()
	requests := make([]zael.Request, callers)
	for i := range requests {
		requests[i] = request(prefix, i, keys, plenty())
	}
	acquire := func(ctx context.Context, caller, _ int) error { return p.Allow(ctx, requests[caller]) }
	var bares, zaels []*crowd.Measurement
	var calls, ops int
	for round := range b.rounds + 1 {
		m1, err := crowd.Run(ctx, callers, b.d, 0, bare)
		if err != nil {
			return nil, err
		}
		p.wire.reset()
		m2, err := crowd.Run(ctx, callers, b.d, 0, acquire)
		if err != nil {
			return nil, err
		}
		if round == 0 {
			continue // it opens connections and creates buckets
		}
		n, _ := p.wire.counts()
		calls, ops = calls+n, ops+m2.Ops
		bares, zaels = append(bares, m1), append(zaels, m2)
	}
	var out pair
	out.bare, out.zael = crowd.Median(bares), crowd.Median(zaels)
	out.ratio = out.zael.Rate() / out.bare.Rate()
	out.cpu = float64(out.zael.CPUPerOp()) / float64(out.bare.CPUPerOp())
	out.calls = float64(calls) / float64(ops)
	return &out, nil
}

// alone has one caller on a bucket of its own, whose acquires follow each other or
// begin every so often.
func (b *bench) alone(ctx context.Context, rate int64, every time.Duration) (m *crowd.Measurement, calls float64, err error) {
	p, err := b.process(false, false)
	if err != nil {
		return nil, 0, err
	}
	defer p.store.Close(context.WithoutCancel(ctx))
	req := request(b.prefix(), 0, 1, []zael.Limit{zael.PerSecond("rpm", rate)})
	if err := p.Allow(ctx, req); err != nil { // connections and bucket are made
		return nil, 0, err
	}
	p.wire.reset()
	next := time.Now()
	m, err = crowd.Run(ctx, 1, max(b.d, 100*every), 0, func(ctx context.Context, _, _ int) error {
		crowd.Nap(ctx, time.Until(next))
		next = time.Now().Add(every)
		return p.Allow(ctx, req)
	})
	n, _ := p.wire.counts()
	return m, float64(n) / float64(max(1, m.Ops)), err
}

// exhausted asks an empty bucket of 60/min.
func (b *bench) exhausted(ctx context.Context) (m *crowd.Measurement, calls float64, err error) {
	p, err := b.process(false, false)
	if err != nil {
		return nil, 0, err
	}
	defer p.store.Close(context.WithoutCancel(ctx))
	req := request(b.prefix(), 0, 1, []zael.Limit{zael.PerMinute("rpm", 60)})
	for err = nil; err == nil; {
		err = p.Allow(ctx, req)
	}
	if !errors.Is(err, zael.ErrExceeded) {
		return nil, 0, err
	}
	p.wire.reset()
	m, err = crowd.Run(ctx, 8, 3*b.d, 0, func(ctx context.Context, _, _ int) error {
		if err := p.Allow(ctx, req); err != nil && !errors.Is(err, zael.ErrExceeded) {
			return err
		}
		return nil
	})
	n, _ := p.wire.counts()
	return m, float64(n) / m.Elapsed.Seconds(), err
}

// cascade measures callers with keys of their own and one parent.
func (b *bench) cascade(ctx context.Context, callers int) (m *crowd.Measurement, calls float64, err error) {
	p, err := b.process(false, false)
	if err != nil {
		return nil, 0, err
	}
	defer p.store.Close(context.WithoutCancel(ctx))
	prefix := b.prefix()
	if _, err := p.CreateEntity(ctx, zael.Entity{ID: prefix + "parent"}); err != nil {
		return nil, 0, err
	}
	requests := make([]zael.Request, callers)
	for i := range requests {
		if _, err := p.CreateEntity(ctx, zael.Entity{ID: fmt.Sprint(prefix, i), ParentID: prefix + "parent"}); err != nil {
			return nil, 0, err
		}
		requests[i] = request(prefix, i, callers, plenty())
		requests[i].Cascade = true
	}
	for range 2 { // the first round warms up
		p.wire.reset()
		if m, err = crowd.Run(ctx, callers, b.d, 0, func(ctx context.Context, caller, _ int) error { return p.Allow(ctx, requests[caller]) }); err != nil {
			return nil, 0, err
		}
	}
	n, _ := p.wire.counts()
	return m, float64(n) / float64(m.Ops), nil
}

// A shared has the results of several processes that share a bucket.
type shared struct {
	asked, admitted int
	calls           float64 // for each acquire
	units           float64 // for each write that was applied; others cost one too
	most, p999      int     // calls for each write
	ideal           float64
}

// processes measures 8 processes that ask one bucket for share times its rate.
func (b *bench) processes(ctx context.Context, share float64) (*shared, error) {
	const n, callers, rate = 8, 8, 200
	limits := []zael.Limit{{Name: "rpm", RefillAmount: rate, RefillPeriod: time.Second, Burst: rate / 4}}
	var ps []*process
	prefix := b.prefix()
	for range n {
		p, err := b.process(true, true)
		if err != nil {
			return nil, err
		}
		defer p.store.Close(context.WithoutCancel(ctx))
		ps = append(ps, p)
	}
	req := request(prefix, 0, 1, limits)
	var admitted atomic.Int64
	pause := time.Duration(float64(n*callers) / (share * rate) * float64(time.Second))
	begin := time.Now()
	m, err := crowd.Run(ctx, n*callers, 5*b.d, pause, func(ctx context.Context, caller, _ int) error {
		err := ps[caller%n].Allow(ctx, req)
		if err == nil {
			admitted.Add(1)
		}
		if err != nil && !errors.Is(err, zael.ErrExceeded) {
			return err
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := &shared{asked: m.Ops, admitted: int(admitted.Load()), ideal: rate/4 + rate*time.Since(begin).Seconds()}
	var writes []int
	var total, failed uint64
	var units float64
	for _, p := range ps {
		calls, w := p.wire.counts()
		out.calls += float64(calls)
		writes = append(writes, w...)
		s := p.store.Stats()
		total, failed, units = total+s.Writes, failed+s.Failed, units+s.WriteUnits
	}
	out.calls /= float64(m.Ops)
	out.units = (units - float64(failed) - 1) / float64(total-failed) // the first created the item
	slices.Sort(writes)
	out.most, out.p999 = writes[len(writes)-1], writes[min(len(writes)-1, len(writes)*999/1000)]
	return out, nil
}
