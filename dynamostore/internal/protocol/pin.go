package protocol

import (
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/schema"
)

// A Pinned is a take that is right for exactly the item that is known, so that what it leaves is known
// before it is written.
type Pinned struct {
	Update Update

	limits []limitUpdate
	slots  *slotsUpdate
	from   *Record
	id     uint64 // of the write
}

var _ coalesce.SlotStates = (*Pinned)(nil)

// Pin returns the take, or why it comes to nothing. The outcome is Applied if it fits,
// Refused or Stale; the error is that of an amount.
func (w *BucketWrite) Pin() (p Pinned, outcome coalesce.Outcome, err error) {
	d := w.draft()
	switch {
	case d.outOfRange != nil:
		return p, coalesce.Failed, d.outOfRange
	case d.stale:
		return p, coalesce.Stale, nil
	case !d.fits:
		return p, coalesce.Refused, nil
	}
	p = Pinned{Update: w.update(&d), limits: d.limits, slots: d.slots, from: w.known, id: w.ID}
	pin := "attribute_not_exists(#v)"
	if w.known != nil && w.known.version != "" {
		pin = "#v = :pin"
		p.Update.Values = append(p.Update.Values, Binding{":pin", Value{w.known.version, true}})
	}
	p.Update.Names["#v"] = schema.ItemVersion
	p.Update.Condition += " AND " + pin
	return p, coalesce.Applied, nil
}

// Birth returns the id of the write that made the item, or will make it.
func (p *Pinned) Birth() uint64 {
	if p.from == nil {
		return p.id
	}
	return p.from.birth
}

// State implements coalesce.SlotStates.
func (p *Pinned) State(name string) bucket.State {
	for i := range p.limits {
		if u := &p.limits[i]; u.name == name && !u.expected.Absent() {
			s := u.expected
			s.Generation += p.Birth()
			return s
		}
	}
	return p.from.State(name)
}

// SlotState implements coalesce.SlotStates.
func (p *Pinned) SlotState(name string) bucket.State {
	s := p.from.SlotState(name)
	if p.slots == nil {
		return s
	}
	s.Generation = p.slots.held.Generation
	for i := range p.slots.limits {
		if u := &p.slots.limits[i]; u.name == name {
			if u.takes {
				s.Definition, _, _ = parseDefinition(u.text)
			}
			s.Used += u.delta
		}
	}
	return s
}

// processID is how long the ID of a process is that holds slots. Other holders are leases that any
// process may write for: what one process knows of them is not all.
const processID = 8

// IsProcess reports whether a holder is a process.
func IsProcess(holder string) bool { return len(holder) <= processID }
