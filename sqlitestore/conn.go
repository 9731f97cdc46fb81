package sqlitestore

import (
	"context"
	"database/sql/driver"
	"fmt"
	"math/rand/v2"
	"time"

	sqlite "modernc.org/sqlite"

	"github.com/zeroae/zael/internal/sqladmin"
)

// A conn is a connection for one goroutine, without database/sql. It prepares each
// statement once.
type conn struct {
	driver.Conn
	stmts map[string]stmt
	args  []driver.NamedValue
}

type stmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

func openConn(name string) (*conn, error) {
	c, err := new(sqlite.Driver).Open(name)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, stmts: map[string]stmt{}}, nil
}

// readOnly reports whether the file was opened for reading only. It does not read
// from the file.
func (c *conn) readOnly() (bool, error) {
	r, ok := c.Conn.(interface {
		IsReadOnly(schema string) (bool, error)
	})
	if !ok {
		return false, fmt.Errorf("a connection of the driver is a %T", c.Conn)
	}
	return r.IsReadOnly("main")
}

// close closes the connection. Errors of statements have been returned before.
func (c *conn) close() error {
	for _, s := range c.stmts {
		_ = s.Close()
	}
	return c.Conn.Close()
}

// prepare returns the statement of a query, which must be a constant.
func (c *conn) prepare(query string) (stmt, error) {
	if s, ok := c.stmts[query]; ok {
		return s, nil
	}
	prepared, err := c.Prepare(query)
	if err != nil {
		return nil, err
	}
	s, ok := prepared.(stmt)
	if !ok {
		return nil, fmt.Errorf("a statement of the driver is a %T", prepared)
	}
	c.stmts[query] = s
	return s, nil
}

func (c *conn) bind(args []any) []driver.NamedValue {
	c.args = c.args[:0]
	for i, a := range args {
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: a})
	}
	return c.args
}

// exec runs a query without rows. Arguments are int64, string, []byte or nil.
func (c *conn) exec(query string, args ...any) (driver.Result, error) {
	s, err := c.prepare(query)
	if err != nil {
		return nil, err
	}
	return s.ExecContext(context.Background(), c.bind(args))
}

// script runs statements once, without keeping them prepared.
func (c *conn) script(statements string) error {
	e, ok := c.Conn.(driver.ExecerContext)
	if !ok {
		return fmt.Errorf("a connection of the driver is a %T", c.Conn)
	}
	_, err := e.ExecContext(context.Background(), statements, nil)
	return err
}

// read passes the rows of a query to read.
func (c *conn) read(query string, read func(sqladmin.Rows) error, args ...any) (err error) {
	s, err := c.prepare(query)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(context.Background(), c.bind(args))
	if err != nil {
		return err
	}
	defer func() {
		if e := rows.Close(); err == nil {
			err = e
		}
	}()
	r := &connRows{rows: rows}
	r.values = r.buf[:len(rows.Columns())]
	return read(r)
}

// query calls scan for each row, until it returns an error. The values of a row are
// int64, string, []byte or nil.
func (c *conn) query(query string, scan func(row []driver.Value) error, args ...any) error {
	return c.read(query, func(rows sqladmin.Rows) error {
		r := rows.(*connRows) //nolint:forcetypeassert // it is read's
		for r.Next() {
			if err := scan(r.values); err != nil {
				return err
			}
		}
		return r.err
	}, args...)
}

// queryInt returns the single value of a query, or 0 if it has no row.
func (c *conn) queryInt(query string, args ...any) (n int64, err error) {
	err = c.query(query, func(row []driver.Value) error {
		n, _ = row[0].(int64)
		return nil
	}, args...)
	return n, err
}

// A backoff is the pause before the next try to lock the file: 50 to 200 µs at
// first, 200 to 800 µs after some tries. (Timers may take a millisecond.)
type backoff struct{ tries int }

const (
	firstWait = 50 * time.Microsecond
	longWait  = 200 * time.Microsecond
)

func (b *backoff) next() time.Duration {
	base := min(firstWait<<min(b.tries/4, 2), longWait)
	b.tries++
	return base + rand.N(3*base)
}

// pause waits until the next try, or returns an error if ctx is done first.
func (b *backoff) pause(ctx context.Context) error {
	t := time.NewTimer(b.next())
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for other processes to unlock the file: %w", ctx.Err())
	}
}

// retry calls f again as long as it fails because the file is locked.
func retry(ctx context.Context, f func() error) error {
	var wait backoff
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("waiting for the file: %w", err)
		}
		err := f()
		if err == nil || !isLocked(err) {
			return err
		}
		if err := wait.pause(ctx); err != nil {
			return err
		}
	}
}
