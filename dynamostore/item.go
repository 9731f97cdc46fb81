package dynamostore

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// A record is a bucket's item as this package knows it. It is not changed once
// it has been made.
type record struct {
	birth    uint64  // id of the write that made the item
	last     uint64  // id of the write before this state
	ttl      int64   // seconds since 1970; 0 if there is none
	removals uint64  // how many writes have removed limits
	limits   []limit // in order of name
}

// A limit is one limit of a record.
type limit struct {
	name    string
	text    string // its definition as the item has it
	def     bucket.Definition
	turns   uint64 // see textOf
	mark    int64
	count   int64 // net tokens ever
	counted bool  // count means something
}

func (r *record) find(name string) *limit {
	if r == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(r.limits, name, func(l limit, name string) int { return strings.Compare(l.name, name) })
	if !ok {
		return nil
	}
	return &r.limits[i]
}

// State implements coalesce.Bucket.
func (r *record) State(name string) bucket.State { return r.state(name) }

// born is the birth of a bucket; 0 if there is none.
func (r *record) born() uint64 {
	if r == nil {
		return 0
	}
	return r.birth
}

// state is a limit as package bucket has it; absent if there is none. A generation
// is the birth of the item plus the turns of the limit: a receipt of an item that
// was deleted, or of a limit that was removed, fits no generation of the one that took
// its place.
func (r *record) state(name string) bucket.State {
	l := r.find(name)
	if l == nil {
		return bucket.State{}
	}
	return bucket.State{Definition: l.def, Mark: l.mark, Generation: r.birth + l.turns}
}

// bucket is the record as its readers get it.
func (r *record) bucket(key zael.Key) zael.Bucket {
	b := zael.Bucket{Key: key}
	if r == nil {
		return b
	}
	for i := range r.limits {
		name := r.limits[i].name
		b.Limits = append(b.Limits, zael.LimitState{Name: name, State: r.state(name)})
	}
	return b
}

// grammar is the version of textOf. A program refuses others than its own.
const grammar = "1:"

// textOf is a definition as items have it, with its turns, the number of changes
// of rate or burst that led to it: "1:10000/60s^20000@0.0" is 10000 tokens a
// minute and a burst of 20000, named by a call, never changed. A capacity other
// than the lesser of both follows the burst as "c500"; a period that is not whole
// seconds is written in nanoseconds, "1500000000n".
//
// Equal texts mean equal marks: a mark is compared only under the condition that
// the text is still the one under which it was seen. The number of changes keeps
// A → B → A from looking like A. A limit that is made when the item's limits have
// been removed by 2 writes is "…@0.0+2": its turns begin above those of any limit
// that was there before.
func textOf(d bucket.Definition, turns uint64) string {
	b := make([]byte, 0, 64)
	b = append(b, grammar...)
	b = strconv.AppendInt(b, d.Amount, 10)
	b = append(b, '/')
	if d.Period%time.Second == 0 {
		b = append(strconv.AppendInt(b, int64(d.Period/time.Second), 10), 's')
	} else {
		b = append(strconv.AppendInt(b, int64(d.Period), 10), 'n')
	}
	b = strconv.AppendInt(append(b, '^'), d.Burst, 10)
	if d.Capacity != min(d.Amount, d.Burst) {
		b = strconv.AppendInt(append(b, 'c'), d.Capacity, 10)
	}
	b = strconv.AppendInt(append(b, '@'), d.Rev, 10)
	b = strconv.AppendUint(append(b, '.'), turns&(1<<turnBits-1), 10)
	if removals := turns >> turnBits; removals > 0 {
		b = strconv.AppendUint(append(b, '+'), removals, 10)
	}
	return string(b)
}

// turnBits is how many bits of turns are changes. Above them are the removals of
// the item when the limit was made.
const turnBits = 32

// join is a limit that the record does not have, as it joins it at an instant. A
// missing record has it from its birth on.
func (r *record) join(d bucket.Definition, at bucket.Instant) bucket.State {
	turn := uint64(0)
	if r != nil {
		turn = r.removals << turnBits
	}
	return bucket.State{}.Redefine(d, at, turn)
}

var errText = errors.New("is not a definition that this version can read")

// parseText reads what textOf wrote.
func parseText(text string) (d bucket.Definition, turns uint64, err error) {
	rest, ok := strings.CutPrefix(text, grammar)
	amount, rest, ok1 := strings.Cut(rest, "/")
	period, rest, ok2 := strings.Cut(rest, "^")
	burst, rest, ok3 := strings.Cut(rest, "@")
	rev, changes, ok4 := strings.Cut(rest, ".")
	burst, capacity, hasCapacity := strings.Cut(burst, "c")
	changes, removals, removed := strings.Cut(changes, "+")
	if !ok || !ok1 || !ok2 || !ok3 || !ok4 || period == "" {
		return d, 0, fmt.Errorf("%q %w", text, errText)
	}
	var errs [7]error
	number := func(i int, s string) int64 {
		var n int64
		n, errs[i] = strconv.ParseInt(s, 10, 64)
		return n
	}
	d.Amount, d.Burst, d.Rev = number(0, amount), number(1, burst), number(2, rev)
	turns, errs[5] = strconv.ParseUint(changes, 10, turnBits)
	if removed {
		var n uint64
		n, errs[6] = strconv.ParseUint(removals, 10, turnBits)
		turns += n << turnBits
	}
	length := number(3, period[:len(period)-1])
	switch unit := period[len(period)-1]; {
	case unit == 'n':
		d.Period = time.Duration(length)
	case unit == 's' && length <= int64(bucket.MaxPeriod/time.Second):
		d.Period = time.Duration(length * int64(time.Second))
	default:
		return d, 0, fmt.Errorf("%q %w", text, errText)
	}
	if d.Capacity = min(d.Amount, d.Burst); hasCapacity {
		d.Capacity = number(4, capacity)
	}
	if err := errors.Join(append(errs[:], d.Validate())...); err != nil {
		return d, 0, fmt.Errorf("%q %w: %w", text, errText, err)
	}
	return d, turns, nil
}

// ids are written as text of 16 hexadecimal digits.
func idText(id uint64) string {
	const digits = "0123456789abcdef"
	var b [16]byte
	for i := range b {
		b[i] = digits[id>>(60-4*i)&15]
	}
	return string(b[:])
}

func parseID(s string) (uint64, error) { return strconv.ParseUint(s, 16, 64) }
