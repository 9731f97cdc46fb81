package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"
)

// writeTime is how long a client may take to read what fits into no buffer on the way.
const writeTime = 30 * time.Second

// A server serves the connections of a listener.
type server struct {
	http.Server

	listener  *boundedListener
	encrypted bool
}

// listen returns a server of an address.
func (d *Daemon) listen(ctx context.Context, address string, encrypted bool, h http.Handler, most func() int64) (*server, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	m := d.config.Load().Max
	s := &server{encrypted: encrypted, listener: &boundedListener{Listener: l, most: most, refused: d.metrics.connectionsRefused.Inc}}
	s.Handler = h
	s.ReadHeaderTimeout, s.IdleTimeout, s.MaxHeaderBytes = m.HeaderTime, m.Idle, m.Header
	s.BaseContext = func(net.Listener) context.Context { return d.requestsContext }
	// Broken connections and handshakes: any client can make as many as it likes.
	s.ErrorLog = slog.NewLogLogger(d.log.Handler(), slog.LevelDebug)
	if encrypted {
		s.TLSConfig = d.tlsConfig()
	}
	return s, nil
}

// listenError says what to do about an address that cannot be had, which a setting names.
func listenError(address, setting string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("another program has the address %s, perhaps another zael serve: end it, or choose another address with %s: %w", address, setting, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("this user may not have the address %s: choose a port from 1024 on with %s: %w", address, setting, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("the address %s is not one of this machine: choose another with %s, such as 127.0.0.1:8080: %w", address, setting, err)
	}
	return err
}

// serve accepts connections until the server is shut down or closed, which is no error.
func (s *server) serve() (err error) {
	if s.encrypted {
		err = s.ServeTLS(s.listener, "", "")
	} else {
		err = s.Serve(s.listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// A boundedListener closes connections above the most that may be open, at once: those who
// hold them cannot keep others waiting in line.
type boundedListener struct {
	net.Listener

	open    atomic.Int64
	most    func() int64
	refused func()
}

// Accept implements net.Listener.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.most() {
			return newConn(c, &l.open), nil
		}
		l.open.Add(-1)
		_ = c.Close()
		l.refused()
	}
}

// A conn is one of the connections of a boundedListener. A write that its client does not read
// fails in time.
type conn struct {
	net.Conn

	open   *atomic.Int64
	closed atomic.Bool
	begun  time.Time
	bound  atomic.Int64 // when its deadline was set, in nanoseconds from begun; 0: it is not ours
}

// newConn returns a connection that counts in open until it is closed.
func newConn(c net.Conn, open *atomic.Int64) *conn {
	return &conn{Conn: c, open: open, begun: time.Now()}
}

// boundEvery is for how long a deadline serves further writes: streams have many small ones.
const boundEvery = 2 * time.Second

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	now := max(1, int64(time.Since(c.begun)))
	if bound := c.bound.Load(); bound == 0 || now-bound > int64(boundEvery) {
		if err := c.Conn.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
			return 0, err
		}
		c.bound.Store(now)
	}
	return c.Conn.Write(p)
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.bound.Store(0)
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	c.bound.Store(0)
	return c.Conn.SetDeadline(t)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	if !c.closed.Swap(true) {
		c.open.Add(-1)
	}
	return c.Conn.Close()
}
