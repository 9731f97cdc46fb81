package memstore_test

import (
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

// BenchmarkAllow also checks that Limiter.Allow allocates nothing when it admits, which the race
// detector keeps a test from seeing.
func BenchmarkAllow(b *testing.B) {
	one := []zael.Limit{zael.PerSecond("rps", 1e9)}
	two := append(one[:1:1], zael.PerSecond("tps", 1e9))
	for name, req := range map[string]zael.Request{
		"one limit":  {Limits: one, Consume: zael.Amounts{"rps": 1}},
		"two limits": {Limits: two, Consume: zael.Amounts{"rps": 1, "tps": 7}},
		"a check":    {Limits: two, Consume: zael.Amounts{"rps": 0, "tps": 0}},
		"stored":     {UseStoredLimits: true, Consume: zael.Amounts{"rps": 1}},
	} {
		req.Entity, req.Resource = "key-1", "gpt-4"
		b.Run(name, func(b *testing.B) {
			l, err := zael.New(memstore.New(nil), nil)
			if err != nil {
				b.Fatal(err)
			}
			ctx := b.Context()
			if req.UseStoredLimits {
				if err := l.SetLimits(ctx, zael.Scope{}, one); err != nil {
					b.Fatal(err)
				}
			}
			allow := func() {
				if err := l.Allow(ctx, req); err != nil {
					b.Fatalf("got %v, want it admitted", err)
				}
			}
			allow() // makes the bucket
			if n := testing.AllocsPerRun(1000, allow); n != 0 {
				b.Errorf("got %v allocations a call, want 0", n)
			}
			for b.Loop() {
				allow()
			}
		})
	}
}
