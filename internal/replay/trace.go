package replay

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/zeroae/zael/bucket"
)

// A RowError is about a line of the trace.
type RowError struct {
	Line   int    // of the file, from 1
	Column string // empty if the error is about the whole line
	Reason string
	Remedy string // may be empty
}

// Error names the line, the column, the reason and the remedy.
func (e *RowError) Error() string {
	text := fmt.Sprintf("line %d", e.Line)
	if e.Column != "" {
		text += ", column " + e.Column
	}
	text += ": " + e.Reason
	if e.Remedy != "" {
		text += ": " + e.Remedy
	}
	return text
}

// A cellError is a RowError without line and column.
type cellError struct{ reason, remedy string }

func (e *cellError) Error() string { return e.reason }

// A ColumnError names a column that the trace does not have, or has twice.
type ColumnError struct {
	Column  string
	Columns []string // of the trace
	Twice   bool
}

// Error names the columns that the trace has.
func (e *ColumnError) Error() string {
	if e.Twice {
		return fmt.Sprintf("there are two columns %s", quote(e.Column))
	}
	return fmt.Sprintf("no column %s; the columns are %s", quote(e.Column), list(e.Columns))
}

// list returns names for a message.
func list(names []string) string {
	const most = 30
	names = slices.Clone(names)
	for i := range names {
		if names[i] == "" {
			names[i] = `""`
		}
	}
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// A source reads the rows of a file of some format.
type source interface {
	// columns returns the names of the columns, in the order of the file.
	columns() []string

	// column returns the index of a column in what next returns, or a
	// *ColumnError. A column that is not required may be missing from rows where
	// the format allows that; its cell is then empty.
	column(name string, required bool) (int, error)

	// next returns the cells of the next row, which are valid until the next
	// call, and io.EOF after the last. It can be called again after a *RowError.
	next() ([]string, error)

	// position returns the line and the column's name of a cell of the last row.
	position(column int) (line int, name string)
}

// A trace reads requests from the rows of a source.
type trace struct {
	rows        source
	times       timeReader
	time        int  // column
	timeIsFirst bool // no time column was named
	entity      int  // column; -1: none
	duration    int  // column; -1: none
	take        []sum
	settle      []sum  // as long as take
	settled     []bool // those that have a sum of their own
	request     request

	good     int64
	skipBad  bool
	skipped  int64
	firstBad error // the first row that was skipped

	emptyCell bool  // the current row has one among its amounts
	withEmpty int64 // good rows that have one
}

// A request is what a row of the trace asks for.
type request struct {
	line     int
	at       bucket.Instant
	entity   string        // valid until the next request
	duration time.Duration // how long its slots are held
	take     []int64       // in the order of the limits
	settle   []int64
}

// openTrace finds the columns that o names.
func openTrace(r io.Reader, o *Options) (*trace, error) {
	rows, err := openSource(r, o)
	if err != nil {
		return nil, err
	}
	t := &trace{
		rows: rows, times: newTimeReader(o),
		timeIsFirst: o.TimeColumn == "", entity: -1, duration: -1, skipBad: o.SkipBadRows,
	}
	name := o.TimeColumn
	if columns := rows.columns(); t.timeIsFirst {
		if len(columns) == 0 || columns[0] == "" {
			return nil, errors.New("the first column has no name: " + t.nameTimeColumn())
		}
		name = columns[0]
	}
	if t.time, err = rows.column(name, true); err != nil {
		return nil, err
	}
	if o.EntityColumn != "" {
		if t.entity, err = rows.column(o.EntityColumn, true); err != nil {
			return nil, err
		}
	}
	if o.DurationColumn != "" {
		if t.duration, err = rows.column(o.DurationColumn, true); err != nil {
			return nil, err
		}
	}
	for _, l := range o.Limits {
		take, err := o.consume(l.Name).bind(rows)
		if err != nil {
			return nil, err
		}
		expr, settled := o.Settle[l.Name]
		settle, err := expr.bind(rows)
		if err != nil {
			return nil, err
		}
		t.take, t.settle, t.settled = append(t.take, take), append(t.settle, settle), append(t.settled, settled)
	}
	n := len(o.Limits)
	amounts := make([]int64, 2*n)
	t.request.take, t.request.settle = amounts[:n:n], amounts[n:]
	return t, nil
}

func (t *trace) nameTimeColumn() string {
	return "name the time column with --time-column; the columns are " + list(t.rows.columns())
}

// next returns the next request, which is valid until the next call, and io.EOF
// after the last.
func (t *trace) next() (*request, error) {
	for {
		r, err := t.read()
		if err == nil {
			t.good++
			if t.emptyCell {
				t.withEmpty++
			}
			return r, nil
		}
		bad, ok := errors.AsType[*RowError](err)
		switch {
		case errors.Is(err, io.EOF) && t.good == 0 && t.skipped > 0:
			return nil, fmt.Errorf("all rows are bad; the first: %w", t.firstBad)
		case !ok:
			return nil, err
		case !t.skipBad:
			bad.Remedy = cmp.Or(bad.Remedy, "--skip-bad-rows leaves such rows out")
			return nil, bad
		}
		t.firstBad = cmp.Or(t.firstBad, err)
		t.skipped++
	}
}

func (t *trace) read() (*request, error) {
	cells, err := t.rows.next()
	if err != nil {
		return nil, err
	}
	r := &t.request
	r.line, _ = t.rows.position(t.time)
	if r.at, err = t.times.read(cells[t.time], r.line); err != nil {
		return nil, t.timeError(err)
	}
	if t.entity >= 0 {
		if r.entity = strings.TrimSpace(cells[t.entity]); r.entity == "" {
			return nil, t.rowError(t.entity, &cellError{reason: "the cell is empty"})
		}
	}
	if t.duration >= 0 {
		if r.duration, err = t.times.duration(cells[t.duration]); err != nil {
			return nil, t.rowError(t.duration, err)
		}
	}
	t.emptyCell = false
	for i := range t.take {
		if r.take[i], err = t.amount(&t.take[i], cells); err != nil {
			return nil, err
		}
		if !t.settled[i] {
			r.settle[i] = r.take[i]
			continue
		}
		if r.settle[i], err = t.amount(&t.settle[i], cells); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// amount returns the sum of a row's cells. An empty cell counts as 0, as does the "-" of
// access logs.
func (t *trace) amount(s *sum, cells []string) (int64, error) {
	total := s.number
	for _, column := range s.columns {
		cell := strings.TrimSpace(cells[column])
		if cell == "" || cell == "-" {
			t.emptyCell = true
			continue
		}
		n, err := parseTokens(cell)
		if err != nil {
			return 0, t.rowError(column, err)
		}
		if total += n; total > bucket.MaxAmount {
			return 0, t.rowError(column, &cellError{reason: fmt.Sprintf("the sum is more than %d tokens", bucket.MaxAmount)})
		}
	}
	return total, nil
}

// timeError is rowError for the time. Until one was read, the column is in doubt.
func (t *trace) timeError(err error) error {
	bad := t.rowError(t.time, err)
	if t.times.form == unknownForm {
		if t.timeIsFirst {
			bad.Remedy = cmp.Or(bad.Remedy, t.nameTimeColumn())
		}
		bad.Remedy = cmp.Or(bad.Remedy, "write RFC 3339, 2006-01-02 15:04:05.999 (UTC), 02/Jan/2006:15:04:05 -0700, or a number")
	}
	return bad
}

// rowError adds line and column to the error of a cell of the last row.
func (t *trace) rowError(column int, err error) *RowError {
	e := &RowError{Reason: err.Error()}
	e.Line, e.Column = t.rows.position(column)
	if cell, ok := errors.AsType[*cellError](err); ok {
		e.Remedy = cell.remedy
	}
	return e
}

// warnings returns what a reader of the report should know about the trace, of which
// the times cover a length.
func (t *trace) warnings(length time.Duration) []string {
	var texts []string
	if t.skipped > 0 {
		texts = append(texts, fmt.Sprintf("%s skipped, the first: %v", plural(t.skipped, "bad row", "bad rows"), t.firstBad))
	}
	if t.withEmpty > 0 {
		texts = append(texts, fmt.Sprintf("%s empty cells, which count as 0 tokens", plural(t.withEmpty, "row has", "rows have")))
	}
	if text := t.times.warning(t.good, length); text != "" {
		texts = append(texts, text)
	}
	return texts
}
