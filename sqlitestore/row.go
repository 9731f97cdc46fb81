package sqlitestore

import (
	"cmp"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// A row is one bucket, with the usage of the hour in which it was last used.
type row struct {
	key    zael.Key
	id     int64 // 0: not in the file
	latest bucket.Instant
	hour   int64 // since 1970, of the usage; noHour: there is none
	events int64
	limits []limit

	keptHour int64 // hour as the file has it
	dirty    bool  // not yet written
	damaged  bool
}

const noHour = math.MinInt64

// A limit is one limit of a bucket.
type limit struct {
	name    string
	state   bucket.State
	used    int64 // net tokens in the hour
	counted bool  // used means something
}

func (r *row) find(name string) *limit {
	for i := range r.limits {
		if r.limits[i].name == name {
			return &r.limits[i]
		}
	}
	return nil
}

// state is a limit of the bucket; zero if there is none.
func (r *row) state(name string) bucket.State {
	if l := r.find(name); l != nil {
		return l.state
	}
	return bucket.State{}
}

// set keeps a state; of a limit that the row has not, only if it may add it.
func (r *row) set(name string, s *bucket.State, add bool) {
	l := r.find(name)
	if l == nil {
		if !add {
			return
		}
		r.limits = append(r.limits, limit{name: name})
		l = &r.limits[len(r.limits)-1]
	}
	l.state = *s
}

// fullAt is the first instant from at on at which all limits are full.
func (r *row) fullAt(at bucket.Instant) bucket.Instant {
	var wait time.Duration
	for i := range r.limits {
		s := &r.limits[i].state
		wait = max(wait, s.Wait(at, s.Definition.Burst))
	}
	return at.Add(wait)
}

// states are all limits in order of name.
func (r *row) states() []zael.LimitState {
	all := make([]zael.LimitState, len(r.limits))
	for i := range r.limits {
		all[i] = zael.LimitState{Name: r.limits[i].name, State: r.limits[i].state}
	}
	slices.SortFunc(all, func(a, b zael.LimitState) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// scan reads id, hour and state of a row of the table.
func (r *row) scan(v []driver.Value) error {
	r.id, _ = v[0].(int64)
	if hour, ok := v[1].(int64); ok {
		r.hour = hour
	}
	r.keptHour = r.hour
	state, _ := v[2].([]byte)
	return r.decode(state)
}

// The state of a bucket in the file begins with the version of its form. Then
// come the latest instant in ns after 2025, the acquires of the hour, and the
// limits after their number. A limit is its name after its length, a byte of
// flags, the definition (amount, burst, period, capacity, revision), the mark,
// the axis, and usage; the flags say which of them are left out and how the
// period is counted. Numbers are varints of package encoding/binary, signed ones
// zigzag; the axis has eight bytes, the lowest first.
const stateForm = 1

const (
	flagUsed     = 1 << iota // usage is counted
	flagBurst                // the burst is not the amount
	flagCapacity             // the capacity is not the lesser of both
	flagPeriod               // the period is in ns, and not in s
	flagRev                  // there is a revision
)

func (l *limit) flags() byte {
	d := &l.state.Definition
	var f byte
	for _, c := range []struct {
		is   bool
		flag byte
	}{
		{l.counted, flagUsed},
		{d.Burst != d.Amount, flagBurst},
		{d.Capacity != min(d.Burst, d.Amount), flagCapacity},
		{d.Period%time.Second != 0, flagPeriod},
		{d.Rev != 0, flagRev},
	} {
		if c.is {
			f |= c.flag
		}
	}
	return f
}

func (r *row) encode(b []byte) []byte {
	b = append(b, stateForm)
	b = binary.AppendVarint(b, int64(r.latest))
	b = binary.AppendVarint(b, r.events)
	b = binary.AppendUvarint(b, uint64(len(r.limits)))
	for i := range r.limits {
		b = r.limits[i].encode(b)
	}
	return b
}

func (l *limit) encode(b []byte) []byte {
	d, flags := &l.state.Definition, l.flags()
	b = binary.AppendUvarint(b, uint64(len(l.name)))
	b = append(b, l.name...)
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(d.Amount))
	if flags&flagBurst != 0 {
		b = binary.AppendUvarint(b, uint64(d.Burst))
	}
	if flags&flagPeriod != 0 {
		b = binary.AppendUvarint(b, uint64(d.Period))
	} else {
		b = binary.AppendUvarint(b, uint64(d.Period/time.Second))
	}
	if flags&flagCapacity != 0 {
		b = binary.AppendUvarint(b, uint64(d.Capacity))
	}
	if flags&flagRev != 0 {
		b = binary.AppendUvarint(b, uint64(d.Rev))
	}
	b = binary.AppendVarint(b, l.state.Mark)
	b = binary.LittleEndian.AppendUint64(b, l.state.Axis)
	if l.counted {
		b = binary.AppendVarint(b, l.used)
	}
	return b
}

var errDamaged = errors.New("the state of a bucket is damaged")

func (r *row) decode(b []byte) error {
	in := decoder{rest: b}
	if form := in.byte(); form != stateForm {
		return fmt.Errorf("%w: form %d: %w", errDamaged, form, zael.ErrUnavailable)
	}
	r.latest = bucket.Instant(in.signed())
	r.events = in.signed()
	n := in.unsigned()
	if n > uint64(len(in.rest)) {
		in.bad = true
		n = 0
	}
	r.limits = make([]limit, n)
	for i := range r.limits {
		l := &r.limits[i]
		l.decode(&in)
		if in.bad {
			break
		}
		if err := l.state.Definition.Validate(); err != nil {
			return fmt.Errorf("%w: %w: %w", errDamaged, err, zael.ErrUnavailable)
		}
	}
	if in.bad || len(in.rest) > 0 {
		return fmt.Errorf("%w: %w", errDamaged, zael.ErrUnavailable)
	}
	return nil
}

func (l *limit) decode(in *decoder) {
	d := &l.state.Definition
	l.name = string(in.bytes(in.unsigned()))
	flags := in.byte()
	d.Amount = int64(in.unsigned())
	d.Burst = d.Amount
	if flags&flagBurst != 0 {
		d.Burst = int64(in.unsigned())
	}
	period := int64(in.unsigned())
	if flags&flagPeriod == 0 {
		period *= int64(time.Second)
	}
	d.Period = time.Duration(period)
	d.Capacity = min(d.Burst, d.Amount)
	if flags&flagCapacity != 0 {
		d.Capacity = int64(in.unsigned())
	}
	if flags&flagRev != 0 {
		d.Rev = int64(in.unsigned())
	}
	l.state.Mark = in.signed()
	if axis := in.bytes(8); len(axis) == 8 {
		l.state.Axis = binary.LittleEndian.Uint64(axis)
	}
	if flags&flagUsed != 0 {
		l.counted, l.used = true, in.signed()
	}
}

// A decoder takes values off a slice; bad tells that there was one missing.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.rest)) {
		d.bad, d.rest = true, nil
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.bytes(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (d *decoder) unsigned() uint64 {
	v, n := binary.Uvarint(d.rest)
	return d.skip(v, n)
}

func (d *decoder) signed() int64 {
	v, n := binary.Varint(d.rest)
	return int64(d.skip(uint64(v), n))
}

func (d *decoder) skip(v uint64, n int) uint64 {
	if n <= 0 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}
