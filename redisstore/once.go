package redisstore

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/storearg"
)

// Fields of the hash of a once-key.
const (
	onceIDField     = "i" // the id of the write that used it
	onceHashField   = "h"
	onceUntilField  = "u" // in ns after 1970
	onceAnswerField = "a"
)

// An onceWrite is the part of a write that is made once. Its keys are looked at with the
// buckets, in one step; in a cluster they are marks in the buckets' slot: see onceapart.go.
type onceWrite struct {
	key    string // "": the write is made whenever it is asked for
	hash   string
	any    bool   // the hash does not matter
	unless string // the key of an end, or ""

	expected string // with this id as its last write unless does not count
	now      time.Time
	until    time.Time
	answer   func(at time.Time, debits []zael.Debit) []byte

	fresh  bool
	was    [2]string // the ids with which key and unless were last seen, if they are too old to count
	first  []byte    // what was kept with the key
	failed error     // instead of the write
}

// newOnce returns the part of a write with a key, checked.
func (s *Store) newOnce(now time.Time, once *zael.Once) (*onceWrite, error) {
	o := &onceWrite{hash: once.Hash, now: now, until: once.Until}
	if once.Key == "" {
		return o, nil
	}
	if err := storable.Name("Once.Key", once.Key); err != nil {
		return nil, err
	}
	if _, err := bucket.At(once.Until); err != nil {
		return nil, storearg.Invalid("Once.Until", once.Until, err.Error())
	}
	o.key = s.keys.once(once.Key)
	return o, nil
}

// names are the hashes that are looked at.
func (o *onceWrite) names() (names []string) {
	for _, name := range []string{o.key, o.unless} {
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}

// require makes it a condition of a write that the keys are not known.
func (o *onceWrite) require(w *writeScript) {
	for i, name := range []string{o.key, o.unless} {
		if name != "" {
			w.require(name, onceIDField, o.was[i])
		}
	}
}

// keep adds to a write what is kept with the key.
func (o *onceWrite) keep(call *writeScript, w *write) {
	if o.key == "" {
		return
	}
	debits := make([]zael.Debit, len(w.parts))
	for i := range w.parts {
		p := &w.parts[i]
		debits[i] = zael.Debit{Key: p.key, Charges: slices.Clone(p.charges), Holder: p.holder, SettingsRev: p.settings, Bypass: p.bypass}
	}
	key := call.key(o.key)
	call.command("HSET", key,
		onceIDField, w.id, onceHashField, o.hash, onceUntilField, strconv.FormatInt(o.until.UnixNano(), 10), onceAnswerField, string(o.answer(o.now, debits)))
	call.command("PEXPIRE", key, strconv.FormatInt(keepUntil(o.until, o.now), 10))
}

// see notes the hashes that names names. It reports whether one of them decides the write.
func (o *onceWrite) see(hashes [][]string) (decided bool, err error) {
	o.fresh = true
	for i, name := range []string{o.key, o.unless} {
		if name == "" || len(hashes) == 0 {
			continue
		}
		fields := map[string]string{}
		for j := 0; j+1 < len(hashes[0]); j += 2 {
			fields[hashes[0][j]] = hashes[0][j+1]
		}
		hashes = hashes[1:]
		until := int64(0)
		if text, ok := fields[onceUntilField]; ok {
			if until, err = strconv.ParseInt(text, 10, 64); err != nil {
				return false, err
			}
		}
		o.was[i] = fields[onceIDField]
		switch {
		case o.was[i] == "" || until <= o.now.UnixNano(), name == o.unless && o.was[i] == o.expected:
			continue
		case name == o.unless:
			o.failed = zael.ErrLeaseClosed
		case fields[onceHashField] != o.hash && !o.any:
			o.failed = zael.ErrKeyUsed
		default:
			o.first = append([]byte{}, fields[onceAnswerField]...) // not nil
		}
		return true, nil
	}
	return false, nil
}

// decides reports whether a key that is known decides the write.
func (o *onceWrite) decides() bool { return o != nil && (o.failed != nil || o.first != nil) }

// TakeOnce implements zael.OnceStore.
func (s *Store) TakeOnce(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit, once zael.OnceTake) (at time.Time, first []byte, err error) {
	if !s.inflight.Begin() {
		return now, nil, errClosed
	}
	defer s.inflight.End()
	if err := s.check(ctx, debits, true); err != nil {
		return now, nil, err
	}
	now, instant, err := s.clock.Instant(ctx, now)
	if err != nil {
		return now, nil, err
	}
	o, err := s.newOnce(now, &once.Once)
	if err != nil {
		return now, nil, err
	}
	if once.Unless != "" {
		if err := storable.Name("OnceTake.Unless", once.Unless); err != nil {
			return now, nil, err
		}
		o.unless = s.keys.once(once.Unless)
	}
	o.answer = once.Answer
	if s.cluster {
		return s.takeOnceApart(ctx, now, instant, maxWait, debits, o)
	}
	at, err = s.takeTogether(ctx, now, instant, maxWait, debits, o)
	return at, o.first, err
}

// AdjustOnce implements zael.OnceStore.
func (s *Store) AdjustOnce(ctx context.Context, now time.Time, debits []zael.Debit, once zael.Once, answer []byte) (first []byte, err error) {
	if !s.inflight.Begin() {
		return nil, errClosed
	}
	defer s.inflight.End()
	if err := s.check(ctx, debits, false); err != nil {
		return nil, err
	}
	now, at, err := s.clock.Instant(ctx, now)
	if err != nil {
		return nil, err
	}
	o, err := s.newOnce(now, &once)
	if err != nil {
		return nil, err
	}
	if o.key == "" {
		return nil, storearg.Invalid("Once.Key", "", "is empty: name the change")
	}
	answer = slices.Clone(answer)
	o.any, o.answer = true, func(time.Time, []zael.Debit) []byte { return answer }
	if s.cluster {
		return s.adjustOnceApart(ctx, at, debits, o)
	}
	err = s.adjustTogether(ctx, at, debits, o)
	return o.first, err
}

// Extend implements zael.OnceStore.
func (s *Store) Extend(ctx context.Context, now time.Time, d zael.Debit) (deadline time.Time, held bool, err error) {
	if !s.inflight.Begin() {
		return deadline, false, errClosed
	}
	defer s.inflight.End()
	debits := []zael.Debit{d}
	if err := s.check(ctx, debits, false); err != nil {
		return deadline, false, err
	}
	_, at, err := s.clock.Instant(ctx, now)
	if err != nil {
		return deadline, false, err
	}
	w := newWrite(extend, at, 0, debits)
	outcome, err := s.applyTogether(ctx, w, func(done) {})
	if err != nil {
		return deadline, false, s.translateOwn(ctx, "writing a bucket", err)
	}
	if p := &w.parts[0]; p.held && outcome == coalesce.Applied {
		return p.deadline.Time(), true, nil
	}
	return deadline, false, nil
}
