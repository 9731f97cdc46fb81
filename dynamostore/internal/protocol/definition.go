package protocol

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/zeroae/zael/bucket"
)

// grammar is the version of definitionText. A program refuses others than its own.
const grammar = "1:"

// turnBits is how many bits of turns count changes. The bits above them count the removals
// of the item when the limit was made.
const turnBits = 32

// definitionText returns a definition as items have it, with its turns, the number of
// changes of rate or burst that led to it: "1:10000/60s^20000@0.0" is 10000 tokens a
// minute and a burst of 20000, named by a call, never changed. A capacity other than the
// lesser of both follows the burst as "c500"; a period that is not whole seconds is written
// in nanoseconds, "1500000000n".
//
// Equal texts mean that marks can be compared: a condition on a mark comes with the
// condition that the text is the one under which the mark was seen. The number of changes
// keeps A → B → A from looking like A. A limit that is made when limits have been removed
// from the item by 2 writes is "…@0.0+2": its turns begin above those of any limit that
// was there before.
func definitionText(d bucket.Definition, turns uint64) string {
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

var errText = errors.New("is not a definition that this version can read")

// parseDefinition reads what definitionText wrote.
func parseDefinition(text string) (d bucket.Definition, turns uint64, err error) {
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

// IDText returns an id as items have it: 16 hexadecimal digits.
func IDText(id uint64) string {
	const digits = "0123456789abcdef"
	var b [16]byte
	for i := range b {
		b[i] = digits[id>>(60-4*i)&15]
	}
	return string(b[:])
}
