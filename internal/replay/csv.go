package replay

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
)

// A csvSource reads CSV, by the rules of encoding/csv.
type csvSource struct {
	csv    *csv.Reader
	limit  *rowLimit
	header []string
}

// openCSV reads the header, unless o has the columns.
func openCSV(r io.Reader, firstLine string, o *Options) (*csvSource, error) {
	s := &csvSource{limit: &rowLimit{r: r, left: maxRow}, header: o.Columns}
	s.csv = csv.NewReader(s.limit)
	s.csv.Comma = cmp.Or(o.Delimiter, delimiterOf(firstLine))
	s.csv.ReuseRecord = true
	s.csv.FieldsPerRecord = -1
	// So a quote may follow a space. Between tabs, empty cells would be lost.
	s.csv.TrimLeadingSpace = !unicode.IsSpace(s.csv.Comma)
	if o.Columns != nil {
		return s, nil
	}
	cells, err := s.csv.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty: the first line must name the columns")
	}
	if err != nil {
		return nil, s.readError(err)
	}
	for _, name := range cells {
		s.header = append(s.header, strings.TrimSpace(name))
	}
	times := newTimeReader(o)
	line, _ := s.csv.FieldPos(0)
	if _, err := times.read(s.header[0], line); err == nil && o.TimeColumn == "" {
		return nil, &RowError{
			Line: line, Reason: quote(s.header[0]) + " is a time, not the name of a column",
			Remedy: "if the file has no header, name its columns with --columns",
		}
	}
	return s, nil
}

// delimiterOf guesses the delimiter of a file from its first line.
func delimiterOf(line string) rune {
	for _, r := range ",\t;|" {
		if strings.ContainsRune(line, r) {
			return r
		}
	}
	return ','
}

func (s *csvSource) columns() []string { return s.header }

func (s *csvSource) column(name string, _ bool) (int, error) {
	i := slices.Index(s.header, name)
	if i < 0 {
		return 0, &ColumnError{Column: name, Columns: s.header}
	}
	if slices.Contains(s.header[i+1:], name) {
		return 0, &ColumnError{Column: name, Columns: s.header, Twice: true}
	}
	return i, nil
}

func (s *csvSource) next() ([]string, error) {
	s.limit.left = maxRow
	cells, err := s.csv.Read()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, s.readError(err)
	}
	if len(cells) != len(s.header) {
		line, _ := s.csv.FieldPos(0)
		return nil, &RowError{Line: line, Reason: fmt.Sprintf("it has %s, but there are names for %d", plural(int64(len(cells)), "column", "columns"), len(s.header))}
	}
	return cells, nil
}

func (s *csvSource) position(column int) (line int, name string) {
	line, _ = s.csv.FieldPos(column)
	return line, s.header[column]
}

// readError translates an error of encoding/csv.
func (s *csvSource) readError(err error) error {
	var p *csv.ParseError
	switch {
	case errors.Is(err, errLongRow):
		return fmt.Errorf("a row is longer than %d MB: is a quote not closed?", maxRow>>20)
	case !errors.As(err, &p):
		return fmt.Errorf("reading: %w", err)
	case errors.Is(err, csv.ErrQuote), errors.Is(err, csv.ErrBareQuote):
		return &RowError{Line: p.StartLine, Reason: fmt.Sprintf("a quote does not match (line %d, byte %d)", p.Line, p.Column)}
	}
	return &RowError{Line: p.StartLine, Reason: p.Err.Error()}
}

// A rowLimit reads from r, and fails when more than left bytes are read.
type rowLimit struct {
	r    io.Reader
	left int
}

func (l *rowLimit) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.left -= n; l.left < 0 {
		return 0, errLongRow
	}
	return n, err
}
