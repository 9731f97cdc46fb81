package storetest_test

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// onces are what a reference keeps for the role OnceStore.
type onces struct {
	mu   sync.Mutex // of all that has a key
	kept map[string]onceKept
	defects

	paused int           // calls that have been in pause
	second chan struct{} // closed when there are two
}

type onceKept struct {
	zael.Once
	answer []byte
}

// defects are what broken stores do otherwise.
type defects struct {
	key         func(string) string
	until       func(zael.Once) time.Time
	answer      func([]byte) []byte
	apart       bool // looking for a key, and keeping it, are two steps
	anyHash     bool
	keepFailed  bool // of takes
	keepAlways  bool // of adjusts
	noUnless    bool
	noCharges   bool // an answer is made before the receipts
	noSlots     bool // receipts of slots are wrong
	onceOfAny   bool // a take without a key is once too
	firstAlone  bool // an adjust is of the first debit
	hashed      bool // a hash matters to an adjust
	noDebits    bool // an adjust without debits keeps no key
	administers bool // keys are those of administration too
	keepDone    bool // the key of a caller who has left is kept, though nothing was taken
}

func newOnces() onces {
	return onces{kept: map[string]onceKept{}, defects: defects{
		key:    func(key string) string { return key },
		until:  func(once zael.Once) time.Time { return once.Until },
		answer: bytes.Clone,
	}}
}

// look returns what is kept with a key, if that is known.
func (o *onces) look(key string, now time.Time) (onceKept, bool) {
	k, ok := o.kept[o.key(key)]
	return k, ok && o.until(k.Once).After(now)
}

// pause lets another come between, in a store that makes two steps of one: it waits for
// the second call, but not for ever.
func (o *onces) pause() {
	if !o.apart {
		return
	}
	if o.paused++; o.paused == 1 {
		o.second = make(chan struct{})
	}
	second := o.second
	if o.paused == 2 {
		close(second)
	}
	o.mu.Unlock()
	defer o.mu.Lock()
	patience := time.NewTimer(10 * time.Second)
	defer patience.Stop()
	select {
	case <-second:
	case <-patience.C:
	}
}

func (s *reference) TakeOnce(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit, once zael.OnceTake) (time.Time, []byte, error) {
	o := &s.onces
	o.mu.Lock()
	defer o.mu.Unlock()
	if once.Key != "" || o.onceOfAny {
		if k, known := o.look(once.Key, now); known && (k.Hash == once.Hash || o.anyHash) {
			return now, o.answer(k.answer), nil
		} else if known {
			return now, nil, zael.ErrKeyUsed
		}
	}
	if once.Unless != "" && !o.noUnless {
		if _, ended := o.look(once.Unless, now); ended {
			return now, nil, zael.ErrLeaseClosed
		}
	}
	if len(debits) == 0 {
		return now, nil, nil
	}
	o.pause()
	if o.keepDone && ctx.Err() != nil {
		o.kept[o.key(once.Key)] = onceKept{once.Once, []byte("first")}
	}
	var answer []byte
	if o.noCharges && once.Answer != nil {
		answer = once.Answer(now, debits)
	}
	at, err := s.Take(ctx, now, maxWait, debits)
	for i := range debits {
		for j := range debits[i].Charges {
			if c := &debits[i].Charges[j]; o.noSlots && once.Key != "" && c.Definition.Kind == bucket.Slots {
				c.Receipt.Generation++
			}
		}
	}
	if err == nil || o.keepFailed {
		if once.Answer != nil && answer == nil {
			answer = once.Answer(at, debits)
		}
		if once.Key != "" || o.onceOfAny {
			o.kept[o.key(once.Key)] = onceKept{once.Once, answer}
		}
	}
	return at, nil, err
}

func (s *reference) AdjustOnce(ctx context.Context, now time.Time, debits []zael.Debit, once zael.Once, answer []byte) ([]byte, error) {
	o := &s.onces
	o.mu.Lock()
	defer o.mu.Unlock()
	if k, known := o.look(once.Key, now); known {
		if o.hashed && k.Hash != once.Hash {
			return nil, zael.ErrKeyUsed
		}
		return o.answer(k.answer), nil
	}
	if o.administers {
		if known, ok := s.admin.once[once.Key]; ok && known.Until.After(now) {
			return []byte("another"), nil
		}
	}
	o.pause()
	if o.noDebits && len(debits) == 0 {
		return nil, nil
	}
	if o.firstAlone {
		debits = debits[:min(1, len(debits))]
	}
	if len(debits) > 0 {
		if _, err := s.Adjust(ctx, now, debits); err != nil && !o.keepAlways {
			return nil, err
		} else if err != nil {
			o.kept[o.key(once.Key)] = onceKept{once, bytes.Clone(answer)}
			return nil, err
		}
	}
	o.kept[o.key(once.Key)] = onceKept{once, bytes.Clone(answer)}
	return nil, nil
}

func (s *reference) Extend(ctx context.Context, now time.Time, d zael.Debit) (time.Time, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, err := s.at(now)
	if err != nil {
		return now, false, err
	}
	records := s.kinds.read([]zael.Debit{d})
	until, held := s.kinds.extend(&records[0], d.Charges, at)
	if held {
		s.kinds.records[d.Key] = &records[0]
	}
	return until.Time(), held, ctx.Err()
}

// Renew implements zael.SlotStore.
func (s *reference) Renew(ctx context.Context, now time.Time, d zael.Debit) (bool, error) {
	_, held, err := s.Extend(ctx, now, d)
	return held, err
}

// onceBroken is a store with defects in what it makes once.
func onceBroken(defect func(d *defects)) func() zael.Store {
	return func() zael.Store {
		s := newReference()
		defect(&s.onces.defects)
		return s
	}
}

// extending is a store that extends holders in its own way.
func extending(extend func(r *bucket.Record, charges []zael.Charge, at bucket.Instant) (bucket.Instant, bool)) func() zael.Store {
	return func() zael.Store {
		s := newReference()
		s.kinds.extend = extend
		return s
	}
}

func brokenOnces() []brokenStore {
	const (
		takes    = "OnceStore/a key takes once, and has the first answer"
		adjusts  = "OnceStore/a key adjusts once, and has the first answer"
		hash     = "OnceStore/a key of a take belongs to one take"
		failed   = "OnceStore/the key of a take that failed is free"
		comeBack = "OnceStore/answers of 16 KiB come back as they were"
		done     = "OnceStore/a done context: a take with a key is made, or its key is free"
	)
	never := func(zael.Once) time.Time { return time.Time{} }
	return []brokenStore{
		{
			name:  "once-keys are not kept",
			make:  onceBroken(func(d *defects) { d.until = never }),
			fails: []string{takes, adjusts, hash, comeBack, "OnceStore/an adjust without debits keeps its key", "OnceStore/nothing is taken after an end"},
		},
		{name: "any take has the key", make: onceBroken(func(d *defects) { d.anyHash = true }), fails: []string{hash}},
		{name: "the key of a refusal is kept", make: onceBroken(func(d *defects) { d.keepFailed = true }), fails: []string{failed}},
		{
			name:  "once-keys are kept for ever",
			make:  onceBroken(func(d *defects) { d.until = func(o zael.Once) time.Time { return o.Until.AddDate(1, 0, 0) } }),
			fails: []string{"OnceStore/a key of a take may be used again after its time"},
		},
		{
			name:  "once-keys are looked for and kept in two steps",
			make:  onceBroken(func(d *defects) { d.apart = true }),
			fails: []string{"OnceStore/one of many takes with a key takes", "OnceStore/one of many adjusts with a key is made, of all buckets"},
		},
		{
			name: "no key is a key",
			make: onceBroken(func(d *defects) {
				d.onceOfAny, d.until = true, func(zael.Once) time.Time { return time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC) }
			}),
			fails: []string{"OnceStore/without a key it takes each time"},
		},
		{
			name:  "ends are not looked for",
			make:  onceBroken(func(d *defects) { d.noUnless = true }),
			fails: []string{"OnceStore/nothing is taken after an end"},
		},
		{name: "answers are made before the take", make: onceBroken(func(d *defects) { d.noCharges = true }), fails: []string{"OnceStore/the answer has the receipts"}},
		{
			name:  "receipts of slots that were taken by a key are wrong",
			make:  onceBroken(func(d *defects) { d.noSlots = true }),
			fails: []string{"OnceStore/slots that were taken by a key are extended and released"},
		},
		{name: "an adjust belongs to one hash", make: onceBroken(func(d *defects) { d.hashed = true }), fails: []string{adjusts}},
		{
			name:  "the first debit is adjusted",
			make:  onceBroken(func(d *defects) { d.firstAlone = true }),
			fails: []string{adjusts, "OnceStore/one of many adjusts with a key is made, of all buckets"},
		},
		{name: "no debits, no key", make: onceBroken(func(d *defects) { d.noDebits = true }), fails: []string{"OnceStore/an adjust without debits keeps its key", comeBack}},
		{name: "the key of an adjust that failed is kept", make: onceBroken(func(d *defects) { d.keepAlways = true }), fails: []string{"OnceStore/the key of an adjust that failed is free"}},
		{
			name:  "answers are cut",
			make:  onceBroken(func(d *defects) { d.answer = func(b []byte) []byte { return b[:min(len(b), 16<<10-1)] } }),
			fails: []string{comeBack},
		},
		{
			name:  "once-keys are folded to lower case",
			make:  onceBroken(func(d *defects) { d.key = func(key string) string { return lower(zael.Key{Entity: key}).Entity } }),
			fails: []string{"OnceStore/once-keys that differ are different keys"},
		},
		{
			name:  "once-keys are those of administration",
			make:  onceBroken(func(d *defects) { d.administers = true }),
			fails: []string{"OnceStore/once-keys are apart from those of administration"},
		},
		{name: "a key of a caller who left is kept without its take", make: onceBroken(func(d *defects) { d.keepDone = true }), fails: []string{done}},
		{
			name: "an extension keeps the deadline",
			make: extending(func(r *bucket.Record, charges []zael.Charge, at bucket.Instant) (bucket.Instant, bool) {
				before := append([]bucket.Holder(nil), r.Holders...)
				until, held := r.Extend(charges, at)
				r.Holders = before
				return until, held
			}),
			fails: []string{"OnceStore/a holder is extended", "SlotStore/a holder is renewed", "OnceStore/timeline: 9, slots that are renewed and expire"},
		},
		{
			name: "an extension takes again",
			make: extending(func(r *bucket.Record, charges []zael.Charge, at bucket.Instant) (bucket.Instant, bool) {
				if until, held := r.Extend(charges, at); held {
					return until, held
				}
				outcome := r.Take(charges, at, 0, 1)
				r.Finish(outcome, charges, at)
				return at.Add(time.Minute), outcome == bucket.Fits
			}),
			fails: []string{"OnceStore/a holder that was removed is not extended", "SlotStore/a holder that was removed is not renewed, and takes again"},
		},
		{
			name: "an extension is for the hold of what it names",
			make: extending(func(r *bucket.Record, charges []zael.Charge, at bucket.Instant) (bucket.Instant, bool) {
				until, held := r.Extend(charges, at)
				for i := range r.Holders {
					if h := &r.Holders[i]; held && h.ID == r.Own {
						h.Deadline = at.Add(charges[0].Definition.Period)
					}
				}
				return until, held
			}),
			fails: []string{"SlotStore/a renewal is for the longest hold"},
		},
	}
}
