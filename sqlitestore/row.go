package sqlitestore

import (
	"cmp"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/rowusage"
	"github.com/zeroae/zael/internal/varint"
)

// A row is one bucket, with the usage of the hour in which it was last used.
type row struct {
	bucket.Record
	key    zael.Key
	id     int64 // 0 if it is not in the file
	used   rowusage.Limits
	hour   int64 // of the usage, since 1970; hourly.None if there is none
	events int64

	settingsRev int64 // the greatest revision of the settings that hold for the bucket

	fileHour int64 // hour in the file
	dirty    bool  // to be written
	damaged  bool  // the state in the file cannot be read
}

// idleAt returns the first instant, not before at, at which all limits are idle and the
// holds of all slots have ended.
func (r *row) idleAt(at bucket.Instant) bucket.Instant {
	var wait time.Duration
	for i := range r.Limits {
		s := &r.Limits[i].State
		wait = max(wait, s.WaitIdle(at))
	}
	idle := at.Add(wait)
	for i := range r.Holders {
		idle = max(idle, r.Holders[i].Deadline)
	}
	return idle
}

// states returns the limits as they stand at an instant, sorted by name.
func (r *row) states(at bucket.Instant) []zael.LimitState {
	all := r.View(at)
	slices.SortFunc(all, func(a, b zael.LimitState) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// scan reads the columns id, hour and state.
func (r *row) scan(v []driver.Value) error {
	r.id, _ = v[0].(int64)
	if hour, ok := v[1].(int64); ok {
		r.hour = hour
	}
	r.fileHour = r.hour
	state, _ := v[2].([]byte)
	return r.decode(state)
}

// The state of a bucket begins with stateForm, the version of this format. Then come
// the latest instant in ns after 2025, the acquires of the hour, the number of limits,
// and the limits. A limit is the length of its name, the name, a byte of flags, the
// definition (amount, burst, period, capacity, revision), the mark, the generation, and the
// usage: tokens, and acquires that left the limit overdrawn. The flags say which of these are left out, and the unit of the period.
// Numbers are varints of package encoding/binary, signed ones zigzag; the generation is
// eight bytes, little endian.
//
// A bucket that has another kind of limit than plain rates has kindsForm instead. Then a
// limit that is one has, after its revision, its kind, its flags, what is used (signed),
// and, for a quota, the cycle, day, time of day and zone of its calendar, or, for a rate, the
// number of windows of its schedule, and for each its days, from, to, times, burst, amount,
// period and zone. After the limits
// come the number of holders, and the holders: the length of the ID, the ID, the deadline
// (signed), the generation, the number of counts, and the counts: the length of the
// name, the name, the number.
const (
	stateForm = 1
	kindsForm = 2
)

const (
	flagUsed      = 1 << iota // there is usage
	flagBurst                 // the burst differs from the amount
	flagCapacity              // the capacity differs from the lesser of the two
	flagPeriod                // the period is in ns instead of s
	flagRev                   // there is a revision
	flagKind                  // it is not a plain rate
	flagOverdrawn             // acquires have left it overdrawn
)

func flagsOf(l *bucket.LimitState, u rowusage.Limit) byte {
	d := &l.State.Definition
	var f byte
	for _, c := range []struct {
		is   bool
		flag byte
	}{
		{u.Counted, flagUsed},
		{d.Burst != d.Amount, flagBurst},
		{d.Capacity != min(d.Burst, d.Amount), flagCapacity},
		{d.Period%time.Second != 0, flagPeriod},
		{d.Rev != 0, flagRev},
		{!d.Plain(), flagKind},
		{u.Overdrawn != 0, flagOverdrawn},
	} {
		if c.is {
			f |= c.flag
		}
	}
	return f
}

func (r *row) encode(b []byte) []byte {
	form := r.form()
	b = append(b, form)
	b = binary.AppendVarint(b, int64(r.Latest))
	b = binary.AppendVarint(b, r.events)
	b = binary.AppendUvarint(b, uint64(len(r.Limits)))
	for i := range r.Limits {
		b = encodeLimit(b, &r.Limits[i], r.used.At(i))
	}
	if form == kindsForm {
		b = encodeHolders(b, r.Holders)
	}
	return b
}

// form returns the least form that the bucket can be written in.
func (r *row) form() byte {
	if len(r.Holders) > 0 {
		return kindsForm
	}
	for i := range r.Limits {
		if !r.Limits[i].State.Definition.Plain() {
			return kindsForm
		}
	}
	return stateForm
}

func encodeLimit(b []byte, l *bucket.LimitState, u rowusage.Limit) []byte {
	d, flags := &l.State.Definition, flagsOf(l, u)
	b = binary.AppendUvarint(b, uint64(len(l.Name)))
	b = append(b, l.Name...)
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
	if flags&flagKind != 0 {
		b = encodeKind(b, &l.State)
	}
	b = binary.AppendVarint(b, l.State.Mark)
	b = binary.LittleEndian.AppendUint64(b, l.State.Generation)
	if u.Counted {
		b = binary.AppendVarint(b, u.Tokens)
	}
	if u.Overdrawn != 0 {
		b = binary.AppendVarint(b, u.Overdrawn)
	}
	return b
}

var errDamaged = errors.New("the state of a bucket is damaged")

func (r *row) decode(b []byte) error {
	in := decoder{varint.Reader{Rest: b}}
	form := in.Byte()
	if form != stateForm && form != kindsForm {
		return fmt.Errorf("%w: form %d: %w", errDamaged, form, zael.ErrUnavailable)
	}
	r.Latest = bucket.Instant(in.Signed())
	r.events = in.Signed()
	n := in.Unsigned()
	if n > uint64(len(in.Rest)) {
		in.Bad = true
		n = 0
	}
	r.Limits, r.used = make([]bucket.LimitState, n), make(rowusage.Limits, n)
	for i := range r.Limits {
		l := &r.Limits[i]
		in.limit(l, &r.used[i])
		if in.Bad {
			break
		}
		if err := l.State.Definition.Validate(); err != nil {
			return fmt.Errorf("%w: %w: %w", errDamaged, err, zael.ErrUnavailable)
		}
	}
	if form == kindsForm && !in.Bad {
		r.Holders = in.holders()
	}
	if in.Bad || len(in.Rest) > 0 {
		return fmt.Errorf("%w: %w", errDamaged, zael.ErrUnavailable)
	}
	return nil
}

// A decoder reads the parts of a row.
type decoder struct{ varint.Reader }

// limit reads a limit and its usage.
func (d *decoder) limit(l *bucket.LimitState, u *rowusage.Limit) {
	def := &l.State.Definition
	l.Name = string(d.Bytes(d.Unsigned()))
	flags := d.Byte()
	def.Amount = int64(d.Unsigned())
	def.Burst = def.Amount
	if flags&flagBurst != 0 {
		def.Burst = int64(d.Unsigned())
	}
	period := int64(d.Unsigned())
	if flags&flagPeriod == 0 {
		period *= int64(time.Second)
	}
	def.Period = time.Duration(period)
	def.Capacity = min(def.Burst, def.Amount)
	if flags&flagCapacity != 0 {
		def.Capacity = int64(d.Unsigned())
	}
	if flags&flagRev != 0 {
		def.Rev = int64(d.Unsigned())
	}
	if flags&flagKind != 0 {
		d.kind(&l.State)
	}
	l.State.Mark = d.Signed()
	if generation := d.Bytes(8); len(generation) == 8 {
		l.State.Generation = binary.LittleEndian.Uint64(generation)
	}
	if flags&flagUsed != 0 {
		u.Tokens, u.Counted = d.Signed(), true
	}
	if flags&flagOverdrawn != 0 {
		u.Overdrawn = d.Signed()
	}
}
