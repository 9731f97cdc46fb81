package gateway

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/zeroae/zael/internal/serve/config"
)

// newUpstream returns the transport to upstreams. It follows no redirects, as no transport
// does, and dials no address that is forbidden, whatever a name leads to.
func newUpstream() *http.Transport {
	dialer := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second, Control: checkDial}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, ForceAttemptHTTP2: true, DisableCompression: true,
		TLSHandshakeTimeout: 10 * time.Second, ExpectContinueTimeout: time.Second, IdleConnTimeout: 90 * time.Second,
		MaxIdleConns: 1000, MaxIdleConnsPerHost: 1000, MaxResponseHeaderBytes: 256 << 10,
	}
}

// checkDial refuses addresses that no upstream has.
func checkDial(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if config.ForbiddenUpstream(at.Addr()) {
		return fmt.Errorf("%s is link-local, or a cloud's metadata service: no call goes there", at.Addr())
	}
	return nil
}

// A roundTripper sends calls through the limits of their routes.
type roundTripper struct{ *Gateway }

// RoundTrip implements http.RoundTripper.
func (t roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	return flightOf(r.Context()).route.limits.Middleware(r, t.send)
}

// send sends a call that was admitted.
func (t roundTripper) send(r *http.Request) (*http.Response, error) {
	watch := &flightOf(r.Context()).watch
	watch.header.Store(watch.now())
	res, err := t.base.RoundTrip(r)
	watch.header.Store(0)
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		_ = res.Body.Close()
		return nil, errors.New("the upstream switches to another protocol")
	}
	res.Body = &watchedBody{res.Body, watch}
	if strings.EqualFold(res.Header.Get("Content-Encoding"), "gzip") { // nobody asked for it
		res.Body = &gunzip{source: res.Body, most: t.bounds.Decoded}
		res.Header.Del("Content-Encoding")
		res.Header.Del("Content-Length")
		res.ContentLength = -1
	}
	return res, nil
}

var errDecoded = errors.New("a compressed answer is too large")

// A gunzip decompresses an answer, as much as may be: a small one may stand for a large one.
type gunzip struct {
	source io.ReadCloser
	most   int64
	reader *gzip.Reader
	read   int64
	err    error
}

// Read implements io.Reader.
func (g *gunzip) Read(p []byte) (int, error) {
	if g.reader == nil && g.err == nil {
		g.reader, g.err = gzip.NewReader(g.source)
	}
	if g.err != nil {
		return 0, g.err
	}
	n, err := g.reader.Read(p)
	if g.read += int64(n); g.read > g.most {
		n, err = 0, errDecoded
	}
	g.err = err
	return n, err
}

// Close implements io.Closer.
func (g *gunzip) Close() error { return g.source.Close() }

// bufferSize is that of the buffers through which answers are copied.
const bufferSize = 16 << 10

// buffers are those that are free.
type buffers struct{ pool sync.Pool }

func newBuffers() *buffers {
	return &buffers{sync.Pool{New: func() any { return new([bufferSize]byte) }}}
}

// Get implements httputil.BufferPool.
func (b *buffers) Get() []byte {
	return b.pool.Get().(*[bufferSize]byte)[:] //nolint:forcetypeassert // the pool holds nothing else
}

// Put implements httputil.BufferPool.
func (b *buffers) Put(p []byte) { b.pool.Put((*[bufferSize]byte)(p)) }

func copyAll(w io.Writer, r io.Reader) (int64, error) { return io.Copy(w, r) }
