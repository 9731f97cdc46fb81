// Package relay gives a test process an address of its own for an engine that other
// processes use too. When the tests have ended, closing it closes the connections that
// clients keep for later, as the end of an engine of its own would: no goroutine waits at
// them any more.
package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
)

// A Relay passes connections on to an engine until Close. Safe for concurrent use.
type Relay struct {
	listener net.Listener
	to       string // host:port
	ctx      context.Context
	cancel   context.CancelFunc

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
	work   sync.WaitGroup
}

// Start returns a relay to endpoint, http://HOST:PORT.
func Start(endpoint string) (*Relay, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	if u.Scheme != "http" || u.Port() == "" {
		return nil, fmt.Errorf("relay: %s: want http://HOST:PORT", endpoint)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Relay{to: u.Host, ctx: ctx, cancel: cancel, conns: map[net.Conn]struct{}{}}
	if r.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		cancel()
		return nil, fmt.Errorf("relay: %w", err)
	}
	r.work.Go(r.accept)
	return r, nil
}

// Endpoint returns the relay's URL, http://127.0.0.1:PORT.
func (r *Relay) Endpoint() string { return "http://" + r.listener.Addr().String() }

// Close ends the relay and all its connections, and waits for their end. Closing again does
// nothing. The error is always nil.
func (r *Relay) Close() error {
	r.mu.Lock()
	r.closed = true
	for c := range r.conns {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.cancel()
	_ = r.listener.Close()
	r.work.Wait()
	return nil
}

func (r *Relay) accept() {
	for {
		c, err := r.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // such as a client that has left
			continue
		}
		r.work.Go(func() { r.pass(c) })
	}
}

// pass connects a client with the engine until one of them closes its connection.
func (r *Relay) pass(client net.Conn) {
	defer client.Close()
	if !r.add(client) {
		return
	}
	defer r.remove(client)
	server, err := new(net.Dialer).DialContext(r.ctx, "tcp", r.to)
	if err != nil {
		return
	}
	defer server.Close()
	if !r.add(server) {
		return
	}
	defer r.remove(server)
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	})
	_, _ = io.Copy(server, client)
	_ = server.Close()
	back.Wait()
}

// add reports whether the relay is open, and if so has Close close c.
func (r *Relay) add(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.conns[c] = struct{}{}
	return true
}

func (r *Relay) remove(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
}
