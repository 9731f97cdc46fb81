package sqlitestore

import (
	"encoding/binary"
	"time"

	"github.com/zeroae/zael/bucket"
)

// encodeKind appends what a state has beyond a plain rate. See kindsForm.
func encodeKind(b []byte, s *bucket.State) []byte {
	d := &s.Definition
	b = binary.AppendUvarint(b, uint64(d.Kind))
	b = binary.AppendUvarint(b, uint64(d.Flags))
	b = binary.AppendVarint(b, s.Used)
	switch d.Kind {
	case bucket.Quota:
		spec := d.Calendar.Spec()
		b = append(b, byte(spec.Each))
		b = binary.AppendUvarint(b, uint64(spec.On))
		b = binary.AppendUvarint(b, uint64(spec.At))
		b = appendText(b, spec.Zone)
	case bucket.Rate:
		b = encodeWindows(b, d.Schedule)
	}
	return b
}

// encodeWindows appends the windows of a schedule; none if it is nil.
func encodeWindows(b []byte, sc *bucket.Schedule) []byte {
	if sc == nil {
		return binary.AppendUvarint(b, 0)
	}
	windows := sc.Windows()
	b = binary.AppendUvarint(b, uint64(len(windows)))
	for i := range windows {
		w := &windows[i]
		b = append(b, w.Days)
		for _, n := range []int64{int64(w.From), int64(w.To), w.Times, w.Burst, w.Amount, int64(w.Period)} {
			b = binary.AppendUvarint(b, uint64(n))
		}
		b = appendText(b, w.Zone)
	}
	return b
}

// windows reads what encodeWindows wrote, for the rate of def.
func (d *decoder) windows(def *bucket.Definition) {
	windows := make([]bucket.ScheduleWindow, d.Count())
	for i := range windows {
		w := &windows[i]
		w.Days, w.From, w.To = d.Byte(), int16(d.Unsigned()), int16(d.Unsigned())
		w.Times, w.Burst, w.Amount, w.Period = int64(d.Unsigned()), int64(d.Unsigned()), int64(d.Unsigned()), time.Duration(d.Unsigned())
		w.Zone = d.Text()
	}
	if len(windows) == 0 || d.Bad {
		return
	}
	schedule, err := bucket.NewSchedule(*def, windows)
	if err != nil {
		d.Bad = true
		return
	}
	def.Schedule = schedule
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

// kind reads what encodeKind wrote.
func (d *decoder) kind(s *bucket.State) {
	def := &s.Definition
	def.Kind = bucket.Kind(d.Unsigned())
	def.Flags = bucket.Flags(d.Unsigned())
	s.Used = d.Signed()
	switch def.Kind {
	case bucket.Rate:
		d.windows(def)
		return
	case bucket.Quota:
	default:
		return
	}
	spec := bucket.CalendarSpec{Each: bucket.Cycle(d.Byte()), On: int16(d.Unsigned()), At: int16(d.Unsigned()), Zone: d.Text()}
	calendar, err := bucket.NewCalendar(spec)
	if err != nil { // the definition will not be valid
		return
	}
	def.Calendar = calendar
}

// holders reads what encodeHolders wrote.
func (d *decoder) holders() []bucket.Holder {
	holders := make([]bucket.Holder, d.Count())
	for i := range holders {
		h := &holders[i]
		h.ID, h.Deadline = d.Text(), bucket.Instant(d.Signed())
		if generation := d.Bytes(8); len(generation) == 8 {
			h.Generation = binary.LittleEndian.Uint64(generation)
		}
		h.Counts = make([]bucket.Count, d.Count())
		for j := range h.Counts {
			h.Counts[j] = bucket.Count{Name: d.Text(), N: int64(d.Unsigned())}
		}
	}
	return holders
}
