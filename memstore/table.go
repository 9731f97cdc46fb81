package memstore

import (
	"cmp"
	"iter"
	"slices"
	"strings"
	"unique"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// A record is one bucket. Its first 64 bytes are all that a call on one limit
// touches, in one line of the processor's cache.
type record struct {
	size     uint8 // of short; tooLong: the entity is in long
	short    [tooLong - 1]byte
	resource unique.Handle[string]
	latest   bucket.Instant // seen for this bucket
	first    [2]entry       // used from the left
	more     []entry
	rare     *rare
}

// rare is what few records have.
type rare struct {
	long    string // the entity, if it is long
	used    []used
	holders []bucket.Holder
}

// used is bucket.State.Used of a limit that is not a plain rate.
type used struct {
	limit *limit
	n     int64
}

const tooLong = 24

func (r *record) setEntity(id string) {
	if len(id) >= tooLong {
		// A part of a long text would keep all of it alive.
		r.size, r.rare = tooLong, &rare{long: strings.Clone(id)}
		return
	}
	r.size = uint8(copy(r.short[:], id))
}

func (r *record) isEntity(id string) bool {
	if r.size == tooLong {
		return r.rare.long == id
	}
	return string(r.short[:r.size]) == id
}

func (r *record) entity() string {
	if r.size == tooLong {
		return r.rare.long
	}
	return string(r.short[:r.size])
}

// An entry is one limit of a bucket.
type entry struct {
	limit      *limit // shared by the shard; nil: no entry
	mark       int64
	generation uint64
}

type limit struct {
	limitID
	plain bool          // a plain rate
	seen  *bucket.Limit // one equal to this, of the caller that was here last
}

type limitID struct {
	name       string
	definition bucket.Definition
}

// is reports whether a caller's limit, which never changes, is this one. Nearly always
// it is the one of the call before.
func (l *limit) is(other *bucket.Limit) bool {
	if l.seen == other {
		return true
	}
	if l.name != other.Name || l.definition != other.Definition {
		return false
	}
	l.seen = other
	return true
}

// find returns the entry of a limit, or nil. Slots are another limit than what else has
// their name.
func (r *record) find(name string, slots bool) *entry {
	for i := range r.first {
		e := &r.first[i]
		if e.limit == nil {
			return nil
		}
		if e.limit.name == name && e.limit.slots() == slots {
			return e
		}
	}
	for i := range r.more {
		if e := &r.more[i]; e.limit.name == name && e.limit.slots() == slots {
			return e
		}
	}
	return nil
}

// slots iterates the entries of slots.
func (r *record) slots() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for i := range r.first {
			if e := &r.first[i]; e.limit != nil && e.limit.slots() && !yield(e) {
				return
			}
		}
		for i := range r.more {
			if e := &r.more[i]; e.limit.slots() && !yield(e) {
				return
			}
		}
	}
}

func (l *limit) slots() bool { return l.definition.Kind == bucket.Slots }

// place returns the entry that limit number i has if the limits came in this order, or nil.
func (r *record) place(i int) *entry {
	if i < len(r.first) {
		return &r.first[i]
	}
	if i -= len(r.first); i < len(r.more) {
		return &r.more[i]
	}
	return nil
}

// findLimit returns the entry of a limit if that has the very same definition, or nil.
// It looks first at place i.
func (r *record) findLimit(i int, l *bucket.Limit) *entry {
	if e := r.place(i); e != nil && e.limit != nil && e.limit.is(l) {
		return e
	}
	if e := r.find(l.Name, l.Definition.Kind == bucket.Slots); e != nil && e.limit.is(l) {
		return e
	}
	return nil
}

// state returns the state of the limit in an entry of the record.
func (r *record) state(e *entry) bucket.State {
	s := bucket.State{Definition: e.limit.definition, Mark: e.mark, Generation: e.generation}
	if !e.limit.plain {
		s.Used = *r.used(e.limit)
	}
	return s
}

// used returns where the record keeps what is used of a limit that is no plain rate.
func (r *record) used(l *limit) *int64 {
	if r.rare == nil {
		r.rare = new(rare)
	}
	for i := range r.rare.used {
		if u := &r.rare.used[i]; u.limit == l {
			return &u.n
		}
	}
	r.rare.used = append(r.rare.used, used{limit: l})
	return &r.rare.used[len(r.rare.used)-1].n
}

// set writes a limit into an entry of a record.
func (t *table) set(r *record, e *entry, l *bucket.LimitState) {
	if e.limit == nil || e.limit.definition != l.State.Definition {
		r.dropUsed(e.limit)
		e.limit = t.intern(l.Name, &l.State.Definition)
	}
	r.setMark(e, &l.State)
}

// setMark writes what a limit has beside its definition into its entry.
func (r *record) setMark(e *entry, s *bucket.State) {
	if e.mark, e.generation = s.Mark, s.Generation; !e.limit.plain {
		*r.used(e.limit) = s.Used
	}
}

// dropUsed forgets what is used of a limit that the record has no more.
func (r *record) dropUsed(l *limit) {
	if l != nil && !l.plain && r.rare != nil {
		r.rare.used = slices.DeleteFunc(r.rare.used, func(u used) bool { return u.limit == l })
	}
}

// holders returns who has slots of the record.
func (r *record) holders() []bucket.Holder {
	if r.rare == nil {
		return nil
	}
	return r.rare.holders
}

func (r *record) setHolders(holders []bucket.Holder) {
	if r.rare == nil {
		if len(holders) == 0 {
			return
		}
		r.rare = new(rare)
	}
	r.rare.holders = holders
}

// add returns a new entry. If there is no room, it first forgets limits that have been
// full since an instant, so that names that are used once do not add up.
func (sh *shard) add(r *record, full bucket.Instant) *entry {
	if e := r.free(); e != nil {
		return e
	}
	sh.forget(r, full)
	if n := len(r.more); n == cap(r.more) || n > cap(r.more)/2 { // else it would soon have to look again
		r.more = append(make([]entry, 0, max(1, 2*n)), r.more...)
	}
	return r.free()
}

// free returns an unused entry, or nil if there is no room.
func (r *record) free() *entry {
	for i := range r.first {
		if r.first[i].limit == nil {
			return &r.first[i]
		}
	}
	n := len(r.more)
	if n == cap(r.more) {
		return nil
	}
	r.more = r.more[:n+1]
	return &r.more[n]
}

// forget drops limits of a record that have been full since an instant. It may
// leave none.
func (sh *shard) forget(r *record, full bucket.Instant) {
	r.bury(full)
	kept := r.more[:0]
	for i := range r.more {
		e := &r.more[i]
		if !r.state(e).Forgettable(full) {
			kept = append(kept, *e)
		} else {
			r.dropUsed(e.limit)
		}
	}
	n := len(r.more) - len(kept)
	for i := range r.first {
		e := &r.first[i]
		if e.limit == nil || !r.state(e).Forgettable(full) {
			continue
		}
		n++
		r.dropUsed(e.limit)
		*e = entry{}
		if last := len(kept) - 1; last >= 0 {
			*e, kept = kept[last], kept[:last]
		}
	}
	if r.first[0].limit == nil {
		r.first[0], r.first[1] = r.first[1], entry{}
	}
	clear(r.more[len(kept):])
	if r.more = kept; len(kept) < cap(kept)/4 {
		r.more = slices.Clip(slices.Clone(kept))
	}
	if n > 0 {
		sh.swept = bucket.Latest(sh.swept, full)
	}
}

// bury removes the holders of slots that were dead at an instant.
func (r *record) bury(at bucket.Instant) {
	if len(r.holders()) == 0 {
		return
	}
	left := bucket.Record{Limits: r.kept(), Holders: slices.Clone(r.holders())}
	if !left.Bury(at) {
		return
	}
	r.setHolders(left.Holders)
	for i := range left.Limits {
		if l := &left.Limits[i]; l.State.Definition.Kind == bucket.Slots {
			r.setMark(r.find(l.Name, true), &l.State)
		}
	}
}

// idle reports whether all limits are, and nobody has slots.
func (r *record) idle(at bucket.Instant) bool {
	for _, h := range r.holders() {
		if h.Live(at) && slices.ContainsFunc(h.Counts, func(c bucket.Count) bool { return c.N > 0 }) {
			return false
		}
	}
	for i := range r.first {
		if e := &r.first[i]; e.limit != nil && !r.state(e).Idle(at) {
			return false
		}
	}
	for i := range r.more {
		if !r.state(&r.more[i]).Idle(at) {
			return false
		}
	}
	return true
}

// states returns all limits as they stand at an instant, in order of name.
func (r *record) states(at bucket.Instant) []zael.LimitState {
	read := bucket.Record{Holders: r.holders(), Limits: r.kept()}
	return read.View(at)
}

// kept returns all limits as the record has them, in order of name.
func (r *record) kept() []zael.LimitState {
	var all []zael.LimitState
	for _, e := range slices.Concat(r.first[:], r.more) {
		if e.limit != nil {
			all = append(all, zael.LimitState{Name: e.limit.name, State: r.state(&e)})
		}
	}
	slices.SortFunc(all, func(a, b zael.LimitState) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func (r *record) key() zael.Key {
	return zael.Key{Entity: r.entity(), Resource: r.resource.Value()}
}

// A table finds records by key, by open addressing and linear probing. A slot keeps
// its place between changes, so that a sweep can proceed in steps.
type table struct {
	slots  []slot // a power of two of them, or none
	n      int
	limits map[limitID]*limit // which repeat from bucket to bucket; not all
}

type slot struct {
	hash   uint64
	record *record // nil: empty
}

const (
	minSlots    = 8
	limitsKnown = 64
)

// intern returns the shared copy of a limit. If there are many it begins a new set of
// copies; records keep those that they refer to.
func (t *table) intern(name string, d *bucket.Definition) *limit {
	id := limitID{name, *d}
	if known := t.limits[id]; known != nil {
		return known
	}
	if t.limits == nil || len(t.limits) >= limitsKnown {
		t.limits = map[limitID]*limit{}
	}
	l := &limit{limitID: id, plain: d.Plain()}
	t.limits[id] = l
	return l
}

func (t *table) find(hash uint64, key zael.Key) *record {
	if len(t.slots) == 0 {
		return nil
	}
	mask := uint64(len(t.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := &t.slots[i]
		if s.record == nil {
			return nil
		}
		if s.hash == hash && s.record.isEntity(key.Entity) && s.record.resource.Value() == key.Resource {
			return s.record
		}
	}
}

// insert adds a record for a key that the table does not have.
func (t *table) insert(hash uint64, key zael.Key) *record {
	if t.n >= len(t.slots)*7/8 {
		t.resize(max(minSlots, 2*len(t.slots)))
	}
	r := &record{resource: unique.Make(key.Resource)}
	r.setEntity(key.Entity)
	t.place(slot{hash, r})
	t.n++
	return r
}

func (t *table) place(s slot) {
	mask := uint64(len(t.slots) - 1)
	i := s.hash & mask
	for t.slots[i].record != nil {
		i = (i + 1) & mask
	}
	t.slots[i] = s
}

func (t *table) resize(n int) {
	old := t.slots
	t.slots = make([]slot, n)
	for _, s := range old {
		if s.record != nil {
			t.place(s)
		}
	}
}

// remove empties slot i, and moves up the records behind it that would otherwise not
// be found.
func (t *table) remove(i int) {
	mask := len(t.slots) - 1
	hole := i
	for j := (i + 1) & mask; t.slots[j].record != nil; j = (j + 1) & mask {
		home := int(t.slots[j].hash & uint64(mask))
		// The record in j may fill the hole if its home is not between the two.
		if (j-home)&mask >= (j-hole)&mask {
			t.slots[hole] = t.slots[j]
			hole = j
		}
	}
	t.slots[hole] = slot{}
	t.n--
}

// shrink halves the table if most of it is empty, and reports whether it has.
func (t *table) shrink() bool {
	if len(t.slots) <= minSlots || t.n > len(t.slots)/8 {
		return false
	}
	t.resize(max(minSlots, len(t.slots)/2))
	return true
}
