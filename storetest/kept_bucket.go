package storetest

import (
	"maps"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// A keptBucket is a bucket of keptLimits, and slots with their holders.
type keptBucket struct {
	h       *horizon
	limits  map[string]*keptLimit
	slots   map[string]bucket.Definition
	holders map[string]*keptHolder
	lives   *int // how many holders there have been
}

// A keptHolder has slots until its deadline.
type keptHolder struct {
	life     int    // tells it from one of the same name that was removed
	known    uint64 // its generation, as a store has it
	deadline time.Time
	counts   map[string]int64
}

func newKeptBucket(h *horizon) *keptBucket {
	return &keptBucket{
		h: h, limits: map[string]*keptLimit{}, slots: map[string]bucket.Definition{},
		holders: map[string]*keptHolder{}, lives: new(int),
	}
}

func (b *keptBucket) clone() *keptBucket {
	next := &keptBucket{h: b.h, limits: map[string]*keptLimit{}, slots: maps.Clone(b.slots), holders: map[string]*keptHolder{}, lives: b.lives}
	for name, k := range b.limits {
		limit := *k
		next.limits[name] = &limit
	}
	for id, holder := range b.holders {
		next.holders[id] = &keptHolder{holder.life, holder.known, holder.deadline, maps.Clone(holder.counts)}
	}
	return next
}

// under is a limit under a definition; a new one if there is none.
func (b *keptBucket) under(name string, d bucket.Definition, at time.Time) *keptLimit {
	k := b.limits[name]
	if k == nil {
		limit := newKept(b.h, d, at)
		return &limit
	}
	limit := *k
	limit.forgot = b.full(name, at)
	limit.vague = limit.vague || limit.forgot
	if d.Rev == 0 {
		d.Rev = limit.def.Rev
	}
	if limit.def != d {
		limit.redefine(b.h, d, at)
	}
	return &limit
}

// held is how many slots are held by holders that are alive, or are a certain one. Others may
// have been removed.
func (b *keptBucket) held(name, own string, at time.Time) (n int64) {
	for id, holder := range b.holders {
		if id == own || holder.deadline.After(at) {
			n += holder.counts[name]
		}
	}
	return n
}

// hasRoom reports whether the slots of a charge can be taken.
func (b *keptBucket) hasRoom(c *zael.Charge, own string, at time.Time) bool {
	return c.Amount == 0 || c.Definition.Flags&bucket.Soft != 0 || b.held(c.Name, own, at)+c.Amount <= c.Definition.Burst
}

// free is the time until n slots are free if nobody renews.
func (b *keptBucket) free(c *zael.Charge, own string, at time.Time) time.Duration {
	switch {
	case b.hasRoom(c, own, at):
		return 0
	case c.Amount > c.Definition.Burst:
		return bucket.Never
	}
	var deadlines []time.Time
	for _, holder := range b.holders {
		deadlines = append(deadlines, holder.deadline)
	}
	slices.SortFunc(deadlines, time.Time.Compare)
	for _, d := range deadlines {
		n := int64(0)
		for _, holder := range b.holders {
			if holder.deadline.After(d) {
				n += holder.counts[c.Name]
			}
		}
		if n+c.Amount <= c.Definition.Burst {
			return max(0, d.Sub(at))
		}
	}
	panic("slots that nobody holds are not free")
}

// take is the bucket after a take, or the name of a limit that does not fit.
func (b *keptBucket) take(d zael.Debit, at time.Time, ahead time.Duration) (next *keptBucket, tight string) {
	next = b.clone()
	for i := range d.Charges {
		c := &d.Charges[i]
		if c.Definition.Kind == bucket.Slots {
			if !b.hasRoom(c, d.Holder, at) {
				tight = c.Name
			}
			continue
		}
		k := next.under(c.Name, c.Definition, at)
		if !k.fits(b.h, at, at.Add(ahead), c.Amount) {
			tight = c.Name
		}
		k.charge(b.h, at, c.Amount)
		if c.Amount > 0 || b.limits[c.Name] != nil {
			next.limits[c.Name] = k
		}
	}
	if tight == "" {
		next.takeSlots(d, at)
	}
	return next, tight
}

func (b *keptBucket) takeSlots(d zael.Debit, at time.Time) {
	touched := false
	for i := range d.Charges {
		c := &d.Charges[i]
		if c.Definition.Kind != bucket.Slots {
			continue
		}
		b.slots[c.Name] = c.Definition
		own := b.holders[d.Holder]
		if own == nil {
			*b.lives++
			own = &keptHolder{life: *b.lives, counts: map[string]int64{}}
			b.holders[d.Holder] = own
		}
		own.counts[c.Name] += c.Amount
		b.bury(c, d.Holder, at)
		touched = true
	}
	if touched {
		b.live(d.Holder, at)
	}
}

// bury removes the dead that must have been in the way of a take. Others may have been removed
// with them, or before.
func (b *keptBucket) bury(c *zael.Charge, own string, at time.Time) {
	if c.Definition.Flags&bucket.Soft != 0 {
		return // nothing is in the way
	}
	held := b.held(c.Name, own, at)
	maps.DeleteFunc(b.holders, func(id string, holder *keptHolder) bool {
		n := holder.counts[c.Name]
		return id != own && !holder.deadline.After(at) && n > 0 && held+n > c.Definition.Burst
	})
}

// live moves the deadline of a holder, or removes it if it holds nothing.
func (b *keptBucket) live(id string, at time.Time) {
	own, hold := b.holders[id], time.Duration(0)
	for name, n := range own.counts {
		if n > 0 {
			hold = max(hold, b.slots[name].Period)
		}
	}
	if hold == 0 {
		delete(b.holders, id)
		return
	}
	deadline := at.Add(hold)
	if least := own.deadline.Add(time.Millisecond); !own.deadline.IsZero() && least.After(deadline) {
		deadline = least
	}
	own.deadline = deadline
}

// release gives slots of a lease back.
func (b *keptBucket) release(name, holder string, life int, n int64, at time.Time) {
	own := b.holders[holder]
	if own == nil || own.life != life {
		return
	}
	own.counts[name] -= min(n, own.counts[name])
	b.live(holder, at)
}

// full reports whether nothing of a limit is used.
func (b *keptBucket) full(name string, at time.Time) bool {
	k := b.limits[name]
	if k == nil {
		return true
	}
	now := k.seen(b.h, at)
	return now.full(b.h)
}
