package postgresstore

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/deftext"
	"github.com/zeroae/zael/internal/hourly"
	"github.com/zeroae/zael/internal/rowusage"
)

// A row is one bucket as it was read, or as it is to be written.
type row struct {
	bucket.Record
	key      zael.Key
	ids      []int64 // of the last writes, the last one first; none if the bucket is not there
	settings int64   // the greatest revision of the settings that hold for the bucket
	expires  bucket.Instant
	birth    uint64

	hour   int64 // of the usage, since 1970; hourly.None if there is none
	events int64 // acquires in that hour
	used   rowusage.Limits

	read    time.Time // when it was read or written, by the monotonic clock; zero: it is only guessed
	refuses bool      // a take was refused by the bucket as it is
	shared  time.Time // when it was found changed by another process; zero: never
}

// version returns the id of the last write, 0 if the bucket is not there.
func (r *row) version() int64 {
	if len(r.ids) == 0 {
		return 0
	}
	return r.ids[0]
}

// clone returns a copy that may be changed.
func (r *row) clone() *row {
	c := *r
	c.Limits, c.Holders, c.used = slices.Clone(r.Limits), slices.Clone(r.Holders), slices.Clone(r.used)
	return &c
}

// states returns the limits as they stand at an instant, sorted by name.
func (r *row) states(at bucket.Instant) []zael.LimitState {
	all := r.View(at)
	slices.SortFunc(all, func(a, b zael.LimitState) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

const (
	// margin is how long a bucket is kept after it is full: clocks that differ by less do not
	// notice that it is deleted.
	margin = time.Hour
	// expiryStep is what expires is a multiple of, so that it seldom changes.
	expiryStep = bucket.Instant(15 * time.Minute)
)

// expire raises expires to when the bucket may be deleted if nobody uses it from an instant on.
func (r *row) expire(at bucket.Instant) {
	var wait time.Duration
	for i := range r.Limits {
		wait = max(wait, r.Limits[i].State.WaitIdle(at))
	}
	idle := at.Add(wait)
	for i := range r.Holders {
		idle = max(idle, r.Holders[i].Deadline)
	}
	idle = idle.Add(margin)
	if rest := bucket.MaxInstant - idle; rest < expiryStep {
		r.expires = bucket.MaxInstant
		return
	}
	r.expires = max(r.expires, idle-idle%expiryStep+expiryStep)
}

// The column limits is a JSON array with a text for each limit, "NAME=DEFINITION", where
// DEFINITION is that of package deftext, with "@REVISION" behind it if the limit is a stored
// one, and "@@NUMBER" or "@REVISION@NUMBER" if its generation is not that of the bucket but
// greater by that number.

func (r *row) limitsText() string {
	texts := make([]string, len(r.Limits))
	for i := range r.Limits {
		l := &r.Limits[i]
		b := deftext.Append(append(append(make([]byte, 0, 64), l.Name...), '='), &l.State.Definition)
		rev, change := l.State.Definition.Rev, l.State.Generation-r.birth
		if rev != 0 || change != 0 {
			b = append(b, '@')
		}
		if rev != 0 {
			b = strconv.AppendInt(b, rev, 10)
		}
		if change != 0 {
			b = strconv.AppendUint(append(b, '@'), change, 10)
		}
		texts[i] = string(b)
	}
	text, err := json.Marshal(texts)
	if err != nil {
		panic(err) // strings can always be encoded
	}
	return string(text)
}

// more is the column of that name.
type more struct {
	Used      []int64        `json:"used,omitempty"`      // of limits, in their order
	Overdrawn []int64        `json:"overdrawn,omitempty"` // acquires of the hour that left limits so, in their order
	Holders   []holderText   `json:"holders,omitempty"`
	Forgotten bucket.Instant `json:"forgotten,omitempty"`
}

// A holderText is a bucket.Holder.
type holderText struct {
	ID         string           `json:"id"`
	Deadline   bucket.Instant   `json:"deadline"`
	Generation uint64           `json:"generation"`
	Counts     map[string]int64 `json:"counts"`
}

func (r *row) moreText() *string {
	var m more
	for i := range r.Limits {
		if n := r.Limits[i].State.Used; n != 0 {
			if m.Used == nil {
				m.Used = make([]int64, len(r.Limits))
			}
			m.Used[i] = n
		}
	}
	for i := range r.used {
		if n := r.used[i].Overdrawn; n != 0 {
			if m.Overdrawn == nil {
				m.Overdrawn = make([]int64, len(r.Limits))
			}
			m.Overdrawn[i] = n
		}
	}
	for i := range r.Holders {
		h := &r.Holders[i]
		t := holderText{h.ID, h.Deadline, h.Generation, make(map[string]int64, len(h.Counts))}
		for _, c := range h.Counts {
			t.Counts[c.Name] = c.N
		}
		m.Holders = append(m.Holders, t)
	}
	m.Forgotten = r.Forgotten
	if m.Used == nil && m.Overdrawn == nil && m.Holders == nil && m.Forgotten == 0 {
		return nil
	}
	text, err := json.Marshal(m)
	if err != nil {
		panic(err) // it has numbers and strings only
	}
	s := string(text)
	return &s
}

// marksText and tokensText return arrays as PostgreSQL writes them.

func (r *row) marksText() string {
	b := append(make([]byte, 0, 64), '{')
	for i := range r.Limits {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, r.Limits[i].State.Mark, 10)
	}
	return string(append(b, '}'))
}

// marks and tokens are the same as values.

func (r *row) marks() []int64 {
	marks := make([]int64, len(r.Limits))
	for i := range r.Limits {
		marks[i] = r.Limits[i].State.Mark
	}
	return marks
}

func (r *row) tokens() []*int64 {
	tokens := make([]*int64, len(r.used))
	for i := range r.used {
		if u := &r.used[i]; u.Counted {
			tokens[i] = &u.Tokens
		}
	}
	return tokens
}

func (r *row) tokensText() string {
	b := append(make([]byte, 0, 64), '{')
	for i := range r.used {
		if i > 0 {
			b = append(b, ',')
		}
		if u := r.used[i]; u.Counted {
			b = strconv.AppendInt(b, u.Tokens, 10)
		} else {
			b = append(b, "NULL"...)
		}
	}
	return string(append(b, '}'))
}

func (r *row) hourValue() *int64 {
	if r.hour == hourly.None {
		return nil
	}
	return &r.hour
}

// A stored is the columns of a row that are not its key.
type stored struct {
	ids      []int64
	settings int64
	latest   int64
	expires  int64
	birth    int64
	limits   string
	marks    []int64
	more     *string
	hour     *int64
	events   int64
	tokens   []*int64
}

const storedColumns = "ids, settings, latest, expires, birth, limits, marks, more, hour, events, tokens"

func (c *stored) targets() []any {
	return []any{&c.ids, &c.settings, &c.latest, &c.expires, &c.birth, &c.limits, &c.marks, &c.more, &c.hour, &c.events, &c.tokens}
}

// missing returns the row of a bucket that is not there.
func missing(key zael.Key) *row { return &row{key: key, hour: hourly.None} }

// errDamaged says that a row is not one that this package has written.
var errDamaged = errors.New("the row of a bucket is damaged")

// row returns the row that the columns are of.
func (c *stored) row(key zael.Key) (*row, error) {
	r := &row{
		key: key, ids: c.ids, settings: c.settings, expires: bucket.Instant(c.expires),
		birth: uint64(c.birth), //nolint:gosec // the same bits
		hour:  hourly.None, events: c.events,
	}
	r.Latest = bucket.Instant(c.latest)
	if c.hour != nil {
		r.hour = *c.hour
	}
	var texts []string
	if err := json.Unmarshal([]byte(c.limits), &texts); err != nil || len(texts) != len(c.marks) || len(c.tokens) > len(texts) {
		return nil, damaged(key, "limits and marks do not match")
	}
	r.Limits = make([]bucket.LimitState, len(texts))
	for i, text := range texts {
		l := &r.Limits[i]
		if err := parseLimit(l, text, r.birth); err != nil {
			return nil, damaged(key, err.Error())
		}
		l.State.Mark = c.marks[i]
	}
	for _, n := range c.tokens {
		u := rowusage.Limit{}
		if n != nil {
			u = rowusage.Limit{Tokens: *n, Counted: true}
		}
		r.used = append(r.used, u)
	}
	if c.more != nil {
		return r, r.parseMore(*c.more)
	}
	return r, nil
}

func damaged(key zael.Key, why string) error {
	return fmt.Errorf("%w: entity %q, resource %q: %s: %w", errDamaged, key.Entity, key.Resource, why, zael.ErrUnavailable)
}

// parseLimit reads what limitsText wrote of one limit.
func parseLimit(l *bucket.LimitState, text string, birth uint64) error {
	at := strings.LastIndexByte(text, '=')
	if at < 0 {
		return fmt.Errorf("%q is not a limit", text)
	}
	l.Name = text[:at]
	definition, rest, _ := strings.Cut(text[at+1:], "@")
	rev, change, _ := strings.Cut(rest, "@")
	d, err := deftext.Parse(definition)
	if err != nil {
		return err
	}
	l.State.Generation = birth
	if rev != "" {
		if d.Rev, err = strconv.ParseInt(rev, 10, 64); err != nil {
			return err
		}
	}
	if change != "" {
		n, err := strconv.ParseUint(change, 10, 64)
		if err != nil {
			return err
		}
		l.State.Generation += n
	}
	l.State.Definition = d
	return d.Validate()
}

func (r *row) parseMore(text string) error {
	var m more
	if err := json.Unmarshal([]byte(text), &m); err != nil || m.Used != nil && len(m.Used) != len(r.Limits) || m.Overdrawn != nil && len(m.Overdrawn) != len(r.Limits) {
		return damaged(r.key, "more cannot be read")
	}
	for i, n := range m.Used {
		r.Limits[i].State.Used = n
	}
	for i, n := range m.Overdrawn {
		r.used.Overdraw(r.Limits, r.Limits[i].Name, n)
	}
	for _, t := range m.Holders {
		h := bucket.Holder{ID: t.ID, Deadline: t.Deadline, Generation: t.Generation}
		for name, n := range t.Counts {
			h.Counts = append(h.Counts, bucket.Count{Name: name, N: n})
		}
		slices.SortFunc(h.Counts, func(a, b bucket.Count) int { return cmp.Compare(a.Name, b.Name) })
		r.Holders = append(r.Holders, h)
	}
	r.Forgotten = m.Forgotten
	return nil
}
