package zael

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"runtime"
	"sync"
	"sync/atomic"
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
			a.debits[i].Holder, a.begun = holder, time.Now()
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

// holdings are the leases of a Limiter that hold slots. While there are any, a goroutine
// renews them.
type holdings struct {
	mu      sync.Mutex
	leases  map[*slotLease]bool
	leaked  []*ledger // of leases that the garbage collector has found
	running bool      // the renewer
	closed  bool
	changed chan struct{} // receives when there is a lease with a shorter hold, or none any more
	stop    chan struct{} // closed by close
	renewer sync.WaitGroup
}

// add has the slots of a lease renewed until remove.
func (h *holdings) add(l *Limiter, lease *slotLease) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	if h.leases == nil {
		h.leases, h.changed, h.stop = map[*slotLease]bool{}, make(chan struct{}, 1), make(chan struct{})
	}
	h.leases[lease] = true
	if !h.running {
		h.running = true
		h.renewer.Go(l.renewSlots)
		return
	}
	h.signal()
}

func (h *holdings) signal() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

func (h *holdings) remove(lease *slotLease) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if delete(h.leases, lease); len(h.leases) == 0 {
		h.signal()
	}
}

// all returns the leases, as long as they can be reached.
func (h *holdings) all() []*Lease {
	h.mu.Lock()
	defer h.mu.Unlock()
	leases := make([]*Lease, 0, len(h.leases))
	for s := range h.leases {
		if lease := s.lease.Value(); lease != nil {
			leases = append(leases, lease)
		}
	}
	return leases
}

// shortestHold returns the shortest hold of the leases. If there are none the renewer has to
// end, as the next lease starts another one.
func (h *holdings) shortestHold() (hold time.Duration, some bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	hold = bucket.MaxHold
	for s := range h.leases {
		hold = min(hold, time.Duration(s.hold.Load()))
	}
	h.running = len(h.leases) > 0
	return hold, h.running
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

// A slotLease is what a lease knows of the slots it holds.
type slotLease struct {
	lease weak.Pointer[Lease] // so that it is found if nobody ends it
	acked time.Time           // the last time that all were taken or renewed began then
	hold  atomic.Int64        // the shortest one, in ns
	lost  bool                // others have taken them
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
		d := &le.ledger.debits[i]
		for j := range d.Charges {
			if c := &d.Charges[j]; c.Definition.Kind == bucket.Slots && c.Amount > 0 && !d.Bypass {
				f(d.Key, c)
			}
		}
	}
}

// lose notes that others have taken the slots.
func (le *Lease) lose() {
	le.mu.Lock()
	defer le.mu.Unlock()
	if s := le.ledger.slots; s != nil {
		s.lost = true
	}
}

// acknowledge notes that all slots of the lease were renewed, if they were: until then the
// lease counts as held for hold/2 after the last time.
func (le *Lease) acknowledge(r *renewal) {
	le.mu.Lock()
	defer le.mu.Unlock()
	if s := le.ledger.slots; s != nil && r.held && !r.silent {
		s.lost, s.acked = false, r.begun
	}
}

// openSlots has the slots of a new lease, or those that it has taken more, renewed, and
// released if it is never ended.
func (le *Lease) openSlots(begun time.Time) {
	hold := time.Duration(0)
	le.eachSlot(func(_ Key, c *Charge) {
		if hold == 0 || c.Definition.Period < hold {
			hold = c.Definition.Period
		}
	})
	if hold == 0 {
		return
	}
	le.mu.Lock()
	defer le.mu.Unlock()
	g := le.ledger
	if le.closed {
		return
	}
	if g.leak == (runtime.Cleanup{}) {
		g.leak = runtime.AddCleanup(le, leaked.end, leaked{le.limiter, g})
	}
	switch {
	case le.limiter.slotStore == nil:
	case g.slots == nil: // what it takes later says nothing about what it has
		g.slots = &slotLease{lease: weak.Make(le), acked: begun}
		g.slots.hold.Store(int64(hold))
		le.limiter.holdings.add(le.limiter, g.slots)
	default:
		g.slots.hold.Store(min(g.slots.hold.Load(), int64(hold)))
	}
}

// Held reports whether the lease holds its slots: it has not been ended, others have not
// taken its slots after a time in which this process was silent, and the last answer to
// a renewal is less than half a hold old, so that they cannot have. A lease without slots
// holds them until it is ended. What to do about slots that are lost is for the
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
	s := le.ledger.slots
	return !s.lost && time.Since(s.acked) < time.Duration(s.hold.Load())/2
}

// releaseSlots gives back at once what a lease has recorded to be released.
func (le *Lease) releaseSlots(amounts Amounts) error {
	le.mu.Lock()
	var debits []Debit
	if (le.slots || le.ledger != nil) && !le.closed {
		le.ledger = le.expanded()
		debits = le.ledger.takeReleased(amounts)
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
		for j := range d.Charges {
			c := &d.Charges[j]
			acc := g.account(c.Name)
			if _, named := amounts[c.Name]; !named || !acc.slots || c.Amount == 0 {
				continue
			}
			if n := min(acc.taken-acc.used, c.Amount); n > 0 {
				out.Charges = append(out.Charges, Charge{Name: c.Name, Definition: c.Definition, Amount: -n, Receipt: c.Receipt})
				c.Amount -= n
			}
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
