package zael

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/varint"
)

// A lease as bytes: the form, the id, when it was acquired (µs since 1970) and for how long (µs), the
// principal, and the parts. A part is its flags, entity and resource, and its debits; a
// debit its flags, its entity unless that is the part's, the revision of its settings, how
// many limits it has, and its charges. A charge is 0, its name and its definition, or 1 and more:
// the place from 1 of an earlier charge with the same; then the amount, and the mark and
// generation of its receipt. What is kept with an idempotency key has also the instant of the
// take before the parts and, after the receipt of what is no plain rate, its state.
//
// A definition is 0 and the numbers of a plain rate, or 1 and a limit as text; then the capacity
// and the revision. Numbers are varints, signed ones zigzag; a text is its length and its
// bytes; generations are 8 bytes, little endian.
const (
	leaseForm   = 1
	mostLease   = 16 << 10 // bytes
	mostConsume = 8 << 10  // of a lease that takes more
	mostDebits  = 2        // of a part
)

const (
	partStored   = 1 << iota
	partDegraded // nothing was taken
)

const (
	debitBypass = 1 << iota
	debitParent // of another entity than the part's
)

var errLeaseBytes = errors.New("they are cut, or not of a lease that this version knows")

// MarshalBinary returns the lease as bytes, at most 16 KiB, without its decision.
func (d *DetachedLease) MarshalBinary() ([]byte, error) { return d.AppendBinary(nil) }

// AppendBinary appends what MarshalBinary returns.
func (d *DetachedLease) AppendBinary(b []byte) ([]byte, error) {
	if d == nil || d.id == "" {
		return nil, invalid("DetachedLease", nil, errNoDetached.Error())
	}
	return d.encode(b, nil), nil
}

// UnmarshalBinary reads what MarshalBinary returns.
func (d *DetachedLease) UnmarshalBinary(b []byte) error {
	if d == nil {
		return invalid("DetachedLease", nil, errNoDetached.Error())
	}
	read, err := decodeLease(b, false)
	if err != nil {
		return invalid("lease", nil, "cannot be read from its bytes: "+err.Error())
	}
	*d = *read
	return nil
}

// encode appends the lease; with taken, the instant of the take, also the states.
func (d *DetachedLease) encode(b []byte, taken *time.Time) []byte {
	b = append(b, leaseForm)
	b, _ = base64.RawURLEncoding.AppendDecode(b, []byte(d.id)) // newLeaseID or decodeLease made it
	b = binary.AppendVarint(b, d.acquired.UnixMicro())
	b = binary.AppendUvarint(b, uint64(d.expires.Sub(d.acquired)/time.Microsecond))
	b = appendText(b, d.principal)
	if taken != nil {
		at, _ := bucket.At(*taken) // the store has counted by it
		b = binary.AppendVarint(b, int64(at))
	}
	b = binary.AppendUvarint(b, uint64(len(d.parts)))
	for i := range d.parts {
		p := &d.parts[i]
		b = append(b, byte(btoi(p.stored)*partStored+btoi(p.degraded)*partDegraded))
		b = appendText(b, p.entity)
		b = appendText(b, p.resource)
		b = append(b, byte(len(p.debits)))
		for j := range p.debits {
			b = encodeDebit(b, &p.debits[j], p.limits[j], p.entity, taken != nil)
		}
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func encodeDebit(b []byte, d *Debit, limits int, entity string, states bool) []byte {
	parent := d.Key.Entity != entity
	b = append(b, byte(btoi(d.Bypass)*debitBypass+btoi(parent)*debitParent))
	if parent {
		b = appendText(b, d.Key.Entity)
	}
	b = binary.AppendUvarint(b, uint64(d.SettingsRev))
	b = binary.AppendUvarint(b, uint64(limits))
	b = binary.AppendUvarint(b, uint64(len(d.Charges)))
	for i := range d.Charges {
		c := &d.Charges[i]
		same := slices.IndexFunc(d.Charges[:i], func(o Charge) bool { return o.Name == c.Name && o.Definition == c.Definition })
		b = binary.AppendUvarint(b, uint64(same+1))
		if same < 0 {
			b = appendText(b, c.Name)
			b = encodeDefinition(b, c)
		}
		b = binary.AppendUvarint(b, uint64(c.Amount))
		b = binary.AppendVarint(b, c.Receipt.Mark)
		b = binary.LittleEndian.AppendUint64(b, c.Receipt.Generation)
		if states && !c.Definition.Plain() {
			b = binary.AppendVarint(b, c.State.Mark)
			b = binary.AppendVarint(b, c.State.Used)
		}
	}
	return b
}

func encodeDefinition(b []byte, c *Charge) []byte {
	def := &c.Definition
	if def.Plain() {
		b = append(b, 0)
		b = binary.AppendUvarint(b, uint64(def.Burst))
		b = binary.AppendUvarint(b, uint64(def.Amount))
		b = binary.AppendUvarint(b, uint64(def.Period))
	} else {
		b = append(b, 1)
		b = appendText(b, limitOf("l", *def).text())
	}
	b = binary.AppendUvarint(b, uint64(def.Capacity))
	return binary.AppendUvarint(b, uint64(def.Rev))
}

// decodeLease reads a lease; with taken, as it is kept with an idempotency key.
func decodeLease(b []byte, taken bool) (*DetachedLease, error) {
	in := leaseReader{varint.Reader{Rest: b}}
	if !taken && len(b) > mostLease || in.Byte() != leaseForm {
		return nil, errLeaseBytes
	}
	d := &DetachedLease{id: base64.RawURLEncoding.EncodeToString(in.Bytes(15))}
	d.acquired = time.UnixMicro(in.Signed()).UTC()
	age := in.Unsigned()
	if age > uint64(mostMaxAge/time.Microsecond) {
		return nil, errLeaseBytes
	}
	d.expires = d.acquired.Add(time.Duration(age) * time.Microsecond)
	d.principal = in.Text()
	at := time.Time{}
	if taken {
		at = bucket.Instant(in.Signed()).Time()
	}
	d.parts = make([]detachedPart, in.Count())
	for i := range d.parts {
		if err := in.part(&d.parts[i], d.id, taken); err != nil {
			return nil, err
		}
	}
	if in.Bad || len(in.Rest) > 0 || len(d.parts) == 0 || len(d.parts) > maxParts {
		return nil, errLeaseBytes
	}
	if taken {
		d.decision = d.decided(at)
	}
	return d, nil
}

// A leaseReader reads the parts of a lease.
type leaseReader struct{ varint.Reader }

func (r *leaseReader) part(p *detachedPart, id string, states bool) error {
	flags := r.Byte()
	p.stored, p.degraded = flags&partStored != 0, flags&partDegraded != 0
	p.entity, p.resource = r.Text(), r.Text()
	if r.Bad || flags > partStored|partDegraded {
		return errLeaseBytes
	}
	if err := errors.Join(checkEntity("entity", p.entity), checkResource("resource", p.resource)); err != nil {
		return err
	}
	n := int(r.Byte())
	if n > mostDebits || p.degraded != (n == 0) {
		return errLeaseBytes
	}
	p.debits = make([]Debit, n)
	for i := range p.debits {
		d := &p.debits[i]
		d.Key = Key{p.entity, p.resource}
		if err := r.debit(d, &p.limits[i], i > 0, states); err != nil {
			return err
		}
		if hasSlots(d.Charges) {
			d.Holder = id
		}
	}
	return nil
}

func (r *leaseReader) debit(d *Debit, limits *int, parent, states bool) error {
	flags := r.Byte()
	if parent != (flags&debitParent != 0) || flags > debitBypass|debitParent {
		return errLeaseBytes
	}
	d.Bypass = flags&debitBypass != 0
	if parent {
		d.Key.Entity = r.Text()
		if err := checkEntity("parent", d.Key.Entity); err != nil {
			return err
		}
	}
	d.SettingsRev = int64(r.Unsigned())
	*limits = r.Count()
	d.Charges = make([]Charge, r.Count())
	if *limits > len(d.Charges) || *limits > maxLimits || *limits == 0 || d.SettingsRev < 0 {
		return errLeaseBytes
	}
	for i := range d.Charges {
		c := &d.Charges[i]
		if err := r.charge(c, d.Charges[:i], i < *limits, states); err != nil {
			return err
		}
		sum := int64(0)
		for j := range d.Charges[:i+1] {
			if o := &d.Charges[j]; o.Name == c.Name {
				sum += o.Amount
			}
		}
		if sum < 0 || sum > bucket.MaxAmount {
			return errLeaseBytes
		}
	}
	return nil
}

// charge reads a charge, which is the first of its name or, after those, another one.
func (r *leaseReader) charge(c *Charge, before []Charge, first, states bool) error {
	same := r.Unsigned()
	switch {
	case r.Bad || same > uint64(len(before)):
		return errLeaseBytes
	case same > 0:
		c.Name, c.Definition = before[same-1].Name, before[same-1].Definition
	default:
		c.Name = r.Text()
		if err := r.definition(c); err != nil {
			return err
		}
	}
	if known := slices.ContainsFunc(before, func(o Charge) bool { return o.Name == c.Name }); known == first {
		return errLeaseBytes
	}
	c.Amount = int64(r.Unsigned())
	c.Receipt.Mark = r.Signed()
	if generation := r.Bytes(8); len(generation) == 8 {
		c.Receipt.Generation = binary.LittleEndian.Uint64(generation)
	}
	if states && !c.Definition.Plain() {
		c.State = bucket.State{Definition: c.Definition, Mark: r.Signed(), Used: r.Signed(), Generation: c.Receipt.Generation}
	}
	if r.Bad || c.Amount < 0 || c.Amount > bucket.MaxAmount {
		return errLeaseBytes
	}
	return nil
}

func (r *leaseReader) definition(c *Charge) error {
	def := &c.Definition
	switch r.Byte() {
	case 0:
		def.Burst, def.Amount, def.Period = int64(r.Unsigned()), int64(r.Unsigned()), time.Duration(r.Unsigned())
	case 1:
		limit, err := ParseLimit("l=" + r.Text())
		if err != nil {
			return err
		}
		if *def, err = limit.Definition(); err != nil {
			return err
		}
	default:
		return errLeaseBytes
	}
	def.Capacity, def.Rev = int64(r.Unsigned()), int64(r.Unsigned())
	if r.Bad || !validName(c.Name) {
		return errLeaseBytes
	}
	if err := def.Validate(); err != nil {
		return fmt.Errorf("limit %s: %w", c.Name, err)
	}
	return nil
}

// decided returns how the limits stood just after the take at an instant, by the states and
// receipts of the charges.
func (d *DetachedLease) decided(at time.Time) Decision {
	m := &manyTake{at: at}
	for i := range d.parts {
		p := &d.parts[i]
		a := &attempt{debits: p.debits, own: p.limits[0]}
		for j := range p.debits {
			for k := range p.debits[j].Charges {
				c := &p.debits[j].Charges[k]
				a.charges = append(a.charges, *c)
				a.limits = append(a.limits, &bucket.Limit{Name: c.Name, Definition: c.Definition})
			}
		}
		m.attempts = append(m.attempts, a)
	}
	if len(m.attempts) > 1 {
		return m.decision(false)
	}
	decision, _ := m.attempts[0].decision(at, false, 0) // the instant is the store's own
	return decision
}
