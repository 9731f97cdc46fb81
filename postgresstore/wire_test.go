package postgresstore_test

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// A wire passes connections on to a server, and breaks them.
type wire struct {
	listener net.Listener
	server   atomic.Pointer[string] // its address
	tls      *tls.Config            // by which it answers those that ask for TLS; nil: the server answers
	// cut decides, of each message of bytes from the server, whether the connection breaks
	// instead. nil: never.
	cut atomic.Pointer[func() bool]

	mu    sync.Mutex
	open  map[net.Conn]bool
	ended bool
	wg    sync.WaitGroup
}

func newWire(t *testing.T, server string) *wire {
	t.Helper()
	return newTLSWire(t, server, nil)
}

func newTLSWire(t *testing.T, server string, config *tls.Config) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: l, tls: config, open: map[net.Conn]bool{}}
	w.move(server)
	w.wg.Go(w.accept)
	t.Cleanup(w.close)
	return w
}

func (w *wire) address() string { return w.listener.Addr().String() }

// move has connections lead to another server from now on. Those that are open stay.
func (w *wire) move(server string) { w.server.Store(&server) }

// breakWhen has connections break by a decision.
func (w *wire) breakWhen(cut func() bool) {
	if cut == nil {
		w.cut.Store(nil)
		return
	}
	w.cut.Store(&cut)
}

func (w *wire) close() {
	_ = w.listener.Close()
	w.mu.Lock()
	w.ended = true
	for c := range w.open {
		_ = c.Close()
	}
	w.mu.Unlock()
	w.wg.Wait()
}

func (w *wire) accept() {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", *w.server.Load())
		if err != nil {
			_ = client.Close()
			continue
		}
		if !w.keep(client, server) {
			return
		}
		w.wg.Go(func() {
			defer w.drop(client, server)
			secured, err := w.secure(client)
			if err != nil {
				return
			}
			w.wg.Go(func() {
				defer w.drop(client, server)
				w.answer(secured, server)
			})
			_, _ = io.Copy(server, secured)
		})
	}
}

// secure answers the request for TLS with which a client of PostgreSQL begins.
func (w *wire) secure(client net.Conn) (net.Conn, error) {
	if w.tls == nil {
		return client, nil
	}
	if _, err := io.ReadFull(client, make([]byte, 8)); err != nil {
		return nil, err
	}
	if _, err := client.Write([]byte("S")); err != nil {
		return nil, err
	}
	c := tls.Server(client, w.tls)
	return c, c.Handshake()
}

// answer passes on what the server says, until the connection is to break.
func (w *wire) answer(client, server net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		if cut := w.cut.Load(); cut != nil && (*cut)() {
			return
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (w *wire) keep(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		if w.ended {
			_ = c.Close()
		}
		w.open[c] = true
	}
	return !w.ended
}

func (w *wire) drop(conns ...net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
		delete(w.open, c)
	}
}
