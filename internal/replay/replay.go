// Package replay sends a trace of requests through a Limiter in virtual time and
// reports what its limits would have done: how many requests they would have admitted
// and refused, how long requests would have waited, and the least burst and rate that
// would have refused nothing.
package replay

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/decimal"
)

// Options specify how a trace is read, and the limits to try.
type Options struct {
	Limits  []zael.Limit    // at least one, valid, with different names
	Consume map[string]Expr // what a request takes, by limit; 1 of limits that are absent
	Settle  map[string]Expr // what it settles to, at the same instant; absent limits are not settled
	MaxWait time.Duration   // how long a request may wait; not negative

	Format       string        // FormatCSV or FormatJSONLines; default: by the first character
	Delimiter    rune          // of CSV; default: by the first line
	Columns      []string      // of CSV without a header; nil if the first line names them
	TimeColumn   string        // default: the first column
	TimeUnit     time.Duration // of times that are numbers: a second, ms, µs or ns; default: a second
	EntityColumn string        // default: all requests are from DefaultEntity
	Resource     string        // default: DefaultResource

	// DurationColumn has how long each request takes: slots are held as long, from when
	// the request is admitted. Limits of slots need it.
	DurationColumn string

	// Sort reads the whole trace and sorts it by time first; requests of one instant
	// stay in order. Otherwise the trace must be in order of time, and memory grows
	// with the entities only.
	Sort bool

	// SkipBadRows leaves out rows that cannot be read, and counts them.
	SkipBadRows bool

	// Decided, if not nil, is called for each request, in order. An error ends the run.
	Decided func(*Decided) error

	// Progress, if not nil, is called from time to time with the number of requests
	// replayed so far.
	Progress func(requests int64)
}

var errNoDuration = errors.New("slots are held as long as a request takes: name the column of that with --duration-column")

// Formats of a trace.
const (
	FormatCSV       = "csv"
	FormatJSONLines = "jsonl"
)

// Names where a trace has none.
const (
	DefaultEntity   = "trace"
	DefaultResource = "trace"
)

// A Decided is what came of one request, and how each limit then stands. The request is
// not settled yet.
type Decided struct {
	Line         int           `json:"line"` // of the file
	Time         time.Time     `json:"time"`
	Entity       string        `json:"entity_id"`
	Admitted     bool          `json:"admitted"`
	DelaySeconds float64       `json:"delay_seconds"` // how long it waits
	Limits       []zael.Status `json:"limits"`
}

func (a *answer) decided(r *request, entity string) *Decided {
	d := &Decided{Line: r.line, Time: r.at.Time(), Entity: entity, Admitted: a.Admitted, DelaySeconds: decimal.Seconds(a.delay)}
	d.Limits = slices.AppendSeq(make([]zael.Status, 0, a.Len()), a.All())
	return d
}

// slots reports whether a limit is of slots.
func (o *Options) slots() bool {
	return slices.ContainsFunc(o.Limits, func(l zael.Limit) bool { return l.Kind() == zael.KindSlots })
}

// consume returns what a request takes from a limit.
func (o *Options) consume(limit string) Expr {
	if e, ok := o.Consume[limit]; ok {
		return e
	}
	return Number(1)
}

// Run replays the trace in r on a store. Its errors are *ColumnError, *RowError, errors
// of r, and errors of the Limiter with the line of the trace.
func Run(ctx context.Context, store zael.Store, r io.Reader, o *Options) (*Report, error) {
	if o.slots() && o.DurationColumn == "" {
		return nil, errNoDuration
	}
	t, err := openTrace(r, o)
	if err != nil {
		return nil, err
	}
	p, err := newReplayer(store, o)
	if err != nil {
		return nil, err
	}
	if o.Sort {
		err = p.runSorted(ctx, t)
	} else {
		err = p.runInOrder(ctx, t)
	}
	if err != nil {
		return nil, err
	}
	report := p.report()
	report.Skipped = t.skipped
	report.Warnings = t.warnings(p.lastAt.Time().Sub(p.firstAt.Time()))
	return report, nil
}
