// Package strictjson reads JSON (RFC 8259) that has only one meaning: it refuses members
// that are given twice, text after the value, strings that are not UTF-8 or have half a
// surrogate pair, and numbers that an int64 does not have exactly. It does not allocate but
// for the strings that it returns.
package strictjson

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// An Error says where a text is not what it should be.
type Error struct {
	Field  string // such as "consume.tpm" or "limits[1]"; "" is the whole text
	Reason string // such as "is not a whole number"
}

// Error returns field and reason.
func (e *Error) Error() string {
	if e.Field == "" {
		return "the JSON " + e.Reason
	}
	return e.Field + " " + e.Reason
}

// Invalid returns an Error about the value that is being read.
func Invalid(reason string) error { return &Error{Reason: reason} }

// A Reader reads one value, in the order of the text. Its methods read the next value and
// return an *Error if it is another one. After an error the Reader is of no more use.
type Reader struct {
	data []byte
	at   int
}

// NewReader returns a Reader of a text, which must not change while it is read.
func NewReader(data []byte) Reader { return Reader{data: data} }

// A Kind is what a value is.
type Kind string

// The kinds. None says that no value begins there.
const (
	Object Kind = "an object"
	Array  Kind = "an array"
	String Kind = "a string"
	Number Kind = "a number"
	Bool   Kind = "true or false"
	Null   Kind = "null"
	None   Kind = "no JSON"
)

// Next returns the kind of the next value, without reading it.
func (r *Reader) Next() Kind {
	r.space()
	if r.at == len(r.data) {
		return None
	}
	switch c := r.data[r.at]; {
	case c == '{':
		return Object
	case c == '[':
		return Array
	case c == '"':
		return String
	case c == '-' || c >= '0' && c <= '9':
		return Number
	case c == 't' || c == 'f':
		return Bool
	case c == 'n':
		return Null
	}
	return None
}

func (r *Reader) space() {
	for r.at < len(r.data) {
		switch r.data[r.at] {
		case ' ', '\t', '\n', '\r':
			r.at++
		default:
			return
		}
	}
}

// expect returns an error unless the next value is of a kind.
func (r *Reader) expect(want Kind) error {
	switch got := r.Next(); got {
	case want:
		return nil
	case None:
		return Invalid("is missing or is not JSON: send " + string(want))
	default:
		return Invalid(fmt.Sprintf("is %s: send %s", got, want))
	}
}

// accept reads a character if it is the next one but for space.
func (r *Reader) accept(c byte) bool {
	r.space()
	if r.at == len(r.data) || r.data[r.at] != c {
		return false
	}
	r.at++
	return true
}

// Object reads an object. It calls member with each name, which is valid until member
// returns; member reads the value.
func (r *Reader) Object(member func(name []byte) error) error {
	if err := r.expect(Object); err != nil {
		return err
	}
	r.at++
	if r.accept('}') {
		return nil
	}
	var seen names
	for {
		if r.Next() != String {
			return Invalid("is an object that lacks the name of a member")
		}
		name, err := r.text()
		if err != nil {
			return err
		}
		if !r.accept(':') {
			return at(name, Invalid("has no colon after its name"))
		}
		if !seen.add(name) {
			return at(name, Invalid("is given twice"))
		}
		if err := member(name); err != nil {
			return at(name, err)
		}
		if r.accept('}') {
			return nil
		}
		if !r.accept(',') {
			return Invalid("is an object that does not end")
		}
	}
}

// at returns an error that is about a member or what is in it.
func at(name []byte, err error) error {
	e, ok := err.(*Error) //nolint:errorlint // errors that are wrapped are not about a value
	if !ok {
		return err
	}
	const most = 64 // bytes of a name, which may be anything
	if len(name) > most {
		name = append(bytes.ToValidUTF8(name[:most], nil), "…"...)
	}
	field := string(name)
	switch {
	case e.Field == "":
	case e.Field[0] == '[':
		field += e.Field
	default:
		field += "." + e.Field
	}
	return &Error{Field: field, Reason: e.Reason}
}

// names are the names of an object so far.
type names struct {
	few  [16][]byte
	n    int
	many map[string]struct{}
}

// add adds a name; it returns false if it was there.
func (s *names) add(name []byte) bool {
	if s.many == nil {
		for _, other := range s.few[:s.n] {
			if bytes.Equal(other, name) {
				return false
			}
		}
		if s.n < len(s.few) {
			s.few[s.n] = name
			s.n++
			return true
		}
		s.many = make(map[string]struct{}, 2*len(s.few))
		for _, other := range s.few {
			s.many[string(other)] = struct{}{}
		}
	}
	if _, there := s.many[string(name)]; there {
		return false
	}
	s.many[string(name)] = struct{}{}
	return true
}

// Array reads an array. It calls element for each element, which reads it.
func (r *Reader) Array(element func() error) error {
	if err := r.expect(Array); err != nil {
		return err
	}
	r.at++
	if r.accept(']') {
		return nil
	}
	for i := 0; ; i++ {
		if err := element(); err != nil {
			return at([]byte("["+strconv.Itoa(i)+"]"), err)
		}
		if r.accept(']') {
			return nil
		}
		if !r.accept(',') {
			return Invalid("is an array that does not end")
		}
	}
}

// String reads a string.
func (r *Reader) String() (string, error) {
	if err := r.expect(String); err != nil {
		return "", err
	}
	text, err := r.text()
	return string(text), err
}

// text reads a string, which begins here. It is part of the data unless it has escapes.
func (r *Reader) text() ([]byte, error) {
	r.at++
	begin, ascii := r.at, true
	for ; r.at < len(r.data); r.at++ {
		switch c := r.data[r.at]; {
		case c == '"':
			text := r.data[begin:r.at]
			r.at++
			if !ascii && !utf8.Valid(text) {
				return nil, Invalid("is not UTF-8")
			}
			return text, nil
		case c == '\\':
			return r.escaped(begin)
		case c < ' ':
			return nil, Invalid("has a control character in a string: write it as \\u00XX")
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return nil, Invalid("is a string that does not end")
}

// escaped reads the rest of a string whose first escape is here.
func (r *Reader) escaped(begin int) ([]byte, error) {
	text := bytes.Clone(r.data[begin:r.at])
	for r.at < len(r.data) {
		c := r.data[r.at]
		r.at++
		switch {
		case c == '"':
			if !utf8.Valid(text) {
				return nil, Invalid("is not UTF-8")
			}
			return text, nil
		case c < ' ':
			return nil, Invalid("has a control character in a string: write it as \\u00XX")
		case c != '\\':
			text = append(text, c)
			continue
		}
		char, ok := r.escape()
		if !ok {
			return nil, Invalid("has an escape that JSON does not have, or half a surrogate pair")
		}
		text = utf8.AppendRune(text, char)
	}
	return nil, Invalid("is a string that does not end")
}

// escape reads what follows a backslash.
func (r *Reader) escape() (rune, bool) {
	if r.at == len(r.data) {
		return 0, false
	}
	c := r.data[r.at]
	r.at++
	switch c {
	case '"', '\\', '/':
		return rune(c), true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	case 'u':
		first, ok := r.hex()
		if !ok || !utf16.IsSurrogate(first) {
			return first, ok
		}
		if !bytes.HasPrefix(r.data[r.at:], []byte(`\u`)) {
			return 0, false
		}
		r.at += 2
		second, ok := r.hex()
		char := utf16.DecodeRune(first, second)
		return char, ok && char != utf8.RuneError
	}
	return 0, false
}

func (r *Reader) hex() (rune, bool) {
	if len(r.data)-r.at < 4 {
		return 0, false
	}
	var char rune
	for _, c := range r.data[r.at : r.at+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		char = char<<4 | rune(c)
	}
	r.at += 4
	return char, true
}

// Bool reads true or false.
func (r *Reader) Bool() (bool, error) {
	if err := r.expect(Bool); err != nil {
		return false, err
	}
	switch {
	case r.literal("true"):
		return true, nil
	case r.literal("false"):
		return false, nil
	}
	return false, Invalid("is neither true nor false")
}

// Null reads null if it is next, and reports whether it was.
func (r *Reader) Null() bool { return r.Next() == Null && r.literal("null") }

func (r *Reader) literal(text string) bool {
	if !bytes.HasPrefix(r.data[r.at:], []byte(text)) {
		return false
	}
	r.at += len(text)
	return true
}

// Int64 reads a whole number. It may have a fraction or an exponent, as 5.0 and 1e3 have.
func (r *Reader) Int64() (int64, error) {
	digits, exponent, err := r.number()
	if err != nil {
		return 0, err
	}
	n, ok := whole(digits, exponent)
	if !ok {
		return 0, Invalid("is not a whole number of 64 bits")
	}
	return n, nil
}

// Duration reads a number of seconds with at most nine decimals, or a string as
// [time.ParseDuration] reads it.
func (r *Reader) Duration() (time.Duration, error) {
	if r.Next() == String {
		text, err := r.text()
		if err != nil {
			return 0, err
		}
		d, err := time.ParseDuration(string(text))
		if err != nil {
			return 0, Invalid(`is not a duration: write "1.5s", "2m" or a number of seconds`)
		}
		return d, nil
	}
	if r.Next() != Number {
		return 0, Invalid(fmt.Sprintf(`is %s: write a duration such as "1.5s", or a number of seconds`, r.Next()))
	}
	digits, exponent, err := r.number()
	if err != nil {
		return 0, err
	}
	ns, ok := whole(digits, exponent+9)
	if !ok {
		return 0, Invalid("is not a number of seconds with at most nine decimals, up to 292 years")
	}
	return time.Duration(ns), nil
}

// number reads a number: its sign and digits, and the power of ten that they are multiplied by.
func (r *Reader) number() (digits []byte, exponent int, err error) {
	if err := r.expect(Number); err != nil {
		return nil, 0, err
	}
	begin := r.at
	if r.data[r.at] == '-' {
		r.at++
	}
	first := r.at
	if !r.digits() || r.data[first] == '0' && r.at-first > 1 {
		return nil, 0, Invalid("is not a number as JSON has them")
	}
	digits = r.data[begin:r.at:r.at]
	if r.at < len(r.data) && r.data[r.at] == '.' {
		r.at++
		fraction := r.at
		if !r.digits() {
			return nil, 0, Invalid("is not a number as JSON has them")
		}
		digits = append(digits, r.data[fraction:r.at]...)
		exponent -= r.at - fraction
	}
	if r.at < len(r.data) && (r.data[r.at] == 'e' || r.data[r.at] == 'E') {
		r.at++
		sign := r.at
		if r.at < len(r.data) && (r.data[r.at] == '+' || r.data[r.at] == '-') {
			r.at++
		}
		from := r.at
		if !r.digits() {
			return nil, 0, Invalid("is not a number as JSON has them")
		}
		power, err := strconv.Atoi(string(r.data[sign:r.at]))
		if err != nil || r.at-from > 9 {
			power = math.MaxInt32 // or less than 0: no number that is read has so many digits
			if r.data[sign] == '-' {
				power = -power
			}
		}
		exponent += power
	}
	return digits, exponent, nil
}

func (r *Reader) digits() bool {
	begin := r.at
	for r.at < len(r.data) && r.data[r.at] >= '0' && r.data[r.at] <= '9' {
		r.at++
	}
	return r.at > begin
}

// whole returns the number that digits, with a sign, times a power of ten are.
func whole(digits []byte, exponent int) (int64, bool) {
	for len(digits) > 1 && exponent < 0 && digits[len(digits)-1] == '0' {
		digits, exponent = digits[:len(digits)-1], exponent+1
	}
	if len(bytes.Trim(digits, "-0")) == 0 {
		return 0, true
	}
	const most = 19 // digits of an int64
	if exponent < 0 || exponent > most {
		return 0, false
	}
	text := append(make([]byte, 0, 64), digits...)
	for range exponent {
		text = append(text, '0')
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	return n, err == nil
}

// End returns an error unless nothing but space is left.
func (r *Reader) End() error {
	if r.space(); r.at < len(r.data) {
		return Invalid("has more after its end")
	}
	return nil
}
