package protocol

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/schema"
)

// Attributes of a bucket's item. Those that usage is counted from are in package schema.
const (
	markAttribute       = "m_" // before a limit's name
	startAttribute      = "p_" // before a limit's name: of a quota or session, from which is counted
	usedAttribute       = "u_" // before a limit's name: since then
	definitionAttribute = "d_" // before a limit's name
	lastWriteAttribute  = "o"
	earlierAttribute    = "o1" // the write before the last, of buckets with a quota or session
	earliestAttribute   = "o2" // the one before that
	expiryAttribute     = "ttl"
)

// A Record is a bucket's item, as read. It does not change. A nil Record is a bucket without
// an item.
type Record struct {
	birth    uint64    // id of the write that made the item
	last     uint64    // id of the last write
	earlier  [2]uint64 // ids of the two writes before, of a bucket with a quota or session
	ttl      int64     // seconds since 1970; 0 if there is none
	removals uint64    // how many writes have removed limits
	settings int64     // see SettingsRev
	version  string    // how many writes have changed the item
	limits   []limit   // in order of name
	slots    []slotLimit
	holders  []holder
	own      string // the holder for whose write this is the answer
}

// A limit is one limit of a Record.
type limit struct {
	name    string
	text    string       // its definition as the item has it
	state   bucket.State // its Generation is the turns alone: see definitionText
	count   int64        // net tokens ever
	counted bool         // count is within int64
	over    bool         // takes that left it overdrawn are counted

	noReceipt bool // it is not known what stretch or period the last take of this process owns
}

// ReadRecord reads a bucket's item, of which a client has attributes in a form of its own,
// V. An item without attributes is missing, a nil Record.
func ReadRecord[V any](item map[string]V, value func(V) Value) (*Record, error) {
	if len(item) == 0 {
		return nil, nil //nolint:nilnil // a nil Record is a bucket without an item
	}
	number := func(attribute string) (int64, error) {
		n, err := value(item[attribute]).number()
		if err != nil {
			return n, fmt.Errorf("attribute %s: %w", attribute, err)
		}
		return n, nil
	}
	r := new(Record)
	var err error
	if r.ttl, err = number(expiryAttribute); err != nil {
		return nil, err
	}
	for _, id := range []struct {
		attribute string
		to        *uint64
	}{{schema.Birth, &r.birth}, {lastWriteAttribute, &r.last}, {earlierAttribute, &r.earlier[0]}, {earliestAttribute, &r.earlier[1]}} {
		v, ok := item[id.attribute]
		if !ok {
			continue
		}
		if *id.to, err = strconv.ParseUint(value(v).Text, 16, 64); err != nil {
			return nil, fmt.Errorf("attribute %s: %w", id.attribute, err)
		}
	}
	removals, err := number(schema.Removals)
	if err != nil {
		return nil, err
	}
	r.removals = uint64(removals)
	if r.settings, err = number(schema.SettingsRev); err != nil {
		return nil, err
	}
	r.version = value(item[schema.ItemVersion]).Text
	has := func(attribute string) bool {
		_, ok := item[attribute]
		return ok
	}
	for attribute := range item {
		name, ok := strings.CutPrefix(attribute, definitionAttribute)
		if !ok {
			if err := r.readSlots(attribute, func() string { return value(item[attribute]).Text }, number, has); err != nil {
				return nil, err
			}
			continue
		}
		l := limit{name: name, text: value(item[attribute]).Text}
		if l.state.Definition, l.state.Generation, err = parseDefinition(l.text); err != nil {
			return nil, fmt.Errorf("attribute %s: %w", attribute, err)
		}
		from := markAttribute
		if periodic(&l.state.Definition) {
			from = startAttribute
			if l.state.Used, err = number(usedAttribute + name); err != nil {
				return nil, err
			}
		}
		if l.state.Mark, err = number(from + name); err != nil {
			return nil, err
		}
		// A counter beyond int64 counts on, and its limit is not forgotten.
		if l.count, err = number(schema.Counter + name); err == nil {
			l.counted = has(schema.Counter + name)
		}
		l.over = has(schema.Overdrawn + name)
		r.limits = append(r.limits, l)
	}
	slices.SortFunc(r.limits, func(a, b limit) int { return cmp.Compare(a.name, b.name) })
	return r, nil
}

// find returns a limit, nil if there is none of that name.
func (r *Record) find(name string) *limit {
	if r == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(r.limits, name, func(l limit, name string) int { return strings.Compare(l.name, name) })
	if !ok {
		return nil
	}
	return &r.limits[i]
}

// State implements coalesce.Bucket. A generation is the birth of the item plus the turns of
// the limit: a receipt of an item that was deleted, or of a limit that was removed, fits
// no generation of the one that took its place.
func (r *Record) State(name string) bucket.State {
	l := r.find(name)
	if l == nil {
		return bucket.State{}
	}
	s := l.state
	s.Generation += r.birth
	if l.noReceipt {
		s.Generation = 0
	}
	return s
}

// Birth returns the id of the write that made the item; 0 if there is no item.
func (r *Record) Birth() uint64 {
	if r == nil {
		return 0
	}
	return r.birth
}

// LastWrite returns the id of the last write; 0 if there is no item.
func (r *Record) LastWrite() uint64 {
	if r == nil {
		return 0
	}
	return r.last
}

// Removals returns how many writes have removed limits.
func (r *Record) Removals() uint64 {
	if r == nil {
		return 0
	}
	return r.removals
}

// Bucket returns the record as zael has it, without the slots of holders whose deadline is past
// at an instant.
func (r *Record) Bucket(key zael.Key, at bucket.Instant) zael.Bucket {
	b := zael.Bucket{Key: key}
	if r == nil {
		return b
	}
	for i := range r.limits {
		name := r.limits[i].name
		b.Limits = append(b.Limits, zael.LimitState{Name: name, State: r.State(name)})
	}
	if len(r.slots) > 0 {
		b.Limits = append(b.Limits, r.Slots("").View(at)...)
		slices.SortStableFunc(b.Limits, func(a, b zael.LimitState) int { return cmp.Compare(a.Name, b.Name) })
	}
	return b
}

// keepsIDs reports whether the item keeps the ids of more writes than the last one: what
// does not refill must not be charged twice.
func (r *Record) keepsIDs() bool {
	return r != nil && slices.ContainsFunc(r.limits, func(l limit) bool { return periodic(&l.state.Definition) })
}

// begin returns a limit that the record does not have, as it begins at an instant. A
// generation is without the birth here: a limit of a missing record begins with it.
func (r *Record) begin(d bucket.Definition, at bucket.Instant) bucket.State {
	return bucket.State{}.Redefine(d, at, r.Removals()<<turnBits)
}
