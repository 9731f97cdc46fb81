package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/zeroae/zael"
)

// usageComplete has more records than engines answer in one page.
func usageComplete(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := never(100)
	var want []zael.UsageRecord
	for i := range 150 {
		r := e.used(14, 1, zael.Amounts{"rpm": int64(i%50) + 1})
		r.Entity = fmt.Sprintf("entity-%03d", i)
		want = append(want, r)
		s.admit(0, debit(key(r.Entity), ask("rpm", d, r.Amounts["rpm"])))
	}
	s.usage(zael.UsageQuery{Resource: "gpt-4"}, want...)
	return s.err
}

// countsForgotten names each limit once, and one of them again when it has been
// forgotten.
func countsForgotten(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	s.names(0, 20*time.Second, k)
	s.admit(50*time.Minute, debit(k, ask("once-0", trickle(10), 5)))
	amounts := zael.Amounts{"busy": 1}
	for i := range once {
		amounts[fmt.Sprintf("once-%d", i)]++
	}
	amounts["once-0"] += 5
	s.usage(zael.UsageQuery{Entity: "alice"}, e.used(14, once+2, amounts))
	return s.err
}

// countsConcurrent takes, is refused, charges and gives back at once.
func countsConcurrent(ctx context.Context, e *env) error {
	const callers = 200
	k := key("alice")
	d := never(callers)
	var admitted atomic.Int64
	err := together(callers, func(int) error {
		lease := debit(k, ask("rpm", d, 3))
		ok, err := e.try(ctx, e.t0, lease)
		if err != nil || !ok || admitted.Add(1)%2 == 0 {
			return err
		}
		_, err = e.adjust(ctx, e.t0, debit(k, back(lease.Charges[0], 1), ask("tpm", d, 2)))
		return err
	})
	if err != nil {
		return err
	}
	at, got, err := e.read(ctx, e.t0, k)
	if err != nil {
		return err
	}
	records, err := collect(role[zael.UsageStore](e).Usage(ctx, zael.UsageQuery{Entity: "alice"}))
	if err != nil {
		return err
	}
	if len(records) != 1 {
		return fmt.Errorf("Usage of one bucket in one hour: got %d records, want 1", len(records))
	}
	for _, name := range []string{"rpm", "tpm"} {
		if used, taken := records[0].Amounts[name], level(limitOf(got[0], name), at)/1000; used != taken || taken == 0 {
			return fmt.Errorf("%s after %d callers: got %d counted, want as many as were taken, %d", name, callers, used, taken)
		}
	}
	if n := records[0].Events; n != admitted.Load() {
		return fmt.Errorf("events of %d callers: got %d, want the %d admitted", callers, n, admitted.Load())
	}
	return nil
}

// usageApart takes another amount for each hostile key and reads it back by
// entity and resource.
func usageApart(ctx context.Context, e *env) error {
	d := never(1000)
	s := e.script(ctx)
	var want []zael.UsageRecord
	for i, k := range hostileKeys() {
		n := int64(i) + 1
		_, err := e.take(ctx, e.t0, 0, debit(k.Key, ask("rpm", d, n)))
		refused, err := refuses("Take of "+keyText(k.Key), k.plain, err)
		if err != nil {
			return err
		}
		if !refused && k.Entity != "" && k.Resource != "" { // an empty one selects all
			r := e.used(14, 1, zael.Amounts{"rpm": n})
			r.Entity, r.Resource = k.Entity, k.Resource
			want = append(want, r)
		}
	}
	for _, r := range want {
		s.usage(zael.UsageQuery{Entity: r.Entity, Resource: r.Resource}, r)
	}
	return s.err
}

func deletesUsage(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := define(10, 10, time.Second)
	other := e.used(14, 1, zael.Amounts{"rpm": 2})
	other.Entity = "Alice"

	s.admit(0, debit(key("Alice"), ask("rpm", d, 2)))
	for i := range 40 {
		s.admit(0, debit(zael.Key{Entity: "alice", Resource: fmt.Sprintf("r%d", i)}, ask("rpm", d, 1)))
	}
	s.remove("alice", nil)
	for _, window := range []zael.Window{zael.Hourly, zael.Daily, zael.Monthly} {
		s.usage(zael.UsageQuery{Entity: "alice", Window: window})
	}
	s.usage(zael.UsageQuery{Resource: "r7"})
	s.usage(zael.UsageQuery{Entity: "Alice"}, other)
	s.remove("alice", zael.ErrEntityNotFound)

	// Usage is enough to find an entity by, when its bucket is full again.
	s.admit(time.Second, debit(key("bob"), ask("rpm", d, 1)))
	s.adjust(time.Minute, debit(key("carol"), ask("rpm", d, 1)))
	s.remove("bob", nil)
	s.usage(zael.UsageQuery{Entity: "bob"})
	s.remove("bob", zael.ErrEntityNotFound)
	return s.err
}

func usageDone(ctx context.Context, e *env) error {
	for name, gone := range done(ctx) {
		k := key(name)
		_, takeErr := e.take(gone, e.t0, 0, debit(k, ask("rpm", never(10), 1)))
		made, err := heeds(gone, "Take", takeErr)
		if err != nil {
			return err
		}
		var want []zael.UsageRecord
		if made {
			r := e.used(14, 1, zael.Amounts{"rpm": 1})
			r.Entity = name
			want = append(want, r)
		}
		s := e.script(ctx)
		s.usage(zael.UsageQuery{Entity: name}, want...)
		if s.err != nil {
			return s.err
		}

		got, err := collect(role[zael.UsageStore](e).Usage(gone, zael.UsageQuery{Entity: name}))
		if made, err = heeds(gone, "Usage", err); err != nil {
			return err
		}
		if made && len(got) != len(want) {
			return errors.New("Usage with a done context: got records missing and no error")
		}
	}
	return nil
}
