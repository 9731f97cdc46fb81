package protocol

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/deftext"
)

// turnBits is how many bits of turns count changes. The bits above them count the removals
// of the item when the limit was made.
const turnBits = 32

// definitionText returns a definition as items have it: its text by package deftext, its
// revision and its turns, the number of changes of its axis that led to it. "1:10000/60s^20000@0.0"
// is named by a call and was never changed.
//
// Equal texts mean that the numbers of a state can be compared: a condition on them comes
// with the condition that the text is the one under which they were seen. The number of
// changes keeps A → B → A from looking like A. A limit that is made when limits have been
// removed from the item by 2 writes is "…@0.0+2": its turns begin above those of any limit
// that was there before.
func definitionText(d bucket.Definition, turns uint64) string {
	b := deftext.Append(make([]byte, 0, 64), &d)
	b = strconv.AppendInt(append(b, '@'), d.Rev, 10)
	b = strconv.AppendUint(append(b, '.'), turns&(1<<turnBits-1), 10)
	if removals := turns >> turnBits; removals > 0 {
		b = strconv.AppendUint(append(b, '+'), removals, 10)
	}
	return string(b)
}

// parseDefinition reads what definitionText wrote.
func parseDefinition(text string) (d bucket.Definition, turns uint64, err error) {
	rest, tail := text, ""
	if at := strings.LastIndexByte(text, '@'); at >= 0 { // a zone's name has none
		rest, tail = text[:at], text[at+1:]
	}
	d, err = deftext.Parse(rest)
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
	case !ok || errors.Is(err, deftext.ErrText):
		return bucket.Definition{}, 0, fmt.Errorf("%q %w", text, deftext.ErrText)
	case err != nil:
		return bucket.Definition{}, 0, fmt.Errorf("%q %w: %w", text, deftext.ErrText, err)
	}
	if err := d.Validate(); err != nil {
		return bucket.Definition{}, 0, fmt.Errorf("%q %w: %w", text, deftext.ErrText, err)
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
