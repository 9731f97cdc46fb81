package zael_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

// A key is turned off: every request fails, whatever its limits are.
func ExampleLimiter_SetSwitch() {
	ctx := context.Background()
	l, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	chat := zael.MustPolicy("gpt-4", zael.PerMinute("rpm", 100))

	if err := l.SetSwitch(ctx, zael.Scope{Entity: "key-1"}, zael.Disabled, zael.AdminOptions{}); err != nil {
		fmt.Println(err)
	}
	if off, ok := errors.AsType[*zael.DisabledError](l.Allow(ctx, chat.For("key-1"))); ok {
		fmt.Println("disabled by the switch of", off.Scope)
	}
	fmt.Println("key-2:", l.Allow(ctx, chat.For("key-2")))
	// Output:
	// disabled by the switch of entity key-1
	// key-2: <nil>
}

// A customer gets tokens on top, once for the ticket, however often the script runs.
func ExampleLimiter_TopUp() {
	ctx := context.Background()
	l, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	chat := zael.MustPolicy("gpt-4", zael.PerDay("tpd", 1000))
	if err := l.Allow(ctx, chat.For("key-1", 900)); err != nil {
		fmt.Println(err)
	}
	for range 2 {
		left, err := l.TopUp(ctx, "key-1", "gpt-4", zael.Amounts{"tpd": 500}, zael.AdminOptions{IdempotencyKey: "ticket-4711"})
		fmt.Println(left, err)
	}
	// Output:
	// tpd=600 <nil>
	// tpd=600 <nil>
}

// A request takes from two resources or from none, and settles each by itself.
func ExampleLease_On() {
	ctx := context.Background()
	l, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	chat := zael.MustPolicy("gpt-4", zael.PerDay("tpd", 1000))
	tools := zael.MustPolicy("tools", zael.PerDay("calls", 10))

	req := chat.For("key-1", 400)
	req.Also = []zael.Part{tools.PartFor("key-1", 3)}
	err = l.Do(ctx, req, func(_ context.Context, lease *zael.Lease) error {
		return errors.Join(
			lease.Settle(zael.Amounts{"tpd": 250}),
			lease.On("key-1", "tools").Settle(zael.Amounts{"calls": 1}),
		)
	})
	fmt.Println(err)
	for _, p := range []*zael.Policy{chat, tools} {
		left, err := l.Available(ctx, zael.Query{Entity: "key-1", Policy: p})
		fmt.Println(p.Resource(), left, err)
	}
	// Output:
	// <nil>
	// gpt-4 tpd=750 <nil>
	// tools calls=9 <nil>
}
