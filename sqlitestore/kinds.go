package sqlitestore

import (
	"encoding/binary"

	"github.com/zeroae/zael/bucket"
)

// encodeKind appends what a state has beyond a plain rate. See kindsForm.
func encodeKind(b []byte, s *bucket.State) []byte {
	d := &s.Definition
	b = binary.AppendUvarint(b, uint64(d.Kind))
	b = binary.AppendUvarint(b, uint64(d.Flags))
	b = binary.AppendVarint(b, s.Used)
	if d.Kind == bucket.Quota {
		spec := d.Calendar.Spec()
		b = append(b, byte(spec.Each))
		b = binary.AppendUvarint(b, uint64(spec.On))
		b = binary.AppendUvarint(b, uint64(spec.At))
		b = appendText(b, spec.Zone)
	}
	return b
}

func encodeHolders(b []byte, holders []bucket.Holder) []byte {
	b = binary.AppendUvarint(b, uint64(len(holders)))
	for i := range holders {
		h := &holders[i]
		b = appendText(b, h.ID)
		b = binary.AppendVarint(b, int64(h.Deadline))
		b = binary.LittleEndian.AppendUint64(b, h.Generation)
		b = binary.AppendUvarint(b, uint64(len(h.Counts)))
		for _, c := range h.Counts {
			b = appendText(b, c.Name)
			b = binary.AppendUvarint(b, uint64(c.N))
		}
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func (d *decoder) text() string { return string(d.bytes(d.unsigned())) }

// kind reads what encodeKind wrote.
func (d *decoder) kind(s *bucket.State) {
	def := &s.Definition
	def.Kind = bucket.Kind(d.unsigned())
	def.Flags = bucket.Flags(d.unsigned())
	s.Used = d.signed()
	if def.Kind != bucket.Quota {
		return
	}
	spec := bucket.CalendarSpec{Each: bucket.Cycle(d.byte()), On: int16(d.unsigned()), At: int16(d.unsigned()), Zone: d.text()}
	calendar, err := bucket.NewCalendar(spec)
	if err != nil { // the definition will not be valid
		return
	}
	def.Calendar = calendar
}

// count reads how many of something there are, of which each takes a byte or more.
func (d *decoder) count() int {
	n := d.unsigned()
	if n > uint64(len(d.rest)) {
		d.bad = true
		return 0
	}
	return int(n)
}

// holders reads what encodeHolders wrote.
func (d *decoder) holders() []bucket.Holder {
	holders := make([]bucket.Holder, d.count())
	for i := range holders {
		h := &holders[i]
		h.ID, h.Deadline = d.text(), bucket.Instant(d.signed())
		if generation := d.bytes(8); len(generation) == 8 {
			h.Generation = binary.LittleEndian.Uint64(generation)
		}
		h.Counts = make([]bucket.Count, d.count())
		for j := range h.Counts {
			h.Counts[j] = bucket.Count{Name: d.text(), N: int64(d.unsigned())}
		}
	}
	return holders
}
