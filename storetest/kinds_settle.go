package storetest

import (
	"context"
	"fmt"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// adjust settles a lease, or charges and redefines limits.
func (w *kindsWalk) adjust(ctx context.Context) error {
	if len(w.leases) > 0 && w.rng.IntN(4) > 0 {
		i := w.rng.IntN(len(w.leases))
		l := w.leases[i]
		if w.settleLease(l); l.left == 0 {
			w.leases = append(w.leases[:i], w.leases[i+1:]...)
		}
		return w.adjusted(ctx, l)
	}
	k := w.key(w.rng.IntN(2))
	b := w.bucket(k)
	d := zael.Debit{Key: k, Holder: w.holder()}
	for _, c := range w.charges() {
		if c.Definition.Kind == bucket.Slots || c.Definition.Flags&lifts != 0 && (b.limits[c.Name] == nil || b.full(c.Name, w.now)) {
			continue // a limit that is blocked before it was used has no numbers
		}
		d.Charges = append(d.Charges, c)
	}
	if len(d.Charges) == 0 {
		return nil
	}
	w.avoidStale([]zael.Debit{d})
	_, err := w.e.adjust(ctx, w.now, d)
	w.logf("Adjust %s: %v", kindsText([]zael.Debit{d}), orNil(err))
	if err != nil {
		return err
	}
	for _, c := range d.Charges {
		if b.limits[c.Name] == nil && c.Amount == 0 {
			continue
		}
		limit := b.under(c.Name, c.Definition, w.now)
		limit.charge(w.h, w.now, c.Amount)
		b.limits[c.Name] = limit
	}
	return w.read(ctx, k)
}

// settleLease draws what a lease gives back, or charges more to its period.
func (w *kindsWalk) settleLease(l *keptLease) {
	n := l.left
	if w.rng.IntN(2) == 0 {
		n = 1 + w.rng.Int64N(l.left)
	}
	l.charge.Amount = -n
	if d := l.charge.Definition; (d.Kind == bucket.Quota || d.Kind == bucket.Session) && w.rng.IntN(4) == 0 {
		l.charge.Amount = n
		return
	}
	l.left -= n
}

// adjusted settles a lease.
func (w *kindsWalk) adjusted(ctx context.Context, l *keptLease) error {
	d := zael.Debit{Key: l.key, Holder: l.holder, Charges: []zael.Charge{l.charge}}
	if l.charge.Amount > 0 {
		w.avoidStale([]zael.Debit{d})
	}
	_, err := w.e.adjust(ctx, w.now, d)
	w.logf("settle %s: %v", kindsText([]zael.Debit{d}), orNil(err))
	if err != nil {
		return err
	}
	b, c := w.bucket(l.key), d.Charges[0]
	switch limit := b.limits[c.Name]; {
	case c.Definition.Kind == bucket.Slots:
		return w.released(ctx, l, -c.Amount)
	case limit == nil:
	case c.Amount < 0:
		limit.give(w.h, w.now, -c.Amount, l.receipt)
	default:
		limit = b.under(c.Name, c.Definition, w.now)
		limit.settle(w.h, w.now, c.Amount, l.receipt)
		b.limits[c.Name] = limit
	}
	return w.read(ctx, l.key)
}

// released compares what is held after a release of slots, by a holder that may have been
// removed if its deadline was past.
func (w *kindsWalk) released(ctx context.Context, l *keptLease, n int64) error {
	b := w.bucket(l.key)
	if own := b.holders[l.holder]; own == nil || own.life != l.life || own.deadline.After(w.now) {
		b.release(l.charge.Name, l.holder, l.life, n, w.now)
		return w.read(ctx, l.key)
	}
	removed := b.clone()
	delete(removed.holders, l.holder)
	b.release(l.charge.Name, l.holder, l.life, n, w.now)
	err := w.read(ctx, l.key)
	if err == nil {
		return nil
	}
	if w.buckets[l.key] = removed; w.read(ctx, l.key) == nil {
		return nil
	}
	return err
}

// refill resets a limit or tops one up, if that is not full: a store may have forgotten
// what is full, and its definition.
func (w *kindsWalk) refill(ctx context.Context) error {
	admin, ok := w.e.store.(zael.AdminStore)
	k := w.key(w.rng.IntN(2))
	name := []string{"a", "b", "c"}[w.rng.IntN(3)]
	b := w.bucket(k)
	limit := b.limits[name]
	if !ok || limit == nil || b.full(name, w.now) {
		return nil
	}
	n := 1 + w.rng.Int64N(limit.def.Burst)
	edit := w.e.topsUp(w.now.Sub(w.e.t0), k, zael.Amounts{name: n})
	reset := w.rng.IntN(2) == 0
	if reset {
		edit = w.e.resets(w.now.Sub(w.e.t0), k, name)
	}
	w.e.see(w.now)
	result, err := admin.Administer(ctx, w.now, edit, zael.Once{})
	w.logf("%s of %s of %s by %d: %v, %v", edit.Event.Action, name, quote(k.Entity), n, result.Available, orNil(err))
	switch lifted := limit.def.Flags&lifts != 0; {
	case reset && err == nil:
		limit.reset(w.h, w.now)
	case !reset && lifted:
		if err == nil {
			return fmt.Errorf("top-up of %q, %s: got it done, want an error", name, kindText(limit.def))
		}
		return w.read(ctx, k)
	case err == nil:
		limit.topUp(w.h, w.now, n)
	default:
		return err
	}
	now := limit.at(w.h, w.now)
	if got := result.Available[name]; got != now.available() {
		return fmt.Errorf("%s of %q: got %d available, want %d", edit.Event.Action, name, got, now.available())
	}
	return w.read(ctx, k)
}

// read compares buckets with what they should be.
func (w *kindsWalk) read(ctx context.Context, keys ...zael.Key) error {
	_, got, err := w.e.read(ctx, w.now, keys...)
	if err != nil {
		return err
	}
	for _, g := range got {
		if err := w.compare(w.bucket(g.Key), g); err != nil {
			return fmt.Errorf("%s: %w", keyText(g.Key), err)
		}
	}
	return nil
}

func (w *kindsWalk) compare(b *keptBucket, got zael.Bucket) error {
	at := mustAt(w.now)
	for _, l := range got.Limits {
		slots := l.State.Definition.Kind == bucket.Slots
		if _, known := b.slots[l.Name]; slots && known {
			continue
		}
		if !slots && b.limits[l.Name] != nil {
			continue
		}
		if !l.State.Full(at) {
			return fmt.Errorf("%q, which nobody has used: got %d available of %s", l.Name, l.State.Available(at), kindText(l.State.Definition))
		}
	}
	for name, d := range b.slots {
		s := named(got, name, true)
		free := d.Burst - b.held(name, "", w.now)
		if s.Absent() {
			s.Definition = d // nobody holds any
		}
		if s.Available(at) != free {
			return fmt.Errorf("slots %q: got %d available of %s, want %d of %d", name, s.Available(at), kindText(s.Definition), free, d.Burst)
		}
	}
	for name, k := range b.limits {
		if err := w.compareLimit(k, named(got, name, false)); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
	return nil
}

// named is a limit of a bucket, which slots may have the name of.
func named(b zael.Bucket, name string, slots bool) bucket.State {
	for _, l := range b.Limits {
		if l.Name == name && (l.State.Definition.Kind == bucket.Slots) == slots {
			return l.State
		}
	}
	return bucket.State{}
}

// compareLimit compares a limit with what it should be. One that is full may have been
// forgotten, and its revision with it.
func (w *kindsWalk) compareLimit(k *keptLimit, got bucket.State) error {
	at := mustAt(w.now)
	now := k.at(w.h, w.now)
	full := now.full(w.h)
	if got.Absent() {
		if !full {
			return fmt.Errorf("got none, want %d available of %s", now.available(), kindText(now.def))
		}
		k.def.Rev = 0
		return nil
	}
	if full && got.Full(at) { // under whatever definition
		k.def.Rev = got.Definition.Rev
		return nil
	}
	d := got.Definition
	if k.forgot && d.Rev == 0 {
		k.def.Rev, now.def.Rev = 0, 0
	}
	k.forgot = false
	if d.Capacity = now.def.Capacity; d != now.def {
		return fmt.Errorf("got it under %s, want %s", kindText(d), kindText(now.def))
	}
	if a := got.Available(at); a != now.available() {
		return fmt.Errorf("got %d available of %s, want %d", a, kindText(d), now.available())
	}
	if start, _, on := got.Period(at); on && k.vague && k.def.Kind == bucket.Session && !now.begun.IsZero() {
		if k.vague = false; start.Time().Equal(k.anew) { // the store's choice
			k.begun, k.last = k.anew, k.anew
			now.begun = k.begun
		}
	}
	return w.comparePeriod(&now, got)
}

func (w *kindsWalk) comparePeriod(now *keptLimit, got bucket.State) error {
	if now.def.Kind != bucket.Session {
		return nil
	}
	start, end, on := got.Period(mustAt(w.now))
	if on == now.begun.IsZero() || on && (!start.Time().Equal(now.begun) || end.Time().Sub(now.begun) != now.def.Period) {
		return fmt.Errorf("session from %s to %s, on: %v; want it from %s, on: %v", clock(start.Time()), clock(end.Time()), on, clock(now.begun), !now.begun.IsZero())
	}
	return nil
}
