package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

func onceChecks() []check {
	return []check{
		{name: "a key takes once, and has the first answer", run: takesOnce},
		{name: "a key of a take belongs to one take", run: takesOfOneHash},
		{name: "the key of a take that failed is free", run: failedTakeIsFree},
		{name: "a key of a take may be used again after its time", run: takesAfterItsTime},
		{name: "one of many takes with a key takes", run: takesOnceTogether},
		{name: "without a key it takes each time", run: takesWithoutKey},
		{name: "nothing is taken after an end", run: takesUnlessEnded},
		{name: "the answer has the receipts", run: answersReceipts},
		{name: "a key adjusts once, and has the first answer", run: adjustsOnce},
		{name: "an adjust without debits keeps its key", run: adjustsNothing},
		{name: "the key of an adjust that failed is free", run: failedAdjustIsFree},
		{name: "one of many adjusts with a key is made, of all buckets", run: adjustsOnceTogether},
		{name: "answers of 16 KiB come back as they were", run: answersComeBack},
		{name: "once-keys that differ are different keys", run: onceKeysApart},
		{name: "once-keys are apart from those of administration", also: []Role{AdminStore}, run: onceKeysOfOthers},
		{name: "a holder is extended", also: []Role{Kinds}, run: extends},
		{name: "a holder that was removed is not extended", also: []Role{Kinds}, run: extendsNoOther},
		{name: "slots that were taken by a key are extended and released", also: []Role{Kinds}, run: slotsOnce},
		{name: "timeline: 9, slots that are renewed and expire", also: []Role{Kinds}, run: slotTimeline},
		{name: "a done context: a take with a key is made, or its key is free", run: onceDone},
	}
}

// onceOf returns a key with its time.
func (e *env) onceOf(key, hash string) zael.Once {
	return zael.Once{Key: key, Hash: hash, Until: e.t0.Add(time.Hour)}
}

// answering returns an OnceTake that keeps a text.
func answering(once zael.Once, text string) zael.OnceTake {
	return zael.OnceTake{Once: once, Answer: func(time.Time, []zael.Debit) []byte { return []byte(text) }}
}

// takeOnce takes by a key, and wants what was kept with it first ("": nothing), or an error.
func (s *script) takeOnce(after time.Duration, once zael.OnceTake, first string, want error, debits ...zael.Debit) {
	s.do(func() error {
		_, got, err := role[zael.OnceStore](s.e).TakeOnce(s.ctx, s.e.t0.Add(after), 0, debits, once)
		if !errors.Is(err, want) {
			return fmt.Errorf("TakeOnce at %v with key %q: got %w, want %w", after, once.Key, orNil(err), orNil(want))
		}
		return sameFirst("TakeOnce", once.Key, got, first)
	})
}

// adjustOnce is takeOnce of an adjust.
func (s *script) adjustOnce(after time.Duration, once zael.Once, answer, first string, debits ...zael.Debit) {
	s.do(func() error {
		got, err := role[zael.OnceStore](s.e).AdjustOnce(s.ctx, s.e.t0.Add(after), debits, once, []byte(answer))
		if err != nil {
			return fmt.Errorf("AdjustOnce at %v with key %q: got %w", after, once.Key, err)
		}
		return sameFirst("AdjustOnce", once.Key, got, first)
	})
}

func sameFirst(what, key string, got []byte, want string) error {
	if (got != nil) != (want != "") || !bytes.Equal(got, []byte(want)) {
		return fmt.Errorf("%s with key %q: got the first answer %.40q, want %.40q", what, key, got, want)
	}
	return nil
}

func takesOnce(ctx context.Context, e *env) error {
	s := e.script(ctx)
	once := answering(e.onceOf("a", "h"), "first")
	s.takeOnce(0, once, "", nil, debit(key("alice"), ask("rpm", never(10), 4)))
	s.takeOnce(0, answering(once.Once, "second"), "first", nil, debit(key("alice"), ask("rpm", never(10), 4)))
	s.takeOnce(time.Minute, answering(once.Once, "second"), "first", nil, debit(key("alice"), ask("rpm", never(10), 400)))
	s.left(time.Minute, key("alice"), "rpm", never(10), 6)
	return s.err
}

func takesOfOneHash(ctx context.Context, e *env) error {
	s := e.script(ctx)
	s.takeOnce(0, answering(e.onceOf("a", "h"), "first"), "", nil, debit(key("alice"), ask("rpm", never(10), 4)))
	s.takeOnce(0, answering(e.onceOf("a", "other"), "x"), "", zael.ErrKeyUsed, debit(key("alice"), ask("rpm", never(10), 4)))
	s.left(0, key("alice"), "rpm", never(10), 6)
	return s.err
}

func failedTakeIsFree(ctx context.Context, e *env) error {
	s := e.script(ctx)
	once := answering(e.onceOf("a", "h"), "first")
	s.takeOnce(0, once, "", zael.ErrExceeded, debit(key("alice"), ask("rpm", never(10), 11)))
	s.takeOnce(0, answering(e.onceOf("a", "other"), "second"), "", nil, debit(key("alice"), ask("rpm", never(10), 9)))
	s.left(0, key("alice"), "rpm", never(10), 1)
	return s.err
}

func takesAfterItsTime(ctx context.Context, e *env) error {
	s := e.script(ctx)
	once := answering(e.onceOf("a", "h"), "first")
	s.takeOnce(0, once, "", nil, debit(key("alice"), ask("rpm", never(10), 4)))
	s.takeOnce(time.Hour-time.Second, once, "first", nil, debit(key("alice"), ask("rpm", never(10), 4)))
	later := answering(zael.Once{Key: "a", Hash: "other", Until: e.t0.Add(2 * time.Hour)}, "second")
	s.takeOnce(time.Hour, later, "", nil, debit(key("alice"), ask("rpm", never(10), 4)))
	s.takeOnce(time.Hour, later, "second", nil, debit(key("alice"), ask("rpm", never(10), 4)))
	s.left(time.Hour, key("alice"), "rpm", never(10), 2)
	return s.err
}

func takesWithoutKey(ctx context.Context, e *env) error {
	s := e.script(ctx)
	for range 3 {
		s.takeOnce(0, zael.OnceTake{}, "", nil, debit(key("alice"), ask("rpm", never(10), 2)))
	}
	s.left(0, key("alice"), "rpm", never(10), 4)
	return s.err
}

func takesUnlessEnded(ctx context.Context, e *env) error {
	s := e.script(ctx)
	s.takeOnce(0, zael.OnceTake{Unless: "end"}, "", nil, debit(key("alice"), ask("rpm", never(10), 2)))
	s.takeOnce(0, zael.OnceTake{Unless: "end"}, "", nil)
	s.adjustOnce(0, e.onceOf("end", ""), "ended", "")
	s.takeOnce(0, zael.OnceTake{Unless: "end"}, "", zael.ErrLeaseClosed, debit(key("alice"), ask("rpm", never(10), 2)))
	s.takeOnce(0, zael.OnceTake{Unless: "end"}, "", zael.ErrLeaseClosed)
	s.takeOnce(0, zael.OnceTake{Unless: "other"}, "", nil, debit(key("alice"), ask("rpm", never(10), 1)))
	s.left(0, key("alice"), "rpm", never(10), 7)
	return s.err
}

// answersReceipts gives back by the receipts that Answer was called with.
func answersReceipts(ctx context.Context, e *env) error {
	s := e.script(ctx)
	var kept []zael.Charge
	var keys []zael.Key
	once := zael.OnceTake{Once: e.onceOf("a", "h"), Answer: func(_ time.Time, debits []zael.Debit) []byte {
		kept, keys = nil, nil
		for _, d := range debits {
			keys, kept = append(keys, d.Key), append(kept, d.Charges...)
		}
		return []byte("first")
	}}
	mine := []zael.Debit{debit(key("alice"), ask("rpm", never(10), 4)), debit(key("team"), ask("rpm", never(20), 4))}
	s.takeOnce(0, once, "", nil, mine...)
	if s.err == nil && len(kept) != 2 {
		return fmt.Errorf("Answer: got %d charges, want the 2 that were taken", len(kept))
	}
	for i := range kept {
		if got, want := kept[i].Receipt, mine[i].Charges[0].Receipt; got != want || keys[i] != mine[i].Key {
			return fmt.Errorf("Answer: got %v of %v, want the receipt of the caller, %v", got, keys[i], want)
		}
		kept[i].Amount = -kept[i].Amount
		s.adjust(0, zael.Debit{Key: keys[i], Charges: kept[i : i+1]})
		s.left(0, keys[i], "rpm", kept[i].Definition, kept[i].Definition.Burst)
	}
	return s.err
}

func adjustsOnce(ctx context.Context, e *env) error {
	s := e.script(ctx)
	s.admit(0, debit(key("alice"), ask("rpm", never(10), 1)), debit(key("team"), ask("rpm", never(20), 1)))
	once := e.onceOf("a", "")
	both := []zael.Debit{debit(key("alice"), ask("rpm", never(10), 3)), debit(key("team"), ask("rpm", never(20), 3))}
	s.adjustOnce(0, once, "first", "", both...)
	s.adjustOnce(0, once, "second", "first", both...)
	once.Hash = "other"
	s.adjustOnce(time.Minute, once, "second", "first", both...)
	s.adjustOnce(time.Minute, once, "second", "first")
	s.left(time.Minute, key("alice"), "rpm", never(10), 6)
	s.left(time.Minute, key("team"), "rpm", never(20), 16)
	return s.err
}

func adjustsNothing(ctx context.Context, e *env) error {
	s := e.script(ctx)
	s.adjustOnce(0, e.onceOf("a", ""), "first", "")
	s.adjustOnce(0, e.onceOf("a", ""), "second", "first", debit(key("alice"), ask("rpm", never(10), 3)))
	s.admit(0, debit(key("alice"), ask("rpm", never(10), 10)))
	return s.err
}

func failedAdjustIsFree(ctx context.Context, e *env) error {
	s := e.script(ctx)
	s.do(func() error {
		_, err := role[zael.OnceStore](e).AdjustOnce(ctx, e.t0, []zael.Debit{debit(key("alice"), ask("rpm", never(10), bucket.MaxAmount+1))}, e.onceOf("a", ""), []byte("x"))
		if _, invalid := errors.AsType[*zael.ValidationError](err); !invalid {
			return fmt.Errorf("AdjustOnce of too much: got %w, want a *ValidationError", orNil(err))
		}
		return nil
	})
	s.adjustOnce(0, e.onceOf("a", ""), "first", "", debit(key("alice"), ask("rpm", never(10), 3)))
	s.left(0, key("alice"), "rpm", never(10), 7)
	return s.err
}

func takesOnceTogether(ctx context.Context, e *env) error {
	s := e.script(ctx)
	store := role[zael.OnceStore](e)
	firsts := make([]string, 8)
	err := together(len(firsts), func(i int) error {
		_, first, err := store.TakeOnce(ctx, e.t0, 0, []zael.Debit{debit(key("alice"), ask("rpm", never(10), 2))}, answering(e.onceOf("a", "h"), fmt.Sprint("answer ", i)))
		if firsts[i] = string(first); first == nil {
			firsts[i] = fmt.Sprint("answer ", i)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, first := range firsts {
		if first != firsts[0] {
			return fmt.Errorf("takes at once with one key: got the answers %q, want one", firsts)
		}
	}
	s.left(0, key("alice"), "rpm", never(10), 8)
	return s.err
}

func adjustsOnceTogether(ctx context.Context, e *env) error {
	s := e.script(ctx)
	store := role[zael.OnceStore](e)
	for n := range 4 {
		once := e.onceOf(fmt.Sprint("key ", n), "")
		firsts := make([]string, 6)
		err := together(len(firsts), func(i int) error {
			first, err := store.AdjustOnce(ctx, e.t0, []zael.Debit{debit(key("alice"), ask("rpm", never(100), 2)), debit(key("team"), ask("rpm", never(200), 3))},
				once, fmt.Append(nil, "answer ", i))
			if firsts[i] = string(first); first == nil {
				firsts[i] = fmt.Sprint("answer ", i)
			}
			return err
		})
		if err != nil {
			return err
		}
		for _, first := range firsts {
			if first != firsts[0] {
				return fmt.Errorf("adjusts at once with one key: got the answers %q, want one", firsts)
			}
		}
	}
	s.left(0, key("alice"), "rpm", never(100), 92)
	s.left(0, key("team"), "rpm", never(200), 188)
	return s.err
}

func answersComeBack(ctx context.Context, e *env) error {
	s := e.script(ctx)
	long := make([]byte, 16<<10)
	for i := range long {
		long[i] = byte(i * 7)
	}
	s.adjustOnce(0, e.onceOf("a", ""), string(long), "")
	s.adjustOnce(0, e.onceOf("a", ""), "x", string(long))
	s.takeOnce(0, answering(e.onceOf("b", "h"), string(long)), "", nil, debit(key("alice"), ask("rpm", never(10), 3)))
	s.takeOnce(0, answering(e.onceOf("b", "h"), "x"), string(long), nil, debit(key("alice"), ask("rpm", never(10), 3)))
	return s.err
}

func onceKeysApart(ctx context.Context, e *env) error {
	s := e.script(ctx)
	for _, key := range []string{"a", "A", "a/b", "a#b", "take/a", "end/a", "ä"} {
		s.adjustOnce(0, e.onceOf(key, ""), "first of "+key, "")
		s.adjustOnce(0, e.onceOf(key, ""), "x", "first of "+key)
	}
	return s.err
}

func onceKeysOfOthers(ctx context.Context, e *env) error {
	s := e.script(ctx)
	s.once(e.switches(0, zael.Scope{Entity: "alice"}, zael.Disabled), e.onceOf("a", "h"), false, nil)
	s.adjustOnce(0, e.onceOf("a", ""), "first", "")
	s.once(e.switches(0, zael.Scope{Entity: "alice"}, zael.Disabled), e.onceOf("a", "h"), true, nil)
	s.adjustOnce(0, e.onceOf("a", ""), "second", "first")
	return s.err
}

// extend extends the holder of debits that were taken, and wants it held until a time, or not held.
func (s *script) extend(after time.Duration, d zael.Debit, until time.Duration) {
	s.do(func() error {
		deadline, held, err := role[zael.OnceStore](s.e).Extend(s.ctx, s.e.t0.Add(after), d)
		if err != nil {
			return err
		}
		if held != (until > 0) {
			return fmt.Errorf("Extend at %v: got held %t, want %t", after, held, until > 0)
		}
		want := s.e.t0.Add(until) // a store may keep milliseconds, and its own clock
		if held && (deadline.Before(want.Add(-time.Second)) || deadline.After(want.Add(time.Second))) {
			return fmt.Errorf("Extend at %v: got the deadline %v, want %v", after, deadline, want)
		}
		return nil
	})
}

// held returns a debit of slots by a holder.
func held(holder string, n int64) zael.Debit {
	d := debit(key("alice"), ask("slots", slotsOf(3), n))
	d.Holder = holder
	return d
}

func extends(ctx context.Context, e *env) error {
	s := e.script(ctx)
	a, b := held("holder-a", 2), held("holder-b", 1)
	s.admit(0, a)
	s.admit(0, b)
	s.extend(50*time.Second, a, 110*time.Second)
	s.refuse(50*time.Second, held("holder-c", 1))
	s.admit(70*time.Second, held("holder-c", 1)) // that of b
	s.refuse(70*time.Second, held("holder-d", 1))
	s.extend(115*time.Second, a, 175*time.Second) // late, but nobody needed them
	s.refuse(120*time.Second, held("holder-d", 2))
	return s.err
}

func extendsNoOther(ctx context.Context, e *env) error {
	s := e.script(ctx)
	a, b := held("holder-a", 2), held("holder-b", 1)
	s.extend(0, a, 0)
	s.admit(0, a)
	s.admit(0, b)
	s.admit(70*time.Second, held("holder-c", 3))
	s.extend(70*time.Second, a, 0)
	s.extend(70*time.Second, b, 0)
	again := held("holder-a", 1)
	s.admit(140*time.Second, again)
	s.extend(141*time.Second, a, 0) // the slots of another take of that name
	s.extend(141*time.Second, again, 201*time.Second)
	again.Charges[0].Amount = -1
	s.adjustOnce(142*time.Second, e.onceOf("end", ""), "ended", "", again)
	s.extend(143*time.Second, again, 0)
	s.admit(143*time.Second, held("holder-d", 3))
	return s.err
}

// slotsOnce takes slots by a key, beside another limit and from two buckets.
func slotsOnce(ctx context.Context, e *env) error {
	s := e.script(ctx)
	mine := []zael.Debit{debit(key("alice"), ask("rpm", never(10), 4), ask("slots", slotsOf(3), 2)), debit(key("team"), ask("slots", slotsOf(2), 2))}
	for i := range mine {
		mine[i].Holder = "holder-a"
	}
	s.admit(0, held("holder-b", 1)) // so that a bucket is there
	s.takeOnce(0, answering(e.onceOf("a", "h"), "first"), "", nil, mine...)
	for i := range mine {
		d := mine[i]
		d.Charges = d.Charges[len(d.Charges)-1:]
		s.extend(50*time.Second, d, 110*time.Second)
		s.refuse(50*time.Second, zael.Debit{Key: d.Key, Holder: "holder-c", Charges: []zael.Charge{ask("slots", d.Charges[0].Definition, 1)}})
		for j := range mine[i].Charges {
			mine[i].Charges[j].Amount *= -1
		}
	}
	s.adjustOnce(55*time.Second, e.onceOf("end", ""), "ended", "", mine...)
	s.admit(55*time.Second, held("holder-c", 2))
	s.admit(55*time.Second, zael.Debit{Key: key("team"), Holder: "holder-c", Charges: []zael.Charge{ask("slots", slotsOf(2), 2)}})
	return s.err
}

// onceDone takes with a context that is done: what it has taken, a repetition tells.
func onceDone(ctx context.Context, e *env) error {
	s := e.script(ctx)
	done, cancel := context.WithCancel(ctx)
	cancel()
	_, first, err := role[zael.OnceStore](e).TakeOnce(done, e.t0, 0, []zael.Debit{debit(key("alice"), ask("rpm", never(10), 4))}, answering(e.onceOf("a", "h"), "first"))
	if first != nil {
		return fmt.Errorf("a first take: got the first answer %q (%w), want none", first, orNil(err))
	}
	_, first, err = role[zael.OnceStore](e).TakeOnce(ctx, e.t0, 0, []zael.Debit{debit(key("alice"), ask("rpm", never(10), 4))}, answering(e.onceOf("a", "h"), "second"))
	if err != nil {
		return err
	}
	if first != nil && string(first) != "first" {
		return fmt.Errorf("a repetition: got the first answer %q, want that of the first", first)
	}
	s.left(0, key("alice"), "rpm", never(10), 6)
	return s.err
}
