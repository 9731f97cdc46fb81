package storetest

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/zeroae/zael"
)

func cascadeChecks() []check {
	return []check{
		{name: "children never take more than the parent has", run: childrenAndParent},
		{name: "a take from many buckets takes from all or none", run: manyBuckets},
		{name: "buckets in opposite order do not lock each other out", run: oppositeOrder},
	}
}

// manyBuckets takes from as many buckets as a request can have, with their parents'.
func manyBuckets(ctx context.Context, e *env) error {
	const buckets = 32
	s := e.script(ctx)
	d := never(10)
	all := func(n int64) []zael.Debit {
		var debits []zael.Debit
		for i := range buckets {
			debits = append(debits, debit(key(fmt.Sprintf("many-%d", i)), ask("rpm", d, n), ask("tpm", d, 1)))
		}
		return debits
	}
	var keys []zael.Key
	for _, of := range all(0) {
		keys = append(keys, of.Key)
	}
	holds := func(rpm, tpm int64) {
		s.leftOf(keys, "rpm", d, func(int) int64 { return rpm })
		s.leftOf(keys, "tpm", d, func(int) int64 { return tpm })
	}
	taken := all(4)
	s.admit(0, taken...)
	holds(6, 9)
	for _, i := range []int{0, 17, buckets - 1} { // one of them refuses
		some := all(4)
		some[i].Charges[0].Amount = 7
		s.refuse(0, some...)
		holds(6, 9)
	}
	var back []zael.Debit
	for _, of := range taken {
		back = append(back, debit(of.Key, zael.Charge{Name: "rpm", Definition: d, Amount: -4, Receipt: of.Charges[0].Receipt}))
	}
	s.adjust(0, back...)
	holds(10, 9)
	return s.err
}

// childrenAndParent: the children of one parent want more than they have, and
// then more than it has.
func childrenAndParent(ctx context.Context, e *env) error {
	for _, each := range []int64{3, 10} {
		if err := e.childrenOf(ctx, each); err != nil {
			return fmt.Errorf("20 children with %d each, and a parent with 100: %w", each, err)
		}
	}
	return nil
}

// childrenOf lets the callers of 20 children take at once. Two that race for
// the parent's last token may both be refused, so the rest is taken one by one.
func (e *env) childrenOf(ctx context.Context, each int64) error {
	const children = 20
	small, large := never(each), never(100)
	parent := key(fmt.Sprintf("parent-%d", each))
	child := func(i int) zael.Key { return key(fmt.Sprintf("child-%d-%d", each, i%children)) }
	take := func(i int) []zael.Debit {
		return []zael.Debit{debit(child(i), ask("rpm", small, 1)), debit(parent, ask("rpm", large, 1))}
	}
	var taken [children]atomic.Int64
	err := together(children*15, func(i int) error {
		ok, err := e.try(ctx, e.t0, take(i)...)
		if ok {
			taken[i%children].Add(1)
		}
		return err
	})
	if err != nil {
		return err
	}

	s := e.script(ctx)
	var all int64
	var keys []zael.Key
	for i := range children {
		all += taken[i].Load()
		keys = append(keys, child(i))
	}
	s.leftOf(keys, "rpm", small, func(i int) int64 { return each - taken[i].Load() })
	s.left(0, parent, "rpm", large, 100-all)
	if s.err != nil {
		return s.err
	}

	for i := range children {
		for range each + 1 {
			ok, err := e.try(ctx, e.t0, take(i)...)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			all++
		}
	}
	if want := min(children*each, 100); all != want {
		return fmt.Errorf("got %d admitted in all, want %d", all, want)
	}
	s.left(0, parent, "rpm", large, 100-all)
	return s.err
}

// oppositeOrder names the same two buckets in either order, to take and to give
// back.
func oppositeOrder(ctx context.Context, e *env) error {
	const workers = 8
	each := e.times(15)
	d := never(int64(2 * workers * each))
	a, b := key("a"), key("b")
	err := together(workers, func(w int) error {
		first, second := a, b
		if w%2 == 1 {
			first, second = b, a
		}
		for range each {
			lease := []zael.Debit{debit(first, ask("rpm", d, 2)), debit(second, ask("rpm", d, 2))}
			if ok, err := e.try(ctx, e.t0, lease...); err != nil || !ok {
				return fmt.Errorf("Take within the burst: got %w, want it admitted", orNil(err))
			}
			_, err := e.adjust(ctx, e.t0, debit(second, back(lease[1].Charges[0], 1)), debit(first, back(lease[0].Charges[0], 1)))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s := e.script(ctx)
	s.left(0, a, "rpm", d, int64(workers*each))
	s.left(0, b, "rpm", d, int64(workers*each))
	return s.err
}
