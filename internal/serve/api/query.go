package api

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A query has the parameters of a request's query string.
type query struct{ values url.Values }

// parseQuery parses a query string. An unknown parameter is an error: a misspelt resource must
// not mean all resources. A parameter that is listed with * may be repeated.
func parseQuery(text string, known []string) (query, error) {
	values, err := url.ParseQuery(text)
	if err != nil {
		return query{}, invalid("query", "cannot be read: separate parameters by &, and escape them")
	}
	for name, given := range values {
		many := slices.Contains(known, name+"*")
		switch {
		case !many && !slices.Contains(known, name):
			return query{}, invalid(shorten(name), unknownParameter(known))
		case !many && len(given) > 1:
			return query{}, invalid(name, "is given twice")
		case slices.Contains(given, ""):
			return query{}, invalid(name, "is empty: leave it out, or give a value")
		}
	}
	return query{values}, nil
}

// unknownParameter returns what is wrong with a parameter that is not one of known.
func unknownParameter(known []string) string {
	if len(known) == 0 {
		return "is not a known parameter: this path has none"
	}
	return "is not a known parameter: use " + strings.ReplaceAll(strings.Join(known, ", "), "*", "")
}

// shorten returns a name that may be anything in a form that can be answered.
func shorten(name string) string {
	const most = 64
	if len(name) > most {
		name = name[:most] + "…"
	}
	return string([]rune(name)) // what is not UTF-8 becomes U+FFFD
}

func (q query) get(name string) string { return q.values.Get(name) }

// bool returns a parameter that is true or false; false if it is missing.
func (q query) bool(name string) (bool, error) {
	switch q.get(name) {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, invalid(name, "is neither true nor false")
}

// time returns a parameter that is a time or a day; the zero time if it is missing.
func (q query) time(name string) (time.Time, error) {
	text := q.get(name)
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, invalid(name, "is not a time: write 2026-01-13, which means 00:00 UTC, or 2026-01-13T14:00:00Z")
}

// The number of elements of a page.
const (
	defaultPage = 100
	maxPage     = 1000
)

// page returns the parameters limit and cursor.
func (q query) page() (limit int, cursor string, err error) {
	limit = defaultPage
	if text := q.get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxPage {
			return 0, "", invalid("limit", "is not a number from 1 to "+strconv.Itoa(maxPage))
		}
	}
	if text := q.get("cursor"); text != "" {
		if cursor, err = decodeCursor(text); err != nil {
			return 0, "", err
		}
	}
	return limit, cursor, nil
}

// encodeCursor returns a cursor for clients, which they send back as it is.
func encodeCursor(s string) *string {
	text := base64.RawURLEncoding.EncodeToString([]byte(s))
	return &text
}

func decodeCursor(text string) (string, error) {
	s, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return "", errCursor
	}
	return string(s), nil
}

// errCursor is the error of a cursor that no answer had.
var errCursor = invalid("cursor", "is not the next of an answer")

// page returns the elements after a cursor, at most limit, and the cursor of the next ones;
// nil if there are none. order compares an element with what the cursor says.
func page[T any](all []T, limit int, cursor string, key func(T) string, order func(a, b string) int) (some []T, next *string) {
	if cursor != "" {
		first, _ := slices.BinarySearchFunc(all, cursor, func(e T, cursor string) int {
			if order(key(e), cursor) <= 0 {
				return -1
			}
			return 1
		})
		all = all[first:]
	}
	if len(all) <= limit {
		return all, nil
	}
	return all[:limit], encodeCursor(key(all[limit-1]))
}
