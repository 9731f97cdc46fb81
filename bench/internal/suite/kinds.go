package suite

import (
	"context"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"

	"github.com/zeroae/zael/bench/internal/load"
	"github.com/zeroae/zael/bench/internal/peers"
)

// A kindsBucket is a bucket of several kinds of limits. The first is a rate.
type kindsBucket struct {
	name    string
	limits  []zael.Limit
	amounts []int64
}

const plenty = 1e11 // tokens that no benchmark exhausts

func kindsBuckets() []kindsBucket {
	rate, quota, tokens := zael.PerMinute("tpm", plenty), zael.EachDay("tpd", plenty), []int64{500, 500, 500}
	return []kindsBucket{
		{"three rates", []zael.Limit{rate, zael.PerHour("tph", plenty), zael.PerDay("tpd", plenty)}, tokens},
		{"rate + quota + slots", []zael.Limit{rate, quota, zael.AtOnce("parallel", 20)}, []int64{500, 500, 1}},
		{"rate + 2 quotas", []zael.Limit{rate, quota, zael.EachMonth("tpmonth", plenty)}, tokens},
		{"soft: rate + rate + quota", []zael.Limit{rate, zael.PerHour("tph", 1).Soft(), zael.EachDay("tpd", 1).Soft()}, tokens},
		{"rate + 2 unlimited", []zael.Limit{rate, zael.Unlimited("tph"), zael.Unlimited("tpd")}, tokens},
	}
}

// A kindsLimiter makes the same request of a bucket each time.
type kindsLimiter struct {
	limiter *zael.Limiter
	policy  *zael.Policy
	amounts []int64
	settle  zael.Amounts // nil: the request is an Allow
}

func (k *kindsLimiter) Allow(key string) bool {
	ctx, req := context.Background(), k.policy.For(key, k.amounts...)
	if k.settle == nil {
		return k.limiter.Allow(ctx, req) == nil
	}
	lease, err := k.limiter.Acquire(ctx, req)
	return err == nil && lease.Settle(k.settle) == nil && lease.Commit(ctx) == nil
}

// kindsGroups compare buckets of several kinds of limits, in memory, with one of rates alone.
func kindsGroups(loads *load.Loads) []Group {
	allow, lease, refused := Group{Name: "kinds/Allow"}, Group{Name: "kinds/Acquire+Settle+Commit"}, Group{Name: "kinds/Allow/refused"}
	add := func(g *Group, kinds kindsBucket, want bool, settle zael.Amounts) {
		g.Benchmarks = append(g.Benchmarks, Benchmark{
			Name: kinds.name, Peer: len(g.Benchmarks) == 0, AllOrNothing: true,
			Run: func(b *testing.B) { b.Helper(); kinds.run(b, loads, want, settle) },
		})
	}
	for _, b := range kindsBuckets() {
		add(&lease, b, true, zael.Amounts{b.limits[0].Name: 400, b.limits[1].Name: 400})
		for i := range b.limits {
			if b.limits[i].Kind() == zael.KindSlots { // which only a lease can take
				b.amounts = append([]int64(nil), b.amounts...)
				b.amounts[i] = 0
			}
		}
		add(&allow, b, true, nil)
		b.limits = append([]zael.Limit{zael.PerDay(b.limits[0].Name, 500)}, b.limits[1:]...)
		add(&refused, b, false, nil)
	}
	return []Group{allow, lease, refused}
}

func (k *kindsBucket) run(b *testing.B, loads *load.Loads, want bool, settle zael.Amounts) {
	b.Helper()
	limiter, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		b.Fatal(err)
	}
	policy, err := zael.NewPolicy("gpt-4", k.limits...)
	if err != nil {
		b.Fatal(err)
	}
	var l peers.Limiter = &kindsLimiter{limiter, policy, k.amounts, settle}
	keys := loads.Get(load.One)
	if !l.Allow(keys.At(0)) {
		b.Fatal("the first request was refused")
	}
	b.ReportAllocs()
	serial(b, l, keys, want)
}
