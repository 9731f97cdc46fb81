package llm

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// An answer is the body of one. It settles the call at its end, or when it is closed, or
// when the caller's context is done.
type answer struct {
	exchange *exchange
	ctx      context.Context //nolint:containedctx // of the call
	source   io.ReadCloser
	cancel   context.CancelFunc
	stop     func() bool // the watch of ctx

	mu     sync.Mutex // guards the meter, which a context that is done reads
	ended  bool
	meter  *meter
	ending sync.WaitGroup // until the call has settled
	hidden *hider         // nil if nothing is hidden
	err    error          // of source, after what is left of hidden
}

// newAnswer replaces the body of res.
func newAnswer(ctx context.Context, x *exchange, res *http.Response, cancel context.CancelFunc) {
	a := &answer{exchange: x, ctx: ctx, source: res.Body, cancel: cancel}
	a.ending.Add(1)
	if strings.EqualFold(res.Header.Get("Content-Encoding"), "gzip") {
		a.source = &gunzip{source: res.Body}
		res.Header.Del("Content-Encoding")
		changedLength(res)
		res.Uncompressed = true
	}
	a.meter = newMeter(x.call.API, res)
	if events, ok := a.meter.frames.(*serverSentEvents); ok && x.hides {
		a.hidden = &hider{events: events}
		changedLength(res)
	}
	if drain := x.limits.config.Drain; drain > 0 {
		res.Body = newDrained(ctx, a, drain)
		return
	}
	a.stop = context.AfterFunc(ctx, func() { a.end(false) })
	res.Body = a
}

func changedLength(res *http.Response) {
	res.ContentLength = -1
	res.Header.Del("Content-Length")
}

// Read implements io.Reader.
func (a *answer) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	if a.hidden != nil {
		n, err = a.readHiding(p)
	} else {
		n, err = a.source.Read(p)
		a.mu.Lock()
		a.meter.write(p[:n])
		a.mu.Unlock()
	}
	if err != nil {
		a.end(errors.Is(err, io.EOF))
	}
	return n, err
}

func (a *answer) readHiding(p []byte) (int, error) {
	h := a.hidden
	for len(h.out) == 0 && a.err == nil {
		n, err := a.source.Read(p)
		a.mu.Lock()
		h.write(a.meter, p[:n])
		if err != nil {
			h.flush()
		}
		a.mu.Unlock()
		a.err = err
	}
	n := copy(p, h.out)
	if h.out = h.out[n:]; len(h.out) == 0 {
		return n, a.err
	}
	return n, nil
}

// Close implements io.Closer. When it returns the call has settled.
func (a *answer) Close() error {
	err := a.source.Close()
	a.end(false)
	a.ending.Wait() // if a context that is done has ended it
	a.cancel()
	return err
}

// end settles the call, unless that was done.
func (a *answer) end(whole bool) {
	a.mu.Lock()
	if a.ended {
		a.mu.Unlock()
		return
	}
	a.ended = true
	a.meter.end(whole)
	u := a.exchange.used(a.meter)
	a.mu.Unlock()
	if a.stop != nil {
		a.stop()
	}
	defer a.ending.Done()
	a.exchange.end(a.ctx, u)
}

// A hider takes events with nothing but usage out of a stream. It holds an event back
// until it is complete, or is too large to be one of them.
type hider struct {
	events *serverSentEvents
	event  []byte
	large  bool
	out    []byte // what is to be read of whole
	whole  []byte
}

const maxHeld = 64 << 10

func (h *hider) write(m *meter, p []byte) {
	for len(p) > 0 {
		n, ended := h.events.next(m, p)
		h.event = append(h.event, p[:n]...)
		p = p[n:]
		h.large = h.large || len(h.event) > maxHeld
		switch {
		case ended && h.events.usageOnly && !h.large:
			h.event = h.event[:0]
		case ended || h.large:
			h.flush()
		}
		h.large = h.large && !ended
	}
}

func (h *hider) flush() {
	if len(h.out) == 0 {
		h.out = h.whole[:0] // all of it was read
	}
	h.out = append(h.out, h.event...)
	h.whole = h.out
	if h.event = h.event[:0]; cap(h.event) > maxHeld || cap(h.whole) > maxHeld {
		h.event, h.whole = nil, nil // not for the rest of a long stream
	}
}

// A drained answer is read on by a goroutine when its caller has left.
type drained struct {
	answer *answer
	most   time.Duration
	from   *io.PipeReader

	once  sync.Once // for the caller to leave, or the answer to end
	timer *time.Timer
	left  atomic.Pointer[error]
	done  chan struct{} // closed when the pump has ended
}

func newDrained(ctx context.Context, a *answer, most time.Duration) *drained {
	from, to := io.Pipe()
	d := &drained{answer: a, most: most, from: from, done: make(chan struct{})}
	a.exchange.limits.underway.begin()
	go d.pump(to, context.AfterFunc(ctx, func() { d.leave(ctx.Err()) }))
	return d
}

// pump passes the answer on, as long as the caller reads, and reads it to the end.
func (d *drained) pump(to *io.PipeWriter, stop func() bool) {
	underway := &d.answer.exchange.limits.underway
	defer close(d.done) // the last thing
	defer underway.end()
	defer underway.ended(d)
	buf := make([]byte, 16<<10)
	for {
		n, err := d.answer.Read(buf)
		if n > 0 {
			_, _ = to.Write(buf[:n]) // the caller may have left
		}
		if err == nil {
			continue
		}
		_ = to.CloseWithError(err)
		d.once.Do(func() {})
		stop()
		if d.timer != nil {
			d.timer.Stop()
		}
		_ = d.answer.Close()
		return
	}
}

// leave lets the pump go on alone, for a while. The caller reads err from now on.
func (d *drained) leave(err error) {
	d.once.Do(func() {
		d.left.Store(&err)
		d.answer.exchange.limits.underway.left(d)
		d.timer = time.AfterFunc(d.most, d.answer.cancel)
		_ = d.from.Close()
	})
}

// Read implements io.Reader.
func (d *drained) Read(p []byte) (int, error) {
	n, err := d.from.Read(p)
	if left := d.left.Load(); left != nil && errors.Is(err, io.ErrClosedPipe) {
		err = *left
	}
	return n, err
}

// Close implements io.Closer.
func (d *drained) Close() error {
	d.leave(http.ErrBodyReadAfterClose)
	_ = d.from.Close()
	return nil
}

// A gunzip decompresses a body, from its first read on.
type gunzip struct {
	source io.ReadCloser
	reader *gzip.Reader
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
	return g.reader.Read(p)
}

// Close implements io.Closer.
func (g *gunzip) Close() error { return g.source.Close() }

// closing cancels a context when a body is closed.
type closing struct {
	io.ReadCloser
	cancel context.CancelFunc
}

// Close implements io.Closer.
func (c *closing) Close() error {
	defer c.cancel()
	return c.ReadCloser.Close()
}
