package zael

import (
	"time"

	"github.com/zeroae/zael/bucket"
)

// A ledger is what a lease took and used if it has several buckets or many limits, or
// took more than once.
type ledger struct {
	accounts []account
	debits   []Debit // the charges so far, merged, with receipts; each bucket's limits come first
	limits   [2]int  // how many limits each of the debits has
	own      int     // accounts of the entity's limits; the others are only the parent's

	slots *slotLease // nil if none are renewed
}

// An account is what was taken and used of one limit.
type account struct {
	name  string
	slots bool  // the lease has them until it ends: nothing is settled
	taken int64 // charged so far
	used  int64 // to be charged in the end
}

// newLedger returns a ledger of what was taken. It copies the debits.
func newLedger(debits []Debit) *ledger {
	g := new(ledger)
	for i, d := range debits {
		charges := append([]Charge(nil), d.Charges...)
		g.limits[i] = len(charges)
		d.Charges = charges
		g.debits = append(g.debits, d)
		for j := range charges {
			if i == 0 || g.account(charges[j].Name) == nil {
				g.open(charges[j].Name, charges[j].Amount, charges[j].Definition.Kind)
			}
		}
		if i == 0 {
			g.own = len(g.accounts)
		}
	}
	return g
}

// open begins the account of a limit with what was taken of it.
func (g *ledger) open(name string, taken int64, kind bucket.Kind) {
	g.accounts = append(g.accounts, account{name, kind == bucket.Slots, taken, taken})
}

func (g *ledger) account(name string) *account {
	for i := range g.accounts {
		if g.accounts[i].name == name {
			return &g.accounts[i]
		}
	}
	return nil
}

// add adds what a took of amounts; nothing if it has no debits.
func (g *ledger) add(a *attempt, amounts Amounts, at time.Time) {
	for i := range a.debits {
		g.debits[i].Charges = mergeCharges(append(g.debits[i].Charges, a.debits[i].Charges...), g.limits[i], at)
	}
	for name, n := range amounts {
		acc := g.account(name)
		if acc == nil {
			continue
		}
		if len(a.debits) > 0 {
			acc.taken += n
		}
		acc.used = min(acc.used+n, bucket.MaxAmount) // others may have added meanwhile
	}
}

// attempt returns one that takes amounts under the limits of the lease.
func (g *ledger) attempt(amounts Amounts) *attempt {
	a := &attempt{own: g.limits[0]}
	for i, d := range g.debits {
		for _, ch := range d.Charges[:g.limits[i]] {
			a.charges = append(a.charges, Charge{Name: ch.Name, Definition: ch.Definition, Amount: amounts[ch.Name]})
			a.limits = append(a.limits, &bucket.Limit{Name: ch.Name, Definition: ch.Definition})
		}
	}
	first := 0
	for i, d := range g.debits {
		end := first + g.limits[i]
		d.Charges = a.charges[first:end:end]
		a.debits = append(a.debits, d)
		first = end
	}
	return a
}

// undoDebits returns the debits that give back what a took.
func (a *attempt) undoDebits() []Debit {
	var debits []Debit
	for _, d := range a.debits {
		var charges []Charge
		for _, ch := range d.Charges {
			if ch.Amount > 0 {
				charges = append(charges, Charge{Name: ch.Name, Definition: ch.Definition, Amount: -ch.Amount, Receipt: ch.Receipt})
			}
		}
		if len(charges) > 0 {
			debits = append(debits, Debit{Key: d.Key, Holder: d.Holder, Charges: charges, Bypass: d.Bypass})
		}
	}
	return debits
}

// finalDebits returns what brings the buckets from what was taken to what was used. It
// gives back the newest charges first.
func (g *ledger) finalDebits() []Debit {
	var debits []Debit
	for i, d := range g.debits {
		var charges []Charge
		for _, ch := range d.Charges[:g.limits[i]] {
			acc := g.account(ch.Name)
			diff := acc.used - acc.taken
			if diff > 0 {
				charges = append(charges, Charge{Name: ch.Name, Definition: ch.Definition, Amount: diff, Receipt: lastReceipt(d.Charges, ch.Name)})
			}
			newestFirst(d.Charges, ch.Name, -diff, func(taken *Charge, n int64) {
				charges = append(charges, Charge{Name: ch.Name, Definition: ch.Definition, Amount: -n, Receipt: taken.Receipt})
			})
		}
		if len(charges) > 0 {
			debits = append(debits, Debit{Key: d.Key, Holder: d.Holder, Charges: charges, Bypass: d.Bypass})
		}
	}
	return debits
}

// newestFirst calls give with parts of the last n that charges took of a limit, and the charges
// that they are of.
func newestFirst(charges []Charge, name string, n int64, give func(taken *Charge, n int64)) {
	for i := len(charges) - 1; i >= 0 && n > 0; i-- {
		taken := &charges[i]
		if part := min(n, taken.Amount); taken.Name == name && part > 0 {
			give(taken, part)
			n -= part
		}
	}
}

// lastReceipt returns the receipt of the last charge that took anything of a limit. What is
// used beyond it counts in the period of that charge, if it is of a quota or session.
func lastReceipt(charges []Charge, name string) (r bucket.Receipt) {
	for i := range charges {
		if c := &charges[i]; c.Name == name && c.Amount > 0 {
			r = c.Receipt
		}
	}
	return r
}

// mergeCharges returns charges as fewer that give back the same, so that a lease which
// takes more very often keeps few. Charges are in order of time; the first name the
// limits.
func mergeCharges(charges []Charge, limits int, at time.Time) []Charge {
	now, err := bucket.At(at)
	if err != nil {
		return charges
	}
	kept := charges[:limits]
	for _, ch := range charges[limits:] {
		last := len(kept) - 1
		for kept[last].Name != ch.Name {
			last--
		}
		if !mergeCharge(&kept[last], &ch, now) {
			kept = append(kept, ch)
		}
	}
	clear(charges[len(kept):])
	return kept
}

// mergeCharge makes c one charge of both if that gives back the same: if their
// stretches (Mark − n, Mark] adjoin, or both have refilled and only count as usage,
// or one is empty. It reports whether it did.
func mergeCharge(c, later *Charge, now bucket.Instant) bool {
	d, a, b := &later.Definition, c.Receipt, later.Receipt
	if a.Generation != b.Generation || c.Amount > bucket.MaxAmount-later.Amount {
		return false
	}
	if !d.Plain() {
		return mergePeriods(c, later)
	}
	adjoin := b.Mark-later.Amount*d.Unit() == a.Mark
	refilled := a.Mark <= d.Drip(now) && b.Mark <= d.Drip(now)
	if c.Amount > 0 && later.Amount > 0 && !adjoin && !refilled {
		return false
	}
	if later.Amount > 0 {
		c.Receipt = b
	}
	c.Amount += later.Amount
	return true
}

// mergePeriods is mergeCharge for limits that are not plain rates. Charges of one period,
// and slots of one holder, have one receipt.
func mergePeriods(c, later *Charge) bool {
	if c.Receipt != later.Receipt && c.Amount > 0 && later.Amount > 0 {
		return false
	}
	if later.Amount > 0 {
		c.Receipt = later.Receipt
	}
	c.Amount += later.Amount
	return true
}
