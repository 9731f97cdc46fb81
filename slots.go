package zael

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"slices"
	"sync"
	"time"
	"weak"

	"github.com/zeroae/zael/bucket"
)

// newHolder returns an ID for the slots of this process: 8 random characters.
func newHolder() string {
	var id [5]byte
	_, _ = rand.Read(id[:]) // never fails
	return base32.StdEncoding.EncodeToString(id[:])
}

// holdSlots notes in the debits of a whose slots they take.
func (l *Limiter) holdSlots(a *attempt) {
	holder := l.holder
	if a.detach != nil {
		holder = a.detach.lease.id
	}
	if holder == "" {
		return
	}
	for i := range a.debits {
		if hasSlots(a.debits[i].Charges) {
			a.debits[i].Holder = holder
		}
	}
}

func hasSlots(charges []Charge) bool {
	for i := range charges {
		if charges[i].Definition.Kind == bucket.Slots {
			return true
		}
	}
	return false
}

// holdings are the slots that leases of a Limiter hold. While there are any, a goroutine
// renews them.
type holdings struct {
	mu      sync.Mutex
	leases  map[*slotLease]bool
	entries map[slotKey]*slotEntry
	leaked  []*ledger // of leases that the garbage collector has found
	running bool      // the renewer
	next    time.Time // when it looks again
	closed  bool
	changed chan struct{} // receives when the renewer has to look
	stop    chan struct{} // closed by close
	renewer sync.WaitGroup
}

// A slotKey names an entry: what the holder has of a bucket since the entry was made.
type slotKey struct {
	key        Key
	generation uint64
}

// A slotEntry is what the Limiter knows of its entry as a holder in a bucket. Every write of
// the entry moves its deadline, so it is renewed only if there was none for a while.
type slotEntry struct {
	slotKey
	leases int           // that have slots of it
	hold   time.Duration // the shortest one
	acked  time.Time     // when the last write that was answered was sent
	tried  time.Time     // when the last renewal was sent
	lost   bool          // it was removed: others may have the slots
}

// due returns when the entry has to be renewed.
func (e *slotEntry) due() time.Time {
	switch {
	case !e.tried.After(e.acked):
		return e.acked.Add(e.hold / 4)
	case e.lost:
		return e.tried.Add(e.hold / 4)
	default: // the renewal was not answered: once more before the leases cease to be held
		return e.tried.Add(e.hold / 8)
	}
}

// held reports whether nobody else can have the slots.
func (e *slotEntry) held() bool { return !e.lost && time.Since(e.acked) < e.hold/2 }

// A slotLease is what a lease knows of the slots it holds.
type slotLease struct {
	lease   weak.Pointer[Lease] // so that it is found if nobody ends it
	entries []*slotEntry        // that have its slots
}

// signal has the renewer look again.
func (h *holdings) signal() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// remove ends the renewals for a lease.
func (h *holdings) remove(lease *slotLease) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(lease.entries)
	lease.entries = nil
	if delete(h.leases, lease); len(h.leases) == 0 && h.running {
		h.signal()
	}
}

// drop removes entries of which no lease has slots any more.
func (h *holdings) drop(entries []*slotEntry) {
	for _, e := range entries {
		if e.leases--; e.leases == 0 {
			delete(h.entries, e.slotKey)
		}
	}
}

// acknowledge notes that a write of an entry was answered that was sent at a time.
func (h *holdings) acknowledge(k slotKey, begun time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.entries[k]; e != nil && begun.After(e.acked) {
		e.acked = begun
	}
}

// adjusted notes that an adjust was answered that was sent at a time: what it released of an
// entry has moved its deadline, if the entry was there.
func (h *holdings) adjusted(debits []Debit, begun time.Time) {
	for i := range debits {
		for j := range debits[i].Charges {
			c := &debits[i].Charges[j]
			if c.Definition.Kind == bucket.Slots && c.Amount < 0 && c.State.Generation == c.Receipt.Generation {
				h.acknowledge(slotKey{debits[i].Key, c.Receipt.Generation}, begun)
			}
		}
	}
}

// close ends the renewals. What is held stays held until its hold ends.
func (h *holdings) close() {
	h.mu.Lock()
	if !h.closed && h.stop != nil {
		close(h.stop)
	}
	h.closed = true
	h.mu.Unlock()
	h.renewer.Wait()
}

// eachSlot calls f for the charges of slots that the lease holds.
func (le *Lease) eachSlot(f func(Key, *Charge)) {
	le.mu.Lock()
	defer le.mu.Unlock()
	le.eachSlotLocked(f)
}

func (le *Lease) eachSlotLocked(f func(Key, *Charge)) {
	if le.closed || le.ledger == nil {
		return
	}
	for i := range le.ledger.debits {
		eachSlot(&le.ledger.debits[i], f)
	}
}

// eachSlot calls f for the charges of a debit that have slots.
func eachSlot(d *Debit, f func(Key, *Charge)) {
	for j := range d.Charges {
		if c := &d.Charges[j]; c.Definition.Kind == bucket.Slots && c.Amount > 0 && !d.Bypass {
			f(d.Key, c)
		}
	}
}

// openSlots has the slots that a lease has just taken renewed, and released if the lease is
// never ended. The store was asked for them at begun.
func (le *Lease) openSlots(debits []Debit, begun time.Time) {
	var taken []slotKey
	for i := range debits {
		eachSlot(&debits[i], func(key Key, c *Charge) { taken = append(taken, slotKey{key, c.Receipt.Generation}) })
	}
	if len(taken) == 0 {
		return
	}
	le.mu.Lock()
	defer le.mu.Unlock()
	if le.closed {
		return
	}
	if le.tether == nil {
		le.tether = le.limiter.tether()
		le.tether.slots.limiter, le.tether.slots.ledger = le.limiter, le.ledger
	}
	if le.limiter.slotStore != nil {
		le.renewEntries(taken, begun)
	}
}

// renewEntries has the entries renewed that have the slots of the lease, which is locked.
// Those of acked were written by a call that was sent at begun.
func (le *Lease) renewEntries(acked []slotKey, begun time.Time) {
	l, h, g := le.limiter, &le.limiter.holdings, le.ledger
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	if h.leases == nil {
		h.leases, h.entries = map[*slotLease]bool{}, map[slotKey]*slotEntry{}
		h.changed, h.stop = make(chan struct{}, 1), make(chan struct{})
	}
	if g.slots == nil {
		g.slots = &slotLease{lease: weak.Make(le)}
		h.leases[g.slots] = true
	}
	before := g.slots.entries
	g.slots.entries = nil
	le.eachSlotLocked(func(key Key, c *Charge) {
		k := slotKey{key, c.Receipt.Generation}
		e := h.entries[k]
		if e == nil {
			e = &slotEntry{slotKey: k, hold: c.Definition.Period}
			h.entries[k] = e
		}
		if e.hold = min(e.hold, c.Definition.Period); !slices.Contains(g.slots.entries, e) {
			g.slots.entries = append(g.slots.entries, e)
			e.leases++
		}
	})
	h.drop(before)
	for _, k := range acked {
		if e := h.entries[k]; e != nil && begun.After(e.acked) {
			e.acked = begun
		}
	}
	switch {
	case !h.running:
		h.running = true
		h.renewer.Go(l.renewSlots)
	case slices.ContainsFunc(g.slots.entries, func(e *slotEntry) bool { return e.due().Before(h.next) }):
		h.signal()
	}
}

// Held reports whether the lease holds its slots: it has not been ended, others have not
// taken its slots after a time in which this process was silent, and the last answer to
// a write of them is less than half a hold old, so that they cannot have. A lease without
// slots holds them until it is ended. What to do about slots that are lost is for the
// caller to decide: the work goes on uncounted, and the slots are taken again if there is
// room.
func (le *Lease) Held() bool {
	if le.none() {
		return false
	}
	le.mu.Lock()
	defer le.mu.Unlock()
	if le.closed {
		return false
	}
	if le.ledger == nil || le.ledger.slots == nil {
		return true
	}
	h := &le.limiter.holdings
	h.mu.Lock()
	defer h.mu.Unlock()
	return !slices.ContainsFunc(le.ledger.slots.entries, func(e *slotEntry) bool { return !e.held() })
}

// releaseSlots gives back at once what a lease has recorded to be released.
func (le *Lease) releaseSlots(amounts Amounts) error {
	le.mu.Lock()
	var debits []Debit
	if (le.slots || le.ledger != nil) && !le.closed {
		if debits = le.expand().takeReleased(amounts); le.ledger.slots != nil {
			le.renewEntries(nil, time.Time{})
		}
	}
	le.mu.Unlock()
	err := le.limiter.adjust(context.Background(), debits)
	if err != nil && le.limiter.admitsUnavailable(le.mode, err) {
		return nil
	}
	return err
}

// takeReleased takes the slots of accounts out of the ledger that are used no more, and
// returns the debits that release them.
func (g *ledger) takeReleased(amounts Amounts) []Debit {
	var debits []Debit
	for i := range g.debits {
		d := &g.debits[i]
		out := Debit{Key: d.Key, Holder: d.Holder, Bypass: d.Bypass}
		for k := range g.accounts {
			acc := &g.accounts[k]
			if _, named := amounts[acc.name]; !named || !acc.slots {
				continue
			}
			newestFirst(d.Charges, acc.name, acc.taken-acc.used, func(c *Charge, n int64) {
				out.Charges = append(out.Charges, Charge{Name: c.Name, Definition: c.Definition, Amount: -n, Receipt: c.Receipt})
				c.Amount -= n
			})
		}
		if len(out.Charges) > 0 {
			debits = append(debits, out)
		}
	}
	for i := range g.accounts {
		if acc := &g.accounts[i]; acc.slots {
			acc.taken = min(acc.taken, acc.used)
		}
	}
	return debits
}
