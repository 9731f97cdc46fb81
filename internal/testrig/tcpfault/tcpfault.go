// Package tcpfault is a proxy for tests. It stands between clients and an engine on this machine
// and loses, delays or cuts what passes, as a plan says.
package tcpfault

import (
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// A Fault is what happens to a request: to what a client sends at once, which may be several
// commands.
type Fault uint8

// Faults.
const (
	Forward     Fault = iota // none
	LoseRequest              // the engine never sees it, and the connection is reset
	Hang                     // the engine never sees it, and nothing more comes of the connection
	DropReply                // the engine sees it, and the connection is reset instead of the answer
	NoReply                  // the engine sees it, and nothing more comes of the connection
	LateReply                // the engine sees it, and the answer comes after Action.Delay

	Faults // how many there are
)

// An Action is a fault and, for LateReply, how late.
type Action struct {
	Fault Fault
	Delay time.Duration
}

// A Proxy listens on the loopback interface. Safe for concurrent use.
type Proxy struct {
	target string
	plan   func() Action
	l      net.Listener
	life   context.Context //nolint:containedctx // of the connections
	end    context.CancelFunc
	all    sync.WaitGroup
}

// New starts a proxy to an address. plan is asked once for each request, by many goroutines.
func New(target string, plan func() Action) (*Proxy, error) {
	p := &Proxy{target: target, plan: plan}
	p.life, p.end = context.WithCancel(context.Background())
	var err error
	if p.l, err = new(net.ListenConfig).Listen(p.life, "tcp", "127.0.0.1:0"); err != nil {
		p.end()
		return nil, err
	}
	p.all.Go(p.accept)
	return p, nil
}

// Address returns host and port of the proxy.
func (p *Proxy) Address() string { return p.l.Addr().String() }

// Close ends the proxy and all its connections.
func (p *Proxy) Close() {
	p.end()
	_ = p.l.Close()
	p.all.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.l.Accept()
		if err != nil {
			return
		}
		p.all.Go(func() { p.serve(client) })
	}
}

// A pair is a client's connection and that to the engine.
type pair struct {
	client, engine net.Conn

	mu     sync.Mutex
	silent bool          // nothing goes to the client any more
	cut    bool          // the next answer resets the connection
	late   time.Duration // of the next answer
}

// serve passes on what comes on a connection.
func (p *Proxy) serve(client net.Conn) {
	engine, err := new(net.Dialer).DialContext(p.life, "tcp", p.target)
	if err != nil {
		_ = client.Close()
		return
	}
	c := &pair{client: client, engine: engine}
	stop := context.AfterFunc(p.life, c.close)
	defer stop()
	defer c.close()
	var back sync.WaitGroup
	back.Go(func() {
		c.answers()
		c.close()
	})
	p.requests(c)
	c.close()
	back.Wait()
}

// close closes both connections.
func (c *pair) close() {
	_ = c.client.Close()
	_ = c.engine.Close()
}

// reset closes them so that the client sees a reset.
func (c *pair) reset() {
	if tcp, ok := c.client.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.close()
}

// requests passes on what the client sends.
func (p *Proxy) requests(c *pair) {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.client.Read(buf)
		if err != nil {
			return
		}
		a := p.plan()
		switch a.Fault {
		case LoseRequest:
			c.reset()
			return
		case Hang:
			c.mu.Lock()
			c.silent = true
			c.mu.Unlock()
			_, _ = io.Copy(io.Discard, c.client) // until it leaves
			return
		}
		c.mu.Lock()
		c.cut = c.cut || a.Fault == DropReply
		c.silent = c.silent || a.Fault == NoReply
		c.late = max(c.late, a.Delay)
		c.mu.Unlock()
		if _, err := c.engine.Write(buf[:n]); err != nil {
			return
		}
	}
}

// answers passes on what the engine answers.
func (c *pair) answers() {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.engine.Read(buf)
		if err != nil {
			return
		}
		c.mu.Lock()
		silent, cut, late := c.silent, c.cut, c.late
		c.late = 0
		c.mu.Unlock()
		switch {
		case cut:
			c.reset()
			return
		case silent:
			continue
		case late > 0:
			t := time.NewTimer(late)
			<-t.C
		}
		if _, err := c.client.Write(buf[:n]); err != nil {
			return
		}
	}
}
