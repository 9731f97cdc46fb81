package redisstore

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/deftext"
)

// Fields of a bucket's hash. Values and names of up to 64 bytes keep the hash compact.
const (
	idsField       = "o" // the ids of the last four writes, the last one first
	expiryField    = "x" // the quarter of an hour, from 2025, by which all is full
	settingsField  = "s" // the greatest revision of settings, if there is one
	forgottenField = "f" // bucket.Record.Forgotten, if it is not 0

	// Before a limit's name; of slots in capitals, as they are another limit than what else
	// has the name.
	definitionField = 'd' // see definitionText
	markField       = 'm'
	usedField       = 'u' // of what has it
	upper           = 'a' - 'A'

	holderField = 'h' // before a holder's name
)

// idLength is how many bytes an id has.
const idLength = 8

// A record is a bucket's hash as it was after its last write. It does not change. The nil
// record is a missing bucket.
type record struct {
	bucket.Record
	ids      string
	expiry   int64
	settings int64
}

// errDamaged is matched by the error of a hash that cannot be read.
var errDamaged = errors.New("a bucket is damaged")

// readRecord reads a hash: names and values of its fields by turns.
func readRecord(fields []string) (*record, error) {
	if len(fields) == 0 {
		return nil, nil //nolint:nilnil // a nil record is a missing bucket
	}
	r := new(record)
	for i := 0; i+1 < len(fields); i += 2 {
		if err := r.readField(fields[i], fields[i+1]); err != nil {
			return nil, fmt.Errorf("redisstore: %w: field %q: %w", errDamaged, fields[i], err)
		}
	}
	for i := range r.Limits {
		if d := &r.Limits[i].State.Definition; d.Burst == 0 {
			return nil, fmt.Errorf("redisstore: %w: limit %q has no definition", errDamaged, r.Limits[i].Name)
		} else if err := d.Validate(); err != nil {
			return nil, fmt.Errorf("redisstore: %w: limit %q: %w", errDamaged, r.Limits[i].Name, err)
		}
	}
	slices.SortStableFunc(r.Limits, func(a, b bucket.LimitState) int { return cmp.Compare(a.Name, b.Name) })
	return r, nil
}

func (r *record) readField(name, value string) (err error) {
	switch name {
	case idsField:
		r.ids = value
		return nil
	case expiryField:
		r.expiry, err = strconv.ParseInt(value, 10, 64)
		return err
	case settingsField:
		r.settings, err = strconv.ParseInt(value, 10, 64)
		return err
	case forgottenField:
		at, err := strconv.ParseInt(value, 10, 64)
		r.Forgotten = bucket.Instant(at)
		return err
	case "":
		return errors.New("has no name")
	}
	letter, rest := name[0], name[1:]
	slots := letter <= 'Z'
	if slots {
		letter += upper
	}
	switch letter {
	case holderField:
		h, err := parseHolder(rest, value)
		r.Holders = append(r.Holders, h)
		return err
	case definitionField:
		s := r.limit(rest, slots)
		s.Definition, s.Generation, err = parseDefinition(value)
		return err
	case markField:
		r.limit(rest, slots).Mark, err = strconv.ParseInt(value, 10, 64)
		return err
	case usedField:
		r.limit(rest, slots).Used, err = strconv.ParseInt(value, 10, 64)
		return err
	}
	return errors.New("is not known: a newer zael may have made it")
}

// limit returns the state of a limit that is being read, which it adds if it is new. Until
// its definition is read its kind alone is set.
func (r *record) limit(name string, slots bool) *bucket.State {
	for i := range r.Limits {
		if l := &r.Limits[i]; l.Name == name && (l.State.Definition.Kind == bucket.Slots) == slots {
			return &l.State
		}
	}
	l := bucket.LimitState{Name: name}
	if slots {
		l.State.Definition.Kind = bucket.Slots
	}
	r.Limits = append(r.Limits, l)
	return &r.Limits[len(r.Limits)-1].State
}

// definitionText returns a definition as hashes have it: "1:10000/60s^20000@0.1x8k", with its
// revision and its generation in base 36. A row that wants any revision, as its limit is
// named by a call, ends with the @.
func definitionText(d *bucket.Definition, generation uint64) string {
	b := wantedText(d)
	if d.Rev == 0 {
		b = append(b, "0."...)
	}
	return string(strconv.AppendUint(b, generation, 36))
}

// wantedText returns what a definition has to begin with that a charge under d leaves as it
// is.
func wantedText(d *bucket.Definition) []byte {
	b := append(deftext.Append(make([]byte, 0, 64), d), '@')
	if d.Rev != 0 {
		b = append(strconv.AppendInt(b, d.Rev, 10), '.')
	}
	return b
}

// parseDefinition reads what definitionText wrote.
func parseDefinition(text string) (d bucket.Definition, generation uint64, err error) {
	at := strings.LastIndexByte(text, '@') // a zone's name has none
	rev, turn, ok := strings.Cut(text[at+1:], ".")
	if at < 0 || !ok {
		return d, 0, fmt.Errorf("%q %w", text, deftext.ErrText)
	}
	if d, err = deftext.Parse(text[:at]); err != nil {
		return d, 0, err
	}
	if d.Rev, err = strconv.ParseInt(rev, 10, 64); err != nil {
		return d, 0, err
	}
	generation, err = strconv.ParseUint(turn, 36, 64)
	return d, generation, err
}

// holderText returns a holder as hashes have it: deadline and generation in base 36, and of
// each limit how many slots.
func holderText(h *bucket.Holder) string {
	counts := url.Values{}
	for _, c := range h.Counts {
		counts.Set(c.Name, strconv.FormatInt(c.N, 10))
	}
	return strconv.FormatInt(int64(h.Deadline), 36) + ";" + strconv.FormatUint(h.Generation, 36) + ";" + counts.Encode()
}

// parseHolder reads what holderText wrote.
func parseHolder(id, text string) (h bucket.Holder, err error) {
	h.ID = id
	parts := strings.SplitN(text, ";", 3)
	if len(parts) != 3 {
		return h, errors.New("is not a holder's entry")
	}
	deadline, err := strconv.ParseInt(parts[0], 36, 64)
	if err != nil {
		return h, err
	}
	h.Deadline = bucket.Instant(deadline)
	if h.Generation, err = strconv.ParseUint(parts[1], 36, 64); err != nil {
		return h, err
	}
	counts, err := url.ParseQuery(parts[2])
	if err != nil {
		return h, err
	}
	for name, values := range counts {
		n, err := strconv.ParseInt(values[0], 10, 64)
		if err != nil {
			return h, err
		}
		h.Counts = append(h.Counts, bucket.Count{Name: name, N: n})
	}
	slices.SortFunc(h.Counts, func(a, b bucket.Count) int { return cmp.Compare(a.Name, b.Name) })
	return h, nil
}

// last returns the id of the last write, "" of a missing bucket.
func (r *record) last() string {
	if r == nil {
		return ""
	}
	return r.ids[:min(idLength, len(r.ids))]
}

// settingsRev returns the greatest revision of settings that the bucket was told of.
func (r *record) settingsRev() int64 {
	if r == nil {
		return 0
	}
	return r.settings
}

// kept returns a copy of the bucket's record that may be changed, for an operation of a
// holder. latest is the latest instant known of it.
func (r *record) kept(holder string, latest bucket.Instant) bucket.Record {
	if r == nil {
		return bucket.Record{Own: holder, Latest: latest}
	}
	c := r.Record
	c.Limits, c.Holders = slices.Clone(c.Limits), slices.Clone(c.Holders)
	c.Own, c.Latest = holder, latest
	return c
}

// followed returns the record after a write that has left c.
func (r *record) followed(c *bucket.Record, id string, expiry int64) *record {
	next := &record{Record: *c, ids: id, expiry: expiry}
	if r != nil {
		next.ids += r.ids[:min(3*idLength, len(r.ids))]
		next.expiry, next.settings = max(expiry, r.expiry), r.settings
	}
	return next
}

// find returns a limit, or nil.
func (r *record) find(name string, slots bool) *bucket.State {
	if r == nil {
		return nil
	}
	for i := range r.Limits {
		if l := &r.Limits[i]; l.Name == name && (l.State.Definition.Kind == bucket.Slots) == slots {
			return &l.State
		}
	}
	return nil
}

// State implements coalesce.Bucket.
func (r *record) State(name string) bucket.State {
	if s := r.find(name, false); s != nil {
		return *s
	}
	return bucket.State{}
}

// SlotState implements coalesce.SlotBucket.
func (r *record) SlotState(name string) bucket.State {
	s := r.find(name, true)
	if s == nil {
		return bucket.State{}
	}
	state := *s
	state.Generation = 0
	for i := range r.Holders {
		if h := &r.Holders[i]; h.ID == r.Own {
			state.Generation = h.Generation
		}
	}
	return state
}

// RefusesSlots implements coalesce.SlotBucket.
func (r *record) RefusesSlots(c *zael.Charge, holder string, at bucket.Instant) bool {
	if c.Amount == 0 {
		return false
	}
	charges, kept := []zael.Charge{*c}, r.kept(holder, 0)
	return kept.Take(charges, at, 0, 0) == bucket.Exceeds
}

var _ coalesce.SlotBucket = (*record)(nil)

// shown returns the limits as they stand at an instant.
func (r *record) shown(at bucket.Instant) []zael.LimitState {
	if r == nil {
		return nil
	}
	return r.View(at)
}
