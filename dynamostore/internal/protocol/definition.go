package protocol

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/zeroae/zael/bucket"
)

// grammar is the version of definitionText. A program refuses others than its own.
const grammar = "1:"

// turnBits is how many bits of turns count changes. The bits above them count the removals
// of the item when the limit was made.
const turnBits = 32

// definitionText returns a definition as items have it, with its turns, the number of
// changes of its axis that led to it: "1:10000/60s^20000@0.0" is 10000 tokens a
// minute and a burst of 20000, named by a call, never changed. A capacity other than the
// lesser of both follows the burst as "c500"; a period that is not whole seconds is written
// in nanoseconds, "1500000000n". What is no plain rate has a grammar of its own: see
// appendKind.
//
// Equal texts mean that the numbers of a state can be compared: a condition on them comes
// with the condition that the text is the one under which they were seen. The number of
// changes keeps A → B → A from looking like A. A limit that is made when limits have been
// removed from the item by 2 writes is "…@0.0+2": its turns begin above those of any limit
// that was there before.
func definitionText(d bucket.Definition, turns uint64) string {
	b := make([]byte, 0, 64)
	if d.Plain() {
		b = appendRate(append(b, grammar...), &d)
	} else {
		b = appendKind(append(b, kindGrammar...), &d)
	}
	b = strconv.AppendInt(append(b, '@'), d.Rev, 10)
	b = strconv.AppendUint(append(b, '.'), turns&(1<<turnBits-1), 10)
	if removals := turns >> turnBits; removals > 0 {
		b = strconv.AppendUint(append(b, '+'), removals, 10)
	}
	return string(b)
}

// appendRate appends rate, burst and capacity.
func appendRate(b []byte, d *bucket.Definition) []byte {
	b = appendLength(append(strconv.AppendInt(b, d.Amount, 10), '/'), d.Period)
	b = strconv.AppendInt(append(b, '^'), d.Burst, 10)
	if d.Capacity != min(d.Amount, d.Burst) {
		b = strconv.AppendInt(append(b, 'c'), d.Capacity, 10)
	}
	return b
}

var errText = errors.New("is not a definition that this version can read")

// parseDefinition reads what definitionText wrote.
func parseDefinition(text string) (d bucket.Definition, turns uint64, err error) {
	rest, tail := text, ""
	if at := strings.LastIndexByte(text, '@'); at >= 0 { // a zone's name has none
		rest, tail = text[:at], text[at+1:]
	}
	if plain, ok := strings.CutPrefix(rest, grammar); ok {
		err = parseRate(plain, &d)
	} else if kind, ok := strings.CutPrefix(rest, kindGrammar); ok {
		if d, err = parseKind(kind); err == nil && d.Plain() {
			err = errText
		}
	} else {
		err = errText
	}
	rev, changes, ok := strings.Cut(tail, ".")
	changes, removals, removed := strings.Cut(changes, "+")
	var errs [3]error
	d.Rev, errs[0] = strconv.ParseInt(rev, 10, 64)
	turns, errs[1] = strconv.ParseUint(changes, 10, turnBits)
	if removed {
		var n uint64
		n, errs[2] = strconv.ParseUint(removals, 10, turnBits)
		turns += n << turnBits
	}
	switch err := errors.Join(append(errs[:], err)...); {
	case !ok || errors.Is(err, errText):
		return bucket.Definition{}, 0, fmt.Errorf("%q %w", text, errText)
	case err != nil:
		return bucket.Definition{}, 0, fmt.Errorf("%q %w: %w", text, errText, err)
	}
	if err := d.Validate(); err != nil {
		return bucket.Definition{}, 0, fmt.Errorf("%q %w: %w", text, errText, err)
	}
	return d, turns, nil
}

// parseRate reads what appendRate wrote.
func parseRate(text string, d *bucket.Definition) error {
	amount, rest, ok := strings.Cut(text, "/")
	period, burst, ok2 := strings.Cut(rest, "^")
	burst, capacity, hasCapacity := strings.Cut(burst, "c")
	if !ok || !ok2 {
		return errText
	}
	var errs [4]error
	d.Amount, errs[0] = strconv.ParseInt(amount, 10, 64)
	d.Period, errs[1] = parseLength(period)
	d.Burst, errs[2] = strconv.ParseInt(burst, 10, 64)
	if d.Capacity = min(d.Amount, d.Burst); hasCapacity {
		d.Capacity, errs[3] = strconv.ParseInt(capacity, 10, 64)
	}
	return errors.Join(errs[:]...)
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
