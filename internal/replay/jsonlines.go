package replay

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/tidwall/gjson"
)

// A jsonSource reads JSON lines: an object on each line, with the columns as its
// keys. usage.tokens is the key usage.tokens, or else the key tokens of the
// object usage.
type jsonSource struct {
	lines  *bufio.Scanner
	number int // of the line that was read last
	fields []field
	cells  []string // one for each field

	// The first object is read ahead, for its keys.
	keys    []string
	ahead   bool      // it is still to be returned by next
	skipped int       // lines before it, which are not objects
	bad     *RowError // about the first of them
}

// A field is a column that was asked for.
type field struct {
	name string
	path string // of gjson: the name as one key
	deep string // the keys of nested objects, or empty
	seen bool   // in any row
}

// openJSON reads up to the first object, for its keys.
func openJSON(r io.Reader) (*jsonSource, error) {
	s := &jsonSource{lines: bufio.NewScanner(r), ahead: true}
	s.lines.Buffer(make([]byte, 1<<16), maxRow)
	for {
		if err := s.scan(); err != nil {
			switch {
			case !errors.Is(err, io.EOF):
				return nil, err
			case s.bad != nil:
				s.bad.Remedy = "each line must be an object, as jq -c . writes them"
				return nil, s.bad
			}
			return nil, errors.New("the file is empty")
		}
		bad := s.check()
		if bad == nil {
			break
		}
		s.bad = cmp.Or(s.bad, bad)
		s.skipped++
	}
	gjson.ParseBytes(s.lines.Bytes()).ForEach(func(key, _ gjson.Result) bool {
		s.keys = append(s.keys, key.String())
		return true
	})
	return s, nil
}

func (s *jsonSource) columns() []string { return s.keys }

func (s *jsonSource) column(name string, required bool) (int, error) {
	f := field{name: name, path: gjson.Escape(name)}
	if keys := strings.Split(name, "."); len(keys) > 1 {
		for i := range keys {
			keys[i] = gjson.Escape(keys[i])
		}
		f.deep = strings.Join(keys, ".")
	}
	if required && !f.of(string(s.lines.Bytes())).Exists() {
		return 0, s.missing(&f)
	}
	if i := slices.IndexFunc(s.fields, func(other field) bool { return other.name == name }); i >= 0 {
		return i, nil
	}
	s.fields, s.cells = append(s.fields, f), append(s.cells, "")
	return len(s.fields) - 1, nil
}

func (s *jsonSource) missing(f *field) error { return &ColumnError{Column: f.name, Columns: s.keys} }

// of returns the value of a field in an object; one that does not exist, if the
// object has none.
func (f *field) of(object string) gjson.Result {
	v := gjson.Get(object, f.path)
	if !v.Exists() && f.deep != "" {
		v = gjson.Get(object, f.deep)
	}
	return v
}

func (s *jsonSource) next() ([]string, error) {
	switch {
	case s.skipped > 0:
		s.skipped--
		return nil, s.bad
	case s.ahead:
		s.ahead = false
	default:
		if err := s.scan(); err != nil {
			return nil, s.end(err)
		}
		if bad := s.check(); bad != nil {
			return nil, bad
		}
	}
	object := string(s.lines.Bytes())
	for i := range s.fields {
		f := &s.fields[i]
		v := f.of(object)
		f.seen = f.seen || v.Exists()
		switch v.Type {
		case gjson.Null:
			s.cells[i] = "" // or there is none
		case gjson.String:
			s.cells[i] = v.Str
		case gjson.Number:
			s.cells[i] = v.Raw
		default:
			return nil, &RowError{Line: s.number, Column: f.name, Reason: quote(v.Raw) + " is neither text nor a number"}
		}
	}
	return s.cells, nil
}

// scan reads a line that is not blank.
func (s *jsonSource) scan() error {
	for s.lines.Scan() {
		s.number++
		if len(bytes.TrimSpace(s.lines.Bytes())) > 0 {
			return nil
		}
	}
	switch err := s.lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("line %d is longer than %d MB", s.number+1, maxRow>>20)
	case err != nil:
		return fmt.Errorf("reading: %w", err)
	}
	return io.EOF
}

// end returns what the end of the file comes to: a column that no row had does
// not exist.
func (s *jsonSource) end(err error) error {
	if errors.Is(err, io.EOF) {
		for i := range s.fields {
			if !s.fields[i].seen {
				return s.missing(&s.fields[i])
			}
		}
	}
	return err
}

func (s *jsonSource) position(column int) (line int, name string) {
	return s.number, s.fields[column].name
}

// check reports why the line that was read last is not an object.
func (s *jsonSource) check() *RowError {
	const deep = 1000
	line := s.lines.Bytes()
	switch {
	case !bytes.HasPrefix(bytes.TrimSpace(line), []byte("{")):
		return &RowError{Line: s.number, Reason: "not a JSON object"}
	case bytes.Count(line, []byte("{"))+bytes.Count(line, []byte("[")) < deep && gjson.ValidBytes(line):
		return nil
	}
	// It is not valid, or may be so deep that gjson, which recurses, runs out of
	// stack.
	var v json.RawMessage
	if err := json.Unmarshal(line, &v); err != nil {
		return &RowError{Line: s.number, Reason: "not a JSON object: " + err.Error()}
	}
	return nil
}
