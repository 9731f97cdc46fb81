package storetest

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/zeroae/zael"
)

func readChecks() []check {
	return []check{
		{name: "a read answers in the order of the keys", run: readsInOrder},
		{name: "a read of many keys is complete", run: readsMany},
		{name: "a read changes nothing", run: readsOnly},
		{name: "a read sees every change before it", run: readsFresh},
	}
}

func readsInOrder(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := trickle(10)
	keys := []zael.Key{key("zoe"), key("missing"), {Entity: "zoe", Resource: "a"}, key("alice"), {Entity: "bob", Resource: "zz"}}

	for i, k := range keys {
		if k.Entity != "missing" {
			s.admit(0, debit(k, ask("tpm", d, int64(i)+1), ask("a", d, 1), ask("rpm", d, 1), ask("B", d, 1)))
		}
	}
	s.do(func() error {
		at, got, err := e.read(ctx, e.t0, keys...) // which checks keys and order
		if err != nil {
			return err
		}
		for i, b := range got {
			if b.Key.Entity == "missing" {
				if len(b.Limits) > 0 {
					return fmt.Errorf("missing bucket: got limits %v, want none", b.Limits)
				}
				continue
			}
			if len(b.Limits) != 4 {
				return fmt.Errorf("bucket %s: got %d limits, want 4", keyText(b.Key), len(b.Limits))
			}
			if got, want := level(limitOf(b, "tpm"), at), int64(i+1)*1000; got != want {
				return fmt.Errorf("bucket %s: got %d units taken, want %d", keyText(b.Key), got, want)
			}
		}
		if _, none, err := e.read(ctx, e.t0); err != nil || len(none) > 0 {
			return fmt.Errorf("Buckets of no keys: got %d and %w, want none", len(none), orNil(err))
		}
		return nil
	})
	return s.err
}

// readsMany reads more keys than engines answer in one batch.
func readsMany(ctx context.Context, e *env) error {
	d := never(10)
	keys := make([]zael.Key, 130)
	for i := range keys {
		keys[i] = key(fmt.Sprintf("entity-%d", (i*37)%len(keys)))
	}
	s := e.script(ctx)
	for i, k := range keys {
		s.admit(0, debit(k, ask("rpm", d, int64(i%10)+1)))
	}
	s.do(func() error {
		at, got, err := e.read(ctx, e.t0, keys...)
		if err != nil {
			return err
		}
		for i, b := range got {
			if got, want := level(limitOf(b, "rpm"), at), int64(i%10+1)*1000; got != want {
				return fmt.Errorf("bucket %s of %d read: got %d units taken, want %d", keyText(b.Key), len(keys), got, want)
			}
		}
		return nil
	})
	return s.err
}

func readsOnly(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := trickle(10)
	s.admit(0, debit(k, ask("rpm", d, 8)))
	for range 3 {
		s.left(0, key("bob"), "rpm", d, 10)
		s.left(0, k, "rpm", d, 2)
	}
	s.do(func() error {
		_, first, err := e.read(ctx, e.t0.Add(time.Second), k)
		if err != nil {
			return err
		}
		if _, _, err = e.read(ctx, e.t0.Add(5*time.Second), k); err != nil {
			return err
		}
		_, again, err := e.read(ctx, e.t0.Add(5*time.Second), k)
		if err != nil {
			return err
		}
		if !reflect.DeepEqual(again, first) {
			return fmt.Errorf("reading again: got %+v, want %+v", again, first)
		}
		return nil
	})
	s.admit(5*time.Second, debit(k, ask("rpm", d, 7)))
	s.refuse(5*time.Second, debit(k, ask("rpm", d, 1)))
	return s.err
}

func readsFresh(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := never(100)
	for i := range int64(20) {
		s.left(0, k, "rpm", d, 100-2*i)
		s.admit(0, debit(k, ask("rpm", d, 1)))
		s.left(0, k, "rpm", d, 99-2*i)
		s.adjust(0, debit(k, ask("rpm", d, 1)))
	}
	return s.err
}
