package replay

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/zeroae/zael/bucket"
)

// An Expr is a sum of columns and whole numbers, such as
// ContextTokens+GeneratedTokens or 1. The zero Expr is 0.
type Expr struct {
	text    string
	number  int64
	columns []string
}

// ParseExpr parses an Expr: column names and non-negative whole numbers, separated by
// +. A name in double quotes may contain + or look like a number.
func ParseExpr(text string) (Expr, error) {
	e := Expr{text: strings.TrimSpace(text)}
	rest := e.text
	for {
		var term string
		var quoted bool
		var err error
		if term, rest, quoted, err = cutTerm(rest); err != nil {
			return Expr{}, fmt.Errorf("%q %w", text, err)
		}
		switch {
		case term == "":
			return Expr{}, fmt.Errorf("%q is not a sum of column names and whole numbers such as ContextTokens+GeneratedTokens", text)
		case !quoted && allDigits(term):
			n, err := strconv.ParseInt(term, 10, 64)
			if err != nil || n > bucket.MaxAmount || e.number+n > bucket.MaxAmount {
				return Expr{}, fmt.Errorf("%q is more than %d", text, bucket.MaxAmount)
			}
			e.number += n
		case !quoted && len(term) > 1 && term[0] == '-' && allDigits(term[1:]):
			return Expr{}, fmt.Errorf("%q has a negative number", text)
		default:
			e.columns = append(e.columns, term)
		}
		if rest == "" {
			return e, nil
		}
		rest = rest[1:] // the +
	}
}

// cutTerm splits s after its first term. The rest is empty or begins with +.
func cutTerm(s string) (term, rest string, quoted bool, err error) {
	s = strings.TrimSpace(s)
	if !strings.HasPrefix(s, `"`) {
		if i := strings.IndexByte(s, '+'); i >= 0 {
			return strings.TrimSpace(s[:i]), s[i:], false, nil
		}
		return s, "", false, nil
	}
	term, rest, ok := strings.Cut(s[1:], `"`)
	rest = strings.TrimSpace(rest)
	if !ok || rest != "" && rest[0] != '+' {
		return "", "", false, errors.New("has a quote that does not end at a +")
	}
	return term, rest, true, nil
}

// String returns the expression as it was written.
func (e Expr) String() string {
	if e.text == "" {
		return strconv.FormatInt(e.number, 10)
	}
	return e.text
}

// Number returns the expression n.
func Number(n int64) Expr { return Expr{number: n} }

// A sum is an Expr with indexes of columns instead of names.
type sum struct {
	number  int64
	columns []int
}

func (e Expr) bind(rows source) (sum, error) {
	s := sum{number: e.number}
	for _, name := range e.columns {
		i, err := rows.column(name, false)
		if err != nil {
			return s, err
		}
		s.columns = append(s.columns, i)
	}
	return s, nil
}

// parseTokens parses an amount, without space around it. Fractions are rounded up.
func parseTokens(cell string) (int64, error) {
	if n, err := strconv.ParseUint(cell, 10, 64); err == nil && n <= uint64(bucket.MaxAmount) {
		return int64(n), nil
	}
	n, fraction, ok := cutDecimal(cell)
	if ok && strings.Trim(fraction, "0") != "" {
		n++
	}
	if !ok || n < 0 || n > bucket.MaxAmount {
		return 0, &cellError{reason: fmt.Sprintf("%s is not a number from 0 to %d", quote(cell), bucket.MaxAmount)}
	}
	return n, nil
}

// quote returns a cell as it is shown in messages, shortened if it is long.
func quote(s string) string {
	if len(s) > 60 {
		return strconv.Quote(s[:60]) + "…"
	}
	return strconv.Quote(s)
}
