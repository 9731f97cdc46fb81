package httplimit

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/edge"
)

// An exchange is one request that was admitted: its context, the writer of its answer,
// and its lease. It is all of them in one, so that it is one allocation.
type exchange struct {
	context.Context
	http.ResponseWriter

	middleware *Middleware
	request    *http.Request
	lease      *zael.Lease
	status     int
	bytes      int64
	returned   bool // the handler did, without a panic
	conn       *hijacked
	values     [3]string // of headers
}

type exchangeKey struct{}

// Value implements context.Context.
func (x *exchange) Value(key any) any {
	if key == (exchangeKey{}) {
		return x
	}
	return x.Context.Value(key)
}

// WriteHeader implements http.ResponseWriter.
func (x *exchange) WriteHeader(status int) {
	if x.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		x.status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (x *exchange) Write(p []byte) (int, error) {
	x.begun()
	n, err := x.ResponseWriter.Write(p)
	x.bytes += int64(n)
	return n, err
}

// WriteString implements io.StringWriter.
func (x *exchange) WriteString(s string) (int, error) {
	x.begun()
	n, err := io.WriteString(x.ResponseWriter, s)
	x.bytes += int64(n)
	return n, err
}

// ReadFrom implements io.ReaderFrom, so that files are sent by the kernel where they
// were without the exchange.
func (x *exchange) ReadFrom(from io.Reader) (int64, error) {
	x.begun()
	n, err := io.Copy(x.ResponseWriter, from)
	x.bytes += n
	return n, err
}

func (x *exchange) begun() {
	if x.status == 0 {
		x.status = http.StatusOK
	}
}

// Flush implements http.Flusher. If the server cannot flush, it does nothing.
func (x *exchange) Flush() { _ = x.FlushError() }

// FlushError is what http.ResponseController calls.
func (x *exchange) FlushError() error {
	x.begun()
	return http.NewResponseController(x.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController find what the server's writer can do besides.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// Hijack implements http.Hijacker. The lease ends when the connection is closed.
func (x *exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(x.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if x.status == 0 {
		x.status = http.StatusSwitchingProtocols
	}
	x.conn = &hijacked{Conn: conn, exchange: x}
	// What the server's buffer writes has to be counted too.
	if err := rw.Flush(); err != nil {
		return nil, nil, errors.Join(err, x.conn.Close())
	}
	return x.conn, bufio.NewReadWriter(rw.Reader, bufio.NewWriterSize(x.conn, max(rw.Writer.Size(), 1))), nil
}

// end settles and commits the lease when the handler has returned or panicked; after
// a hijack that is left to the connection.
func (x *exchange) end() {
	if x.conn != nil && x.returned {
		return
	}
	if x.conn != nil {
		x.conn.once.Do(x.commit)
		return
	}
	if x.status == 0 {
		x.status = http.StatusOK
		if !x.returned {
			x.status = http.StatusInternalServerError
		}
	}
	x.commit()
}

// commit settles the lease, unless the handler has, and ends it, also for a client
// that has left.
func (x *exchange) commit() {
	c := &x.middleware.config
	var settle func() zael.Amounts
	if c.Settle != nil {
		settle = func() zael.Amounts {
			return c.Settle(x.request, Answer{Status: x.status, Bytes: x.bytes, Panicked: !x.returned && x.conn == nil})
		}
	}
	edge.Settle(x.Context, x.lease, settle, x.report)
}

// report tells the program of an error that the client is not told.
func (x *exchange) report(err error) {
	if report := x.middleware.config.Report; report != nil {
		report(x.request, err)
	}
}

// A hijacked is a connection that a handler has taken over.
type hijacked struct {
	net.Conn
	exchange *exchange
	written  atomic.Int64
	once     sync.Once
}

// Write implements net.Conn.
func (c *hijacked) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

// Close implements net.Conn. It ends the lease.
func (c *hijacked) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.exchange.bytes += c.written.Load()
		c.exchange.commit()
	})
	return err
}
