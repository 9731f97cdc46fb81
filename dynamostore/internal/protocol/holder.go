package protocol

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/deftext"
	"github.com/zeroae/zael/internal/schema"
)

// Attributes of slots. A limit of slots is another one than what else has its name.
const (
	slotsAttribute           = "n_" // before a limit's name: how many are held, the sum of all holders
	slotsDefinitionAttribute = "s_" // before a limit's name
	holderAttribute          = "h_" // before a holder's ID
)

// A holder is a holder of slots in an item. Each write of a holder says all of its entry,
// under the condition that the entry is as it was seen. As the entry names its write no value of
// an entry comes back, so that such a write happens once, however often it is sent, and who finds
// the entry that it has sent knows that it was applied.
type holder struct {
	bucket.Holder
	text string // as the item has it
}

// Deadlines are kept in milliseconds, so that they have 8 digits of base 36 and texts sort by
// them.
const (
	deadlineUnit   = bucket.Instant(time.Millisecond)
	deadlineDigits = 8
)

// holderText returns the entry of a holder after a write: deadline, generation, half of the ID of
// the write, and for each limit a name and a count, "k6h3x0zj1y2p0ij32k8a8.1z141z3;parallel=2".
// Names are escaped as far as the text needs it.
func holderText(h *bucket.Holder, write uint64) string {
	ms := int64((h.Deadline + bucket.MaxInstant + deadlineUnit - 1) / deadlineUnit)
	deadline := strconv.FormatInt(ms, 36)
	var b strings.Builder
	b.WriteString(strings.Repeat("0", max(0, deadlineDigits-len(deadline))))
	b.WriteString(deadline)
	b.WriteString(strconv.FormatUint(h.Generation, 36))
	b.WriteByte('.')
	b.WriteString(strconv.FormatUint(write>>32, 36))
	for _, c := range h.Counts {
		b.WriteByte(';')
		b.WriteString(escape.Replace(c.Name))
		b.WriteByte('=')
		b.WriteString(strconv.FormatInt(c.N, 10))
	}
	return b.String()
}

//nolint:gochecknoglobals // constant tables
var (
	escape   = strings.NewReplacer("%", "%25", ";", "%3B", "=", "%3D")
	unescape = strings.NewReplacer("%25", "%", "%3B", ";", "%3D", "=")
)

// parseHolder reads what holderText wrote.
func parseHolder(id, text string) (h holder, err error) {
	fail := func(err error) (holder, error) {
		return h, fmt.Errorf("%q is not a holder that this version can read: %w", text, err)
	}
	h.ID, h.text = id, text
	head, rest, more := strings.Cut(text, ";")
	if len(head) <= deadlineDigits {
		return fail(deftext.ErrText)
	}
	ms, err := strconv.ParseInt(head[:deadlineDigits], 36, 64)
	if err != nil || ms > int64(2*bucket.MaxInstant/deadlineUnit)+1 {
		return fail(deftext.ErrText)
	}
	h.Deadline = bucket.Instant(ms)*deadlineUnit - bucket.MaxInstant
	generation, write, _ := strings.Cut(head[deadlineDigits:], ".")
	if h.Generation, err = strconv.ParseUint(generation, 36, 64); err != nil {
		return fail(err)
	}
	if _, err = strconv.ParseUint(write, 36, 32); err != nil {
		return fail(err)
	}
	for more {
		var one string
		one, rest, more = strings.Cut(rest, ";")
		name, count, ok := strings.Cut(one, "=")
		n, err := strconv.ParseInt(count, 10, 64)
		if !ok || err != nil || n < 1 || n > bucket.MaxSlots {
			return fail(deftext.ErrText)
		}
		h.Counts = append(h.Counts, bucket.Count{Name: unescape.Replace(name), N: n})
	}
	return h, nil
}

// A slotLimit is one limit of slots of a Record.
type slotLimit struct {
	name string
	text string // its definition as the item has it
	def  bucket.Definition
	held int64 // by all holders

	count   int64 // of usage
	counted bool  // count is within int64
}

// readSlots reads an attribute of slots, if it is one.
func (r *Record) readSlots(attribute string, value func() string, number func(string) (int64, error), has func(string) bool) error {
	if id, ok := strings.CutPrefix(attribute, holderAttribute); ok {
		h, err := parseHolder(id, value())
		if err != nil {
			return fmt.Errorf("attribute %s: %w", attribute, err)
		}
		r.holders = append(r.holders, h)
		return nil
	}
	name, ok := strings.CutPrefix(attribute, slotsDefinitionAttribute)
	if !ok {
		return nil
	}
	l := slotLimit{name: name, text: value()}
	var err error
	if l.def, _, err = parseDefinition(l.text); err != nil {
		return fmt.Errorf("attribute %s: %w", attribute, err)
	}
	if l.held, err = number(slotsAttribute + name); err != nil {
		return err
	}
	if l.count, err = number(schema.Counter + name); err == nil {
		l.counted = has(schema.Counter + name)
	}
	r.slots = append(r.slots, l)
	return nil
}

// holder returns the entry of a holder, nil if it has none.
func (r *Record) holder(id string) *holder {
	if r == nil {
		return nil
	}
	i := slices.IndexFunc(r.holders, func(h holder) bool { return h.ID == id })
	if i < 0 {
		return nil
	}
	return &r.holders[i]
}

// slotLimit returns a limit of slots, nil if there is none of that name.
func (r *Record) slotLimit(name string) *slotLimit {
	if r == nil {
		return nil
	}
	i := slices.IndexFunc(r.slots, func(l slotLimit) bool { return l.name == name })
	if i < 0 {
		return nil
	}
	return &r.slots[i]
}

// SlotState implements coalesce.SlotBucket: the generation is that of the holder whose write
// was answered by the record.
func (r *Record) SlotState(name string) bucket.State {
	l := r.slotLimit(name)
	if l == nil {
		return bucket.State{}
	}
	s := bucket.State{Definition: l.def, Used: l.held}
	if own := r.holder(r.own); own != nil {
		s.Generation = own.Generation
	}
	return s
}

// RefusesSlots implements coalesce.SlotBucket.
func (r *Record) RefusesSlots(c *zael.Charge, holder string, at bucket.Instant) bool {
	if c.Amount <= 0 || c.Definition.Flags&bucket.Soft != 0 {
		return false
	}
	held := int64(0)
	if r != nil {
		for i := range r.holders {
			if h := &r.holders[i]; h.ID == holder || h.Live(at) {
				held += h.Count(c.Name)
			}
		}
	}
	return held > c.Definition.Burst-c.Amount
}

// Slots returns the slots of the record, as package bucket has them.
func (r *Record) Slots(own string) *bucket.Record {
	b := &bucket.Record{Own: own}
	if r == nil {
		return b
	}
	for i := range r.slots {
		l := &r.slots[i]
		b.Limits = append(b.Limits, bucket.LimitState{Name: l.name, State: bucket.State{Definition: l.def, Used: l.held}})
	}
	for i := range r.holders {
		b.Holders = append(b.Holders, r.holders[i].Holder)
	}
	return b
}
