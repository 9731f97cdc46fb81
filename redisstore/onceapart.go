package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/pause"
)

// In a cluster, a once-key and the buckets that it is about are in several slots. So what is done
// by a key has three steps, each of which is one write in one slot:
//
//  1. The key is claimed: it has the id of the claim, and what is to be done.
//  2. The buckets of each entity are written, with a mark beside them that has the id: that is done
//     once, whoever does it and however often.
//  3. The key gets the answer, if it still has the claim.
//
// What an adjust has claimed will be done: whoever finds the claim does steps 2 and 3. A take may
// come to nothing, and then is undone: what was taken is given back, with another mark, which makes
// a take that comes later do nothing. Whoever finds the claim of a take waits for it; when it is
// older than claimLasts, whose process may have died, he undoes it and claims the key himself. The
// process that made it, if it lives, then finds in step 3 that it has lost.
//
// An end need not be kept beside buckets: a take looks whether its lease has ended before it takes,
// and once more when it has, and then gives back. So it was made before the end, or not at all.

const (
	claimLasts = 2 * time.Second // how old the claim of a take may become: nobody takes for so long that lives

	claimBase = 5 * time.Millisecond // how long one waits before he looks at a claim again
	claimMost = 160 * time.Millisecond
)

// errLostClaim says that another process has undone a take.
var errLostClaim = errors.New("the claim was lost")

// aside runs what goes on when the caller has left.
func (s *Store) aside(ctx context.Context, do func(context.Context) error) error {
	done := make(chan error, 1)
	s.inflight.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoFor)
		defer cancel()
		done <- do(ctx)
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return s.translate(ctx, "writing by a key", ctx.Err())
	}
}

// takeOnceApart is TakeOnce in a cluster.
func (s *Store) takeOnceApart(ctx context.Context, now time.Time, at bucket.Instant, maxWait time.Duration, debits []zael.Debit, o *onceWrite) (time.Time, []byte, error) {
	t := &keyedTake{store: s, now: now, at: at, maxWait: maxWait, debits: cloned(debits), once: *o, begun: time.Now()}
	switch err := s.aside(ctx, t.run); {
	case err == nil && t.first != nil:
		return now, t.first, nil
	case err == nil, errors.Is(err, zael.ErrExceeded), errors.Is(err, zael.ErrStaleLimits):
		for i := range debits {
			copy(debits[i].Charges, t.debits[i].Charges)
		}
		return t.now, nil, err
	default:
		return now, nil, err
	}
}

// A keyedTake is a take by a key in a cluster.
type keyedTake struct {
	store   *Store
	now     time.Time
	at      bucket.Instant
	maxWait time.Duration
	debits  []zael.Debit
	once    onceWrite // as newOnce has made it
	begun   time.Time

	first []byte // what was kept with the key
}

// run takes, unless the key is known or the lease has ended.
func (t *keyedTake) run(ctx context.Context) error {
	if err := t.ended(ctx); err != nil {
		return err
	}
	if t.once.key == "" {
		return t.unlessEnded(ctx)
	}
	for n := 0; ; n++ {
		id := newID()
		c, err := t.store.claim(ctx, &t.once, id, claimsTake, t.debits)
		switch {
		case err != nil:
			return t.store.translateOwn(ctx, "claiming a key", err)
		case c == nil:
			if err = t.take(ctx, id); !errors.Is(err, errLostClaim) {
				return err
			}
		case c.op == "" && c.hash != t.once.hash:
			return zael.ErrKeyUsed
		case c.op == "":
			t.first = append([]byte{}, c.answer...)
			return nil
		default:
			if err := t.store.resolve(ctx, &t.once, c, t.aged()); err != nil {
				return t.store.translateOwn(ctx, "completing what a key has claimed", err)
			}
		}
		if pause.Backoff(ctx, min(n, 5), claimBase, claimMost) != nil {
			return t.store.translate(ctx, "waiting for a key", ctx.Err())
		}
	}
}

// aged returns the time as it has gone on since the call began.
func (t *keyedTake) aged() time.Time { return t.store.aged(t.at, t.begun).Time() }

// ended returns ErrLeaseClosed if the lease has ended that the take is for.
func (t *keyedTake) ended(ctx context.Context) error {
	if t.once.unless == "" {
		return nil
	}
	hashes, err := t.store.readHashes(ctx, "reading an end", []string{t.once.unless})
	if err != nil {
		return err
	}
	if c, _, err := parseClaim(hashes[0], t.once.now); err != nil || c == nil {
		return err
	}
	return zael.ErrLeaseClosed
}

// unlessEnded takes without a key.
func (t *keyedTake) unlessEnded(ctx context.Context) (err error) {
	if len(t.debits) == 0 {
		return nil
	}
	if t.store.apart(t.debits) {
		t.now, err = t.store.takeApart(ctx, t.now, t.at, t.maxWait, t.debits)
	} else {
		t.now, err = t.store.takeTogether(ctx, t.now, t.at, t.maxWait, t.debits, nil)
	}
	if err != nil {
		return err
	}
	if err = t.ended(ctx); err == nil {
		return nil
	}
	return errors.Join(err, t.store.undo(ctx, givingBack(t.debits), t.aged(), nil))
}

// take takes under a claim, and keeps the answer.
func (t *keyedTake) take(ctx context.Context, id string) error {
	err := t.takeAll(ctx, id)
	if err == nil {
		if err = t.ended(ctx); err == nil {
			return t.store.settle(ctx, &t.once, id, t.once.answer(t.now, t.debits))
		}
	}
	c := &claim{id: id, until: t.once.until.UnixNano(), op: claimsTake, debits: string(debitsText(t.debits))}
	if errors.Is(err, zael.ErrUnavailable) {
		return err // what was taken is not known: who repeats it finds the claim
	}
	if undone := t.store.undoClaim(ctx, &t.once, c, t.aged()); undone != nil {
		return t.store.translateOwn(ctx, "undoing a take", undone)
	}
	t.store.show(ctx, t.at, t.debits, err)
	return err
}

// takeAll takes from the buckets of one entity after the other.
func (t *keyedTake) takeAll(ctx context.Context, id string) error {
	for _, group := range byEntity(t.debits) {
		mark, undone := t.store.keys.marks(group[0].Key.Entity, id)
		o := &onceWrite{
			key: mark, unless: undone, any: true, now: t.once.now, until: t.once.until,
			answer: func(_ time.Time, debits []zael.Debit) []byte { return debitsText(debits) },
		}
		at, err := t.store.takeTogether(ctx, t.now, t.at, t.maxWait, group, o)
		if errors.Is(err, zael.ErrLeaseClosed) {
			return errLostClaim
		}
		if err != nil {
			return err
		}
		if t.now = at; o.first != nil {
			return fmt.Errorf("redisstore: %w: a claim has taken before", errDamaged)
		}
	}
	return nil
}

// show writes the states of buckets from which nothing is taken into the charges.
func (s *Store) show(ctx context.Context, at bucket.Instant, debits []zael.Debit, err error) {
	if !errors.Is(err, zael.ErrExceeded) && !errors.Is(err, zael.ErrStaleLimits) {
		return
	}
	names := make([]string, len(debits))
	for i := range debits {
		names[i] = s.keys.bucket(debits[i].Key)
	}
	hashes, failed := s.readHashes(ctx, "reading buckets", names)
	if failed != nil {
		return // the states are as they were when they were looked at
	}
	for i := range debits {
		switch r, failed := readRecord(hashes[i]); {
		case failed != nil:
		case errors.Is(err, zael.ErrStaleLimits):
			stale(&debits[i], r)
		default:
			refused(&debits[i], r, at, at)
		}
	}
}

// claim claims a key, or returns what has it.
func (s *Store) claim(ctx context.Context, o *onceWrite, id, op string, debits []zael.Debit) (*claim, error) {
	was := ""
	for range maxTurns {
		var call writeScript
		call.require(o.key, onceIDField, was)
		key := call.key(o.key)
		call.command("DEL", key)
		words := []string{
			onceIDField, id, onceHashField, o.hash, onceUntilField, strconv.FormatInt(o.until.UnixNano(), 10),
			claimOpField, op, claimDebitsField, string(debitsText(debits)), claimSinceField, strconv.FormatInt(o.now.UnixNano(), 10),
		}
		if op == claimsAdjust {
			words = append(words, onceAnswerField, string(o.answer(o.now, debits)))
		}
		call.command("HSET", key, words...)
		call.command("PEXPIRE", key, strconv.FormatInt(keepUntil(o.until, o.now), 10))
		a, _, err := s.run(ctx, editScript, call.keys, call.args(id), func() {})
		if err != nil {
			return nil, err
		}
		if a.verdict != notApplied {
			return nil, nil //nolint:nilnil // it is the caller's
		}
		c, last, err := parseClaim(a.hashes[0], o.now)
		if c != nil || err != nil {
			return c, err
		}
		was = last
	}
	return nil, zael.ErrContention
}

// settle keeps the answer with a key, if it has the claim with an id.
func (s *Store) settle(ctx context.Context, o *onceWrite, id string, answer []byte) error {
	var call writeScript
	call.require(o.key, onceIDField, id)
	key, next := call.key(o.key), newID()
	call.command("HSET", key, onceIDField, next, onceAnswerField, string(answer))
	call.command("HDEL", key, claimOpField, claimDebitsField, claimSinceField)
	return s.changeKey(ctx, &call, next)
}

// changeKey makes a write whose condition is that a claim is there.
func (s *Store) changeKey(ctx context.Context, call *writeScript, id string) error {
	a, _, err := s.run(ctx, editScript, call.keys, call.args(id), func() {})
	if err != nil {
		return s.translateOwn(ctx, "writing a key", err)
	}
	if a.verdict == notApplied {
		return errLostClaim
	}
	return nil
}

// resolve brings what has a key under way nearer to its end.
func (s *Store) resolve(ctx context.Context, o *onceWrite, c *claim, now time.Time) error {
	if c.op == claimsAdjust {
		_, err := s.complete(ctx, o, c)
		return err
	}
	if now.UnixNano()-c.since < int64(claimLasts) {
		return nil // it may be under way
	}
	return s.undoClaim(ctx, o, c, now)
}

// undoClaim undoes the take of a claim, and frees its key.
func (s *Store) undoClaim(ctx context.Context, o *onceWrite, c *claim, now time.Time) error {
	debits, err := parseDebits(c.debits)
	if err != nil {
		return err
	}
	for _, group := range byEntity(debits) {
		mark := &takenMark{until: time.Unix(0, c.until), now: o.now}
		mark.taken, mark.undone = s.keys.marks(group[0].Key.Entity, c.id)
		if err := s.undo(ctx, nil, now, mark); err != nil {
			return err
		}
	}
	var call writeScript
	call.require(o.key, onceIDField, c.id)
	call.command("DEL", call.key(o.key))
	if err := s.changeKey(ctx, &call, newID()); !errors.Is(err, errLostClaim) {
		return err
	}
	return nil // another one was faster
}

// A takenMark is where the buckets of an entity have that a claim has taken from them, and that
// this was undone.
type takenMark struct {
	taken, undone string // keys
	until, now    time.Time
}

// undo gives back. With a mark, that is what the mark says was taken, once; if nothing was, it will
// not be.
func (s *Store) undo(ctx context.Context, back []zael.Debit, now time.Time, mark *takenMark) error {
	at, err := bucket.At(now)
	if err != nil {
		return err
	}
	if mark == nil {
		for _, group := range byEntity(back) {
			_, err := s.apply(ctx, undoing(group, at))
			s.gaveBack(1, err == nil)
			if err != nil {
				return s.translateOwn(ctx, "giving back", err)
			}
		}
		return nil
	}
	for range maxTurns {
		hashes, err := s.readHashes(ctx, "reading what was taken", []string{mark.taken})
		if err != nil {
			return err
		}
		c, last, err := parseClaim(hashes[0], mark.now)
		if err != nil {
			return err
		}
		back = nil
		if c != nil {
			taken, err := parseDebits(c.answer)
			if err != nil {
				return err
			}
			back = givingBack(taken)
		}
		w := undoing(back, at)
		w.once = &onceWrite{
			key: mark.undone, unless: mark.taken, any: true, expected: last, now: mark.now, until: mark.until,
			answer: func(time.Time, []zael.Debit) []byte { return []byte("undone") },
		}
		w.once.was[1] = last
		if _, err = s.apply(ctx, w); !errors.Is(err, zael.ErrLeaseClosed) { // else it was taken just now
			s.gaveBack(int64(min(1, len(back))), err == nil)
			return err
		}
	}
	return zael.ErrContention
}

// undoing returns the write that gives back.
func undoing(back []zael.Debit, at bucket.Instant) *write {
	w := newWrite(coalesce.Undo, at, 0, back)
	for i := range w.parts {
		p := &w.parts[i]
		p.events = -1
		if !p.bypass {
			p.charges = slices.DeleteFunc(p.charges, func(c zael.Charge) bool { return c.Amount == 0 })
		}
	}
	return w
}

// adjustOnceApart is AdjustOnce in a cluster.
func (s *Store) adjustOnceApart(ctx context.Context, at bucket.Instant, debits []zael.Debit, o *onceWrite) (first []byte, err error) {
	mine, once := cloned(debits), *o
	begun := time.Now()
	err = s.aside(ctx, func(ctx context.Context) error {
		if err := s.adjustable(ctx, at, mine); err != nil {
			return err
		}
		for n := 0; ; n++ {
			id := newID()
			c, err := s.claim(ctx, &once, id, claimsAdjust, mine)
			switch {
			case err != nil:
				return s.translateOwn(ctx, "claiming a key", err)
			case c == nil:
				mine, err = s.complete(ctx, &once, &claim{id: id, until: once.until.UnixNano(), debits: string(debitsText(mine)), answer: string(once.answer(once.now, mine))})
				return err
			case c.op == "":
				first = append([]byte{}, c.answer...)
				return nil
			}
			if err := s.resolve(ctx, &once, c, s.aged(at, begun).Time()); err != nil {
				return s.translateOwn(ctx, "completing what a key has claimed", err)
			}
			if pause.Backoff(ctx, min(n, 5), claimBase, claimMost) != nil {
				return s.translate(ctx, "waiting for a key", ctx.Err())
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if first == nil {
		for i := range debits {
			copy(debits[i].Charges, mine[i].Charges)
		}
	}
	return first, nil
}

// adjustable returns an error if debits cannot be made, so that no claim is of such.
func (s *Store) adjustable(ctx context.Context, at bucket.Instant, debits []zael.Debit) error {
	names := make([]string, len(debits))
	for i := range debits {
		names[i] = s.keys.bucket(debits[i].Key)
	}
	hashes, err := s.readHashes(ctx, "reading buckets", names)
	if err != nil {
		return err
	}
	w := newWrite(coalesce.Adjust, at, 0, debits)
	for i := range w.parts {
		if w.parts[i].known, err = readRecord(hashes[i]); err != nil {
			return err
		}
		if _, _, err = w.parts[i].evaluate(); err != nil {
			return s.translateOwn(ctx, "writing buckets", err)
		}
	}
	return nil
}

// complete makes an adjust that has claimed a key, as far as that was not done. It returns the debits.
func (s *Store) complete(ctx context.Context, o *onceWrite, c *claim) ([]zael.Debit, error) {
	debits, err := parseDebits(c.debits)
	if err != nil {
		return nil, err
	}
	at, err := bucket.At(o.now)
	if err != nil {
		return nil, err
	}
	for _, group := range byEntity(debits) {
		mark, _ := s.keys.marks(group[0].Key.Entity, c.id)
		done := &onceWrite{
			key: mark, any: true, now: o.now, until: time.Unix(0, c.until),
			answer: func(time.Time, []zael.Debit) []byte { return []byte("adjusted") },
		}
		if err := s.adjustTogether(ctx, at, group, done); err != nil {
			return nil, err
		}
	}
	if err := s.settle(ctx, o, c.id, []byte(c.answer)); err != nil && !errors.Is(err, errLostClaim) { // or another one was faster
		return nil, err
	}
	return debits, nil
}
