// Package faultproxy is an HTTP proxy for tests. It stands between a client and
// an engine on this machine and loses, delays, doubles or refuses what passes, as a
// plan says for each request.
package faultproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Fault is what happens to one request.
type Fault uint8

// Faults. Of those where the request reaches the engine it is applied once.
const (
	Forward Fault = iota // none

	// The engine never sees the request.
	LoseRequest // the connection is reset
	Hang        // there is no answer until the client gives up
	FailBefore  // InternalServerError, 500
	Throttle    // ProvisionedThroughputExceededException, 400
	ThrottleAPI // ThrottlingException, 400
	Deny        // AccessDeniedException, 400

	// The engine sees it after Action.Delay, whether the client still waits or not.
	LateRequest

	// The engine sees it at once, and the client learns nothing of the answer, or late.
	LateReply  // after Action.Delay
	NoReply    // there is no answer until the client gives up
	DropReply  // the connection is closed
	ResetReply // the connection is reset
	CutReply   // the connection is closed in the middle of the answer's body
	FailAfter  // InternalServerError, 500

	Faults // how many there are
)

func (f Fault) String() string {
	names := [Faults]string{
		"Forward", "LoseRequest", "Hang", "FailBefore", "Throttle", "ThrottleAPI", "Deny",
		"LateRequest", "LateReply", "NoReply", "DropReply", "ResetReply", "CutReply", "FailAfter",
	}
	if f < Faults {
		return names[f]
	}
	return fmt.Sprintf("Fault(%d)", uint8(f))
}

// Applies tells whether the engine sees the request.
func (f Fault) Applies() bool { return f == Forward || f >= LateRequest }

// Ambiguous tells whether the client cannot know if it was applied. With
// LateRequest and LateReply it depends on how long it waits.
func (f Fault) Ambiguous() bool {
	switch f {
	case Forward, Throttle, ThrottleAPI, Deny, LateRequest, LateReply:
		return false
	}
	return true
}

// An Action is a fault and, for LateRequest and LateReply, how late.
type Action struct {
	Fault Fault
	Delay time.Duration
}

// An Exchange is a request and what came of it.
type Exchange struct {
	Header  http.Header
	Request []byte
	Action  Action
	Status  int       // of the engine's answer; 0 if it never saw the request, or gave none
	Reply   []byte    // the engine's
	Asked   time.Time // when the engine was, zero if it was not; it did its work from then until Done
	Done    time.Time
	Left    bool // the client had gone by then, as it waits for a time only
}

// Config says what a Proxy does. Both functions are called by many goroutines.
type Config struct {
	// Plan says what happens to a request. Nil forwards all.
	Plan func(header http.Header, body []byte) Action
	// Seen is told of each request, after the engine has answered and before the
	// client gets to know.
	Seen func(Exchange)
}

// A Proxy listens on the loopback interface. Safe for concurrent use.
type Proxy struct {
	config Config
	target string
	engine http.Transport
	life   context.Context //nolint:containedctx // of the requests to the engine, which outlive their clients
	end    context.CancelFunc
	busy   sync.WaitGroup // requests

	mu      sync.Mutex
	outage  Outage
	address string
	server  *http.Server // nil: nothing listens
	closed  bool
}

// New starts a proxy to the engine at an http URL. Config may be nil.
func New(target string, config *Config) (*Proxy, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme != "http" || u.Hostname() != "localhost" && !ip.IsLoopback() {
		return nil, fmt.Errorf("faultproxy: %s: want an http URL of this machine", target)
	}
	p := &Proxy{target: u.Scheme + "://" + u.Host, address: "127.0.0.1:0"}
	if config != nil {
		p.config = *config
	}
	p.engine.MaxIdleConnsPerHost = 100
	p.engine.DisableCompression = true
	p.life, p.end = context.WithCancel(context.Background())
	if err := p.listen(); err != nil {
		p.end()
		return nil, err
	}
	return p, nil
}

// URL is what clients use as their endpoint. It stays the same over outages.
func (p *Proxy) URL() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return "http://" + p.address
}

// listen begins to serve; with p.mu held, or before there is anybody else.
func (p *Proxy) listen() error {
	l, err := new(net.ListenConfig).Listen(p.life, "tcp", p.address)
	if err != nil {
		return fmt.Errorf("faultproxy: %w", err)
	}
	p.address = l.Addr().String()
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
	go func(s *http.Server) { _ = s.Serve(l) }(p.server) // until it is closed
	return nil
}

// Close waits until all requests that have come in have been dealt with, late
// ones too, as long as ctx lets it, and ends the proxy. Clients are to be done by
// then, and their idle connections closed.
func (p *Proxy) Close(ctx context.Context) error {
	p.mu.Lock()
	server := p.server
	p.server, p.closed = nil, true
	p.mu.Unlock()
	defer p.engine.CloseIdleConnections()
	defer p.end()
	var err error
	if server != nil {
		err = server.Shutdown(ctx)
	}
	done := make(chan struct{})
	go func() {
		p.busy.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		err = errors.Join(err, fmt.Errorf("faultproxy: closing with requests on their way: %w", ctx.Err()))
		p.end()
		if server != nil {
			_ = server.Close()
		}
		<-done
	}
	return err
}

// ServeHTTP deals with one request.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.busy.Add(1)
	defer p.busy.Done()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the client left in the middle
	}
	x := Exchange{Header: r.Header, Request: body, Action: p.action(r.Header, body)}
	fault := x.Action.Fault
	if fault == LateRequest {
		p.wait(p.life, x.Action.Delay)
	}
	var header http.Header
	if fault.Applies() {
		header, err = p.forward(r, &x)
	}
	if p.config.Seen != nil {
		x.Left = r.Context().Err() != nil
		p.config.Seen(x)
	}
	if err != nil {
		panic(http.ErrAbortHandler) // the engine gave no answer: nor do we
	}
	switch fault {
	case LateReply:
		p.wait(r.Context(), x.Action.Delay)
	case Hang, NoReply:
		<-r.Context().Done()
		return
	case DropReply:
		panic(http.ErrAbortHandler)
	case LoseRequest, ResetReply:
		reset(w)
		return
	case FailBefore, FailAfter:
		fail(w, http.StatusInternalServerError, "com.amazonaws.dynamodb.v20120810#InternalServerError", "The request processing has failed because of an unknown error.")
		return
	case Throttle:
		fail(w, http.StatusBadRequest, "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException", "The level of configured provisioned throughput for the table was exceeded.")
		return
	case ThrottleAPI:
		fail(w, http.StatusBadRequest, "com.amazon.coral.availability#ThrottlingException", "Rate of requests exceeds the allowed throughput.")
		return
	case Deny:
		fail(w, http.StatusBadRequest, "com.amazon.coral.service#AccessDeniedException", "User is not authorized to perform this.")
		return
	}
	maps.Copy(w.Header(), header)
	w.WriteHeader(x.Status)
	if fault == CutReply {
		_, _ = w.Write(x.Reply[:len(x.Reply)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(x.Reply)
}

// forward asks the engine, whether the client waits or not.
func (p *Proxy) forward(r *http.Request, x *Exchange) (http.Header, error) {
	out, err := http.NewRequestWithContext(p.life, r.Method, p.target+r.URL.RequestURI(), bytes.NewReader(x.Request))
	if err != nil {
		return nil, err
	}
	out.Header = r.Header.Clone()
	x.Asked = time.Now()
	defer func() { x.Done = time.Now() }()
	resp, err := p.engine.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if x.Reply, err = io.ReadAll(resp.Body); err != nil {
		return nil, err
	}
	x.Status = resp.StatusCode
	return resp.Header, nil
}

// wait waits for d, or until ctx is done.
func (p *Proxy) wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// fail answers in the engine's words.
func fail(w http.ResponseWriter, status int, kind, message string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"__type":%q,"message":%q}`, kind, message)
}

// reset ends the connection at once.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if c, ok := conn.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
	_ = conn.Close()
}
