// Package deftext writes definitions of limits as text, as stores in engines keep them.
package deftext

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/zeroae/zael/bucket"
)

// The versions of the grammar: of plain rates, and of what is none, which programs that know
// the first alone refuse.
const (
	plainGrammar = "1:"
	kindGrammar  = "2:"
)

// ErrText is matched by the errors of Parse.
var ErrText = errors.New("is not a definition that this version can read")

// Append appends the text of a definition without its revision: "1:10000/60s^20000" is 10000
// tokens a minute and a burst of 20000. A capacity other than the lesser of both follows the
// burst as "c500"; a period that is not whole seconds is written in nanoseconds,
// "1500000000n". What is no plain rate has a grammar of its own: see appendKind. The text has
// no @. Definitions have equal texts if they differ in nothing but their revisions.
func Append(b []byte, d *bucket.Definition) []byte {
	if d.Plain() {
		return appendRate(append(b, plainGrammar...), d)
	}
	return appendKind(append(b, kindGrammar...), d)
}

// Parse reads what Append wrote. The definition may be out of range: see
// bucket.Definition.Validate.
func Parse(text string) (d bucket.Definition, err error) {
	if plain, ok := strings.CutPrefix(text, plainGrammar); ok {
		err = parseRate(plain, &d)
	} else if kind, ok := strings.CutPrefix(text, kindGrammar); ok {
		if d, err = parseKind(kind); err == nil && d.Plain() {
			err = ErrText
		}
	} else {
		err = ErrText
	}
	switch {
	case err == nil:
		return d, nil
	case errors.Is(err, ErrText):
		return bucket.Definition{}, fmt.Errorf("%q %w", text, ErrText)
	}
	return bucket.Definition{}, fmt.Errorf("%q %w: %w", text, ErrText, err)
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

// parseRate reads what appendRate wrote.
func parseRate(text string, d *bucket.Definition) error {
	amount, rest, ok := strings.Cut(text, "/")
	period, burst, ok2 := strings.Cut(rest, "^")
	burst, capacity, hasCapacity := strings.Cut(burst, "c")
	if !ok || !ok2 {
		return ErrText
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
