package storetest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/zeroae/zael"
)

func capacityChecks() []check {
	return []check{
		{name: "a resource's buckets are complete", run: resourceBuckets},
		{name: "resources that differ are kept apart", run: resourcesApart},
		{name: "a done context: all or nothing", run: capacityDone},
	}
}

// resourceBuckets has more buckets than engines answer in one page.
func resourceBuckets(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d, fast := never(10), define(10, 10, time.Second)
	var want []string
	for i := range 130 {
		k := key(fmt.Sprintf("entity-%d", i))
		want = append(want, k.Entity)
		s.admit(0, debit(k, ask("tpm", fast, 2), ask("rpm", d, int64(i%10)+1)))
	}
	s.admit(0, debit(zael.Key{Entity: "entity-1", Resource: "gpt-5"}, ask("rpm", d, 1)))
	s.adjust(0, debit(key("entity-2"), ask("rpm", d, 50)))
	slices.Sort(want)
	s.do(func() error {
		list, err := collect(role[zael.CapacityReader](e).ResourceBuckets(ctx, "gpt-4"))
		if err != nil {
			return err
		}
		var got []string
		at := mustAt(e.t0)
		for _, b := range list {
			got = append(got, b.Key.Entity)
			if b.Key.Resource != "gpt-4" {
				return fmt.Errorf("ResourceBuckets of gpt-4: got %s", keyText(b.Key))
			}
			if err := inOrder(b); err != nil {
				return err
			}
			var i int64
			if _, err := fmt.Sscanf(b.Key.Entity, "entity-%d", &i); err != nil {
				return fmt.Errorf("ResourceBuckets: got %s: %w", keyText(b.Key), err)
			}
			want := (i%10 + 1) * 1000
			if i == 2 {
				want += 50_000
			}
			if rpm, tpm := limitOf(b, "rpm"), limitOf(b, "tpm"); level(rpm, at) != want || rpm.Definition != d ||
				level(tpm, at) != 2000 || tpm.Definition != fast {
				return fmt.Errorf("ResourceBuckets, %s: got %s and %s, want %d and 2000 units taken",
					keyText(b.Key), stateText(rpm, at), stateText(tpm, at), want)
			}
		}
		slices.Sort(got)
		return sameList("ResourceBuckets", got, want)
	})
	return s.err
}

// resourcesApart takes from each hostile key and lists each resource.
func resourcesApart(ctx context.Context, e *env) error {
	d := never(1000)
	kept := map[string]map[string]int64{} // amounts by resource and entity
	for i, k := range e.hostileKeys() {
		amount := int64(i) + 1
		_, err := e.take(ctx, e.t0, 0, debit(k.Key, ask("rpm", d, amount)))
		refused, err := refuses("Take of "+keyText(k.Key), k.plain, err)
		if err != nil {
			return err
		}
		if refused {
			continue
		}
		if kept[k.Resource] == nil {
			kept[k.Resource] = map[string]int64{}
		}
		kept[k.Resource][k.Entity] = amount
	}
	for resource, amounts := range kept {
		list, err := collect(role[zael.CapacityReader](e).ResourceBuckets(ctx, resource))
		if err != nil {
			return err
		}
		if len(list) != len(amounts) {
			return fmt.Errorf("ResourceBuckets of %s: got %d buckets, want %d", quote(resource), len(list), len(amounts))
		}
		for _, b := range list {
			amount, known := amounts[b.Key.Entity]
			if !known || b.Key.Resource != resource {
				return fmt.Errorf("ResourceBuckets of %s: got %s, which is another bucket", quote(resource), keyText(b.Key))
			}
			if units := level(limitOf(b, "rpm"), mustAt(e.t0)); units != amount*1000 {
				return fmt.Errorf("ResourceBuckets of %s: got %d units taken by %s, want %d", quote(resource), units, quote(b.Key.Entity), amount*1000)
			}
		}
	}
	got, err := collect(role[zael.CapacityReader](e).ResourceBuckets(ctx, "alic"))
	if err != nil || len(got) > 0 {
		return fmt.Errorf("ResourceBuckets of a resource that nobody used: got %d and %w, want none", len(got), orNil(err))
	}
	return nil
}

func capacityDone(ctx context.Context, e *env) error {
	s := e.script(ctx)
	s.admit(0, debit(key("alice"), ask("rpm", never(10), 1)))
	for _, gone := range done(ctx) {
		s.do(func() error {
			got, err := collect(role[zael.CapacityReader](e).ResourceBuckets(gone, "gpt-4"))
			made, err := heeds(gone, "ResourceBuckets", err)
			if made && len(got) != 1 {
				return fmt.Errorf("ResourceBuckets with a done context: got %d and no error, want 1", len(got))
			}
			return err
		})
	}
	return s.err
}
