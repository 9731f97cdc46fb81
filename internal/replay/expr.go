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

// ParseExpr reads an Expr: column names and non-negative whole numbers with +
// between them. A name in double quotes may contain + or look like a number.
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
		case !quoted && term[0] == '-' && allDigits(term[1:]):
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

// cutTerm takes the first term off s; what is left is empty or begins with +.
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

// String is the expression as it was written.
func (e Expr) String() string {
	if e.text == "" {
		return strconv.FormatInt(e.number, 10)
	}
	return e.text
}

// Number is the expression n.
func Number(n int64) Expr { return Expr{number: n} }

// A sum is an Expr whose columns were found in a header.
type sum struct {
	number  int64
	columns []int
}

func (e Expr) bind(h *header) (sum, error) {
	s := sum{number: e.number}
	for _, name := range e.columns {
		i, err := h.find(name)
		if err != nil {
			return s, err
		}
		s.columns = append(s.columns, i)
	}
	return s, nil
}

// of is the sum for a record; on an error also the column it is about, or -1.
func (s *sum) of(record []string) (n int64, column int, err error) {
	n = s.number
	for _, i := range s.columns {
		v, ok := parseTokens(record[i])
		if !ok {
			return 0, i, fmt.Errorf("%s is not a whole number from 0 to %d", quote(record[i]), bucket.MaxAmount)
		}
		n += v
		if n > bucket.MaxAmount {
			return 0, i, fmt.Errorf("a sum of more than %d tokens", bucket.MaxAmount)
		}
	}
	return n, -1, nil
}

// parseTokens reads a whole number up to bucket.MaxAmount. A fraction of zeros
// is let pass: some programs write 374 as 374.0.
func parseTokens(s string) (int64, bool) {
	s = trim(s)
	var n int64
	for i, c := range []byte(s) {
		if c < '0' || c > '9' {
			return n, c == '.' && i > 0 && strings.Trim(s[i+1:], "0") == ""
		}
		n = n*10 + int64(c-'0')
		if n > bucket.MaxAmount {
			return 0, false
		}
	}
	return n, s != ""
}

// quote is a cell in an error message, shortened if it is long.
func quote(s string) string {
	if len(s) > 60 {
		return strconv.Quote(s[:60]) + "…"
	}
	return strconv.Quote(s)
}
