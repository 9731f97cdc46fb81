package sqlitestore

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"

	"github.com/zeroae/zael/internal/sqladmin"
)

// connRows are the rows of a query of a conn. Their values are int64, string, []byte or nil.
type connRows struct {
	rows   driver.Rows
	values []driver.Value // of the present row
	buf    [8]driver.Value
	err    error
}

var _ sqladmin.Rows = (*connRows)(nil)

// Next implements sqladmin.Rows.
func (r *connRows) Next() bool {
	r.err = r.rows.Next(r.values)
	if errors.Is(r.err, io.EOF) {
		r.err = nil
		return false
	}
	return r.err == nil
}

// Err implements sqladmin.Rows.
func (r *connRows) Err() error { return r.err }

// Scan implements sqladmin.Rows.
func (r *connRows) Scan(targets ...any) error {
	for i, target := range targets {
		if !assign(target, r.values[i]) {
			return fmt.Errorf("column %d is a %T, not what a %T points to", i+1, r.values[i], target)
		}
	}
	return nil
}

// assign sets what target points to, and reports whether it can have that value.
func assign(target any, value driver.Value) (ok bool) {
	switch t := target.(type) {
	case *int64:
		*t, ok = value.(int64)
	case *string:
		*t, ok = value.(string)
	}
	return ok
}

// valuesOf returns the values of a sqladmin.Query as a conn takes them.
func valuesOf(args []any) []any {
	values := make([]any, len(args))
	for i, a := range args {
		switch a := a.(type) {
		case bool:
			values[i] = int64(0)
			if a {
				values[i] = int64(1)
			}
		case int:
			values[i] = int64(a)
		case *string:
			if a != nil {
				values[i] = *a
			}
		default:
			values[i] = a
		}
	}
	return values
}
