package replay

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/zeroae/zael/bucket"
)

// A RowError is about a line of the trace.
type RowError struct {
	Line   int    // of the file, from 1
	Column string // empty if the error is about the whole line
	Reason string
}

// Error names the line, the column and the reason.
func (e *RowError) Error() string {
	if e.Column == "" {
		return fmt.Sprintf("line %d: %s", e.Line, e.Reason)
	}
	return fmt.Sprintf("line %d, column %s: %s", e.Line, e.Column, e.Reason)
}

// A ColumnError names a column that the trace has not, or has twice.
type ColumnError struct {
	Column  string
	Columns []string // those that there are
	Twice   bool
}

// Error tells the columns that there are.
func (e *ColumnError) Error() string {
	if e.Twice {
		return fmt.Sprintf("column %s is there twice", quote(e.Column))
	}
	const most = 30
	names, more := e.Columns, ""
	if len(names) > most {
		names, more = names[:most], fmt.Sprintf(" and %d more", len(names)-most)
	}
	return fmt.Sprintf("no column %s; there are %s%s", quote(e.Column), strings.Join(names, ", "), more)
}

// A header is the first line of a trace.
type header struct {
	columns []string
}

func (h *header) find(name string) (int, error) {
	i := slices.Index(h.columns, name)
	if i < 0 {
		return 0, &ColumnError{Column: name, Columns: h.columns}
	}
	if slices.Contains(h.columns[i+1:], name) {
		return 0, &ColumnError{Column: name, Columns: h.columns, Twice: true}
	}
	return i, nil
}

// A trace reads a CSV file row by row.
type trace struct {
	csv     *csv.Reader
	header  header
	time    int // columns
	entity  int // -1: none
	take    []sum
	settle  []sum  // as long as take
	settled []bool // those that have a sum of their own
	row     row
}

// A row is one request of the trace.
type row struct {
	line   int
	at     bucket.Instant
	entity string  // valid until the next row
	take   []int64 // in the order of the limits
	settle []int64
}

// openTrace reads the header and finds the columns that o names.
func openTrace(r io.Reader, o *Options) (*trace, error) {
	text, err := skipBOM(r)
	if err != nil {
		return nil, err
	}
	t := &trace{csv: csv.NewReader(text), entity: -1}
	t.csv.ReuseRecord = true
	record, err := t.csv.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("no header: the first line must name the columns")
	}
	if err != nil {
		return nil, csvError(err)
	}
	for _, name := range record {
		t.header.columns = append(t.header.columns, strings.TrimSpace(name))
	}
	if _, err := parseInstant(t.header.columns[0]); err == nil && o.TimeColumn == "" {
		return nil, &RowError{Line: 1, Reason: "is a row: the first line must name the columns"}
	}
	if o.TimeColumn != "" {
		if t.time, err = t.header.find(o.TimeColumn); err != nil {
			return nil, err
		}
	}
	if o.EntityColumn != "" {
		if t.entity, err = t.header.find(o.EntityColumn); err != nil {
			return nil, err
		}
	}
	for _, l := range o.Limits {
		take, err := o.takes(l.Name).bind(&t.header)
		if err != nil {
			return nil, err
		}
		expr, settled := o.Settle[l.Name]
		settle, err := expr.bind(&t.header)
		if err != nil {
			return nil, err
		}
		t.take, t.settle, t.settled = append(t.take, take), append(t.settle, settle), append(t.settled, settled)
	}
	n := len(o.Limits)
	amounts := make([]int64, 2*n)
	t.row.take, t.row.settle = amounts[:n:n], amounts[n:]
	return t, nil
}

// next reads the next row; io.EOF after the last. The row is valid until the
// next call.
func (t *trace) next() (*row, error) {
	record, err := t.csv.Read()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, csvError(err)
	}
	r := &t.row
	r.line, _ = t.csv.FieldPos(0)
	at, err := parseInstant(record[t.time])
	if err != nil {
		return nil, t.bad(t.time, quote(record[t.time])+" "+err.Error())
	}
	if r.at, err = bucket.At(at.time()); err != nil {
		return nil, t.bad(t.time, quote(record[t.time])+" is further than 29 years from 2025")
	}
	if t.entity >= 0 {
		r.entity = record[t.entity]
	}
	for i := range t.take {
		if r.take[i], err = t.amount(&t.take[i], record); err != nil {
			return nil, err
		}
		if !t.settled[i] {
			r.settle[i] = r.take[i]
			continue
		}
		if r.settle[i], err = t.amount(&t.settle[i], record); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (t *trace) amount(s *sum, record []string) (int64, error) {
	n, column, err := s.of(record)
	if err != nil {
		return 0, t.bad(column, err.Error())
	}
	return n, nil
}

// bad is an error about a column of the row read last.
func (t *trace) bad(column int, reason string) error {
	line, _ := t.csv.FieldPos(column)
	return &RowError{Line: line, Column: t.header.columns[column], Reason: reason}
}

// csvError says in one way what encoding/csv says in several.
func csvError(err error) error {
	var p *csv.ParseError
	if !errors.As(err, &p) {
		return fmt.Errorf("reading: %w", err)
	}
	reason := p.Err.Error()
	switch {
	case errors.Is(p.Err, csv.ErrFieldCount):
		reason = "has another number of columns than the header"
	case errors.Is(p.Err, csv.ErrQuote), errors.Is(p.Err, csv.ErrBareQuote):
		reason = fmt.Sprintf("quotes do not match (byte %d)", p.Column)
	}
	return &RowError{Line: p.StartLine, Reason: reason}
}

// skipBOM takes the byte order mark off that some programs put first.
func skipBOM(r io.Reader) (*bufio.Reader, error) {
	b := bufio.NewReaderSize(r, 1<<16)
	mark, err := b.Peek(3)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading: %w", err)
	}
	switch {
	case strings.HasPrefix(string(mark), "\xef\xbb\xbf"):
		_, err = b.Discard(3)
	case strings.HasPrefix(string(mark), "\xff\xfe"), strings.HasPrefix(string(mark), "\xfe\xff"):
		return nil, errors.New("is UTF-16: save it as UTF-8")
	default:
		err = nil
	}
	return b, err
}
