// Package replay runs a trace of requests through a Limiter in virtual time and
// reports what its limits would have done: what was admitted and refused, how
// long requests would have waited, and what the limits would have needed to
// refuse nothing.
package replay

import (
	"context"
	"io"
	"time"

	"github.com/zeroae/zael"
)

// Options say how to read a trace and what to try on it.
type Options struct {
	Limits  []zael.Limit    // at least one, valid, with different names
	Consume map[string]Expr // what a row takes, by limit; 1 where it names none
	Settle  map[string]Expr // what it then settles to, at the same instant; nothing where it names none
	MaxWait time.Duration   // a request may wait so long; not negative

	Format       string        // FormatCSV or FormatJSONLines; empty: by the first character
	Delimiter    rune          // of CSV; 0: by the header
	Columns      []string      // of CSV without a header; nil: the first line names them
	TimeColumn   string        // empty: the first column
	TimeUnit     time.Duration // of times that are numbers: a second, ms, µs or ns; 0: a second
	EntityColumn string        // empty: all rows are of one entity, DefaultEntity
	Resource     string        // empty: DefaultResource

	// Sort reads all rows before the first is tried, and sorts them by time,
	// equal ones as they come. Otherwise rows must be in order, and memory
	// does not grow with them, but with the entities.
	Sort bool

	// SkipBadRows leaves rows that cannot be read out, and counts them.
	SkipBadRows bool

	// Progress, if any, is called now and then with the rows read so far.
	Progress func(rows int64)
}

// Formats of a trace.
const (
	FormatCSV       = "csv"
	FormatJSONLines = "jsonl"
)

// Names of what a trace does not name.
const (
	DefaultEntity   = "trace"
	DefaultResource = "trace"
)

func (o *Options) takes(limit string) Expr {
	if e, ok := o.Consume[limit]; ok {
		return e
	}
	return Number(1)
}

// Run replays the trace in r on a store. Errors are a *ColumnError, a
// *RowError, what reading r gives, and what a Limiter gives, with the line.
func Run(ctx context.Context, store zael.Store, r io.Reader, o *Options) (*Report, error) {
	t, err := openTrace(r, o)
	if err != nil {
		return nil, err
	}
	e, err := newEngine(store, o)
	if err != nil {
		return nil, err
	}
	if o.Sort {
		err = e.runSorted(ctx, t)
	} else {
		err = e.runInOrder(ctx, t)
	}
	if err != nil {
		return nil, err
	}
	report := e.report()
	report.Skipped = t.skipped
	report.Warnings = t.warnings(e.lastAt.Time().Sub(e.firstAt.Time()))
	return report, nil
}
