package faultproxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/zeroae/zael/internal/testrig/faultproxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An echo is an engine that says what it was asked, and keeps it.
type echo struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string
}

func newEcho(t *testing.T) *echo {
	t.Helper()
	e := new(echo)
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e.mu.Lock()
		e.asked = append(e.asked, string(body))
		e.mu.Unlock()
		w.Header().Set("X-Path", r.URL.Path)
		w.WriteHeader(http.StatusAccepted)
		_, _ = fmt.Fprintf(w, "you said %s", body)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *echo) all() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.asked...)
}

// A rig is a client, a proxy and an engine.
type rig struct {
	*faultproxy.Proxy
	engine *echo
	client *http.Client
}

func setup(t *testing.T, c *faultproxy.Config) *rig {
	t.Helper()
	r := &rig{engine: newEcho(t)}
	p, err := faultproxy.New(r.engine.URL, c)
	if err != nil {
		t.Fatal(err)
	}
	transport := new(http.Transport)
	r.Proxy, r.client = p, &http.Client{Transport: transport}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := p.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("Close: got %v, want nil", err)
		}
	})
	return r
}

// ask posts text and returns the answer.
func (r *rig) ask(ctx context.Context, text string) (status int, reply string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL()+"/some/path", strings.NewReader(text))
	if err != nil {
		return 0, "", err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

func always(a faultproxy.Action) *faultproxy.Config {
	return &faultproxy.Config{Plan: func(http.Header, []byte) faultproxy.Action { return a }}
}

const soon = 50 * time.Millisecond // a client's patience, where it is in vain

func TestFaults(t *testing.T) {
	t.Parallel()
	isReset := func(err error) bool {
		return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	}
	isEnd := func(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
	left := func(err error) bool { return errors.Is(err, context.Canceled) }
	for fault, tt := range map[faultproxy.Fault]struct {
		status int // 0: none
		reply  string
		err    func(error) bool
	}{
		faultproxy.Forward:     {202, "you said hello", nil},
		faultproxy.LoseRequest: {0, "", isReset},
		faultproxy.Hang:        {0, "", left},
		faultproxy.FailBefore:  {500, "InternalServerError", nil},
		faultproxy.Throttle:    {400, "ProvisionedThroughputExceededException", nil},
		faultproxy.ThrottleAPI: {400, "ThrottlingException", nil},
		faultproxy.Deny:        {400, "AccessDeniedException", nil},
		faultproxy.LateRequest: {202, "you said hello", nil},
		faultproxy.LateReply:   {202, "you said hello", nil},
		faultproxy.NoReply:     {0, "", left},
		faultproxy.DropReply:   {0, "", isEnd},
		faultproxy.ResetReply:  {0, "", isReset},
		faultproxy.CutReply:    {202, "you sai", isEnd},
		faultproxy.FailAfter:   {500, "InternalServerError", nil},
	} {
		t.Run(fault.String(), func(t *testing.T) {
			t.Parallel()
			var seen []faultproxy.Exchange
			var mu sync.Mutex
			c := always(faultproxy.Action{Fault: fault, Delay: time.Millisecond})
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			c.Seen = func(x faultproxy.Exchange) {
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, x)
				if fault == faultproxy.Hang || fault == faultproxy.NoReply {
					leave()
				}
			}
			r := setup(t, c)
			status, reply, err := r.ask(ctx, "hello")
			if tt.err == nil && err != nil || tt.err != nil && !tt.err(err) {
				t.Errorf("got error %v", err)
			}
			if status != tt.status || !strings.Contains(reply, tt.reply) || tt.status == 202 && len(reply) != len(tt.reply) {
				t.Errorf("got %d %q, want %d %q", status, reply, tt.status, tt.reply)
			}
			want := 0
			if fault.Applies() {
				want = 1
			}
			if got := r.engine.all(); len(got) != want {
				t.Errorf("the engine was asked %q, want %d requests", got, want)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(seen) != 1 || string(seen[0].Request) != "hello" || seen[0].Action.Fault != fault || (seen[0].Status == 202) != (want == 1) ||
				seen[0].Asked.IsZero() == (want == 1) || seen[0].Done.Before(seen[0].Asked) {
				t.Errorf("exchanges: got %+v, want the one", seen)
			}
		})
	}
}

// What is forwarded arrives as it was sent, and the answer as it was given.
func TestForwardChangesNothing(t *testing.T) {
	t.Parallel()
	var got http.Header
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		got.Set("URI", r.RequestURI)
		w.Header().Set("Date", "Tue, 13 Jan 2026 14:00:00 GMT")
		_, _ = io.Copy(w, r.Body)
	}))
	t.Cleanup(engine.Close)
	p, err := faultproxy.New(engine.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := new(http.Transport)
	defer func() {
		transport.CloseIdleConnections()
		if err := p.Close(t.Context()); err != nil {
			t.Errorf("Close: got %v, want nil", err)
		}
	}()
	body := bytes.Repeat([]byte("0123456789"), 100_000)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL()+"/a%2Fb?c=d", bytes.NewReader(body))
	req.Header.Set("X-Amz-Target", "DynamoDB_20120810.UpdateItem")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	back, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(back, body) {
		t.Errorf("body: got %d bytes and %v, want the %d that were sent", len(back), err, len(body))
	}
	if date := resp.Header.Get("Date"); date != "Tue, 13 Jan 2026 14:00:00 GMT" {
		t.Errorf("Date: got %q, want the engine's", date)
	}
	if got.Get("X-Amz-Target") != "DynamoDB_20120810.UpdateItem" || got.Get("URI") != "/a%2Fb?c=d" {
		t.Errorf("the engine got %v, want target and URI as sent", got)
	}
}

// A late request arrives after its client has given up, and after a later one.
func TestLateRequestArrivesAfterItsClientLeft(t *testing.T) {
	t.Parallel()
	hold, asked := make(chan struct{}), make(chan struct{})
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	r := setup(t, &faultproxy.Config{
		Plan: func(_ http.Header, body []byte) faultproxy.Action {
			if string(body) == "late" {
				leave()
				<-asked
				return faultproxy.Action{Fault: faultproxy.LateRequest, Delay: time.Millisecond}
			}
			return faultproxy.Action{}
		},
		Seen: func(x faultproxy.Exchange) {
			if string(x.Request) == "late" {
				close(hold)
			}
		},
	})
	if _, _, err := r.ask(ctx, "late"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that its client has left", err)
	}
	if _, _, err := r.ask(t.Context(), "after"); err != nil {
		t.Error(err)
	}
	close(asked)
	<-hold
	if got := strings.Join(r.engine.all(), " "); got != "after late" {
		t.Errorf("the engine was asked %q, want after, then late", got)
	}
}

// Close waits for requests that are late.
func TestCloseWaitsForLateRequests(t *testing.T) {
	t.Parallel()
	engine := newEcho(t)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	p, err := faultproxy.New(engine.URL, &faultproxy.Config{Plan: func(http.Header, []byte) faultproxy.Action {
		leave()
		return faultproxy.Action{Fault: faultproxy.LateRequest, Delay: 4 * soon}
	}})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Proxy: p, engine: engine, client: &http.Client{Transport: new(http.Transport)}}
	if _, _, err := r.ask(ctx, "late"); err == nil {
		t.Error("got an answer, want none")
	}
	if err := p.Close(t.Context()); err != nil {
		t.Errorf("Close: got %v, want nil", err)
	}
	if got := engine.all(); len(got) != 1 {
		t.Errorf("after Close: the engine was asked %q, want the late one", got)
	}
}

// A client that never gives up does not hold Close for ever.
func TestCloseEndsWithItsContext(t *testing.T) {
	t.Parallel()
	engine := newEcho(t)
	arrived := make(chan struct{})
	c := always(faultproxy.Action{Fault: faultproxy.NoReply})
	c.Seen = func(faultproxy.Exchange) { close(arrived) }
	p, err := faultproxy.New(engine.URL, c)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Proxy: p, engine: engine, client: &http.Client{Transport: new(http.Transport)}}
	left := make(chan error, 1)
	go func() {
		_, _, err := r.ask(context.WithoutCancel(t.Context()), "patient")
		left <- err
	}()
	<-arrived
	ctx, cancel := context.WithTimeout(t.Context(), 2*soon)
	defer cancel()
	if err := p.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close: got %v, want its deadline", err)
	}
	if err := <-left; err == nil {
		t.Error("the client got an answer, want none")
	}
}

func TestOutages(t *testing.T) {
	t.Parallel()
	r := setup(t, nil)
	url := r.URL()
	works := func(when string) {
		t.Helper()
		if status, _, err := r.ask(t.Context(), when); err != nil || status != http.StatusAccepted {
			t.Errorf("%s: got %d and %v, want an answer", when, status, err)
		}
	}
	set := func(o faultproxy.Outage) {
		t.Helper()
		if err := r.Set(o); err != nil {
			t.Fatal(err)
		}
	}
	works("before")
	set(faultproxy.Refused)
	set(faultproxy.Refused)
	if _, _, err := r.ask(t.Context(), "on a connection of before"); err == nil {
		t.Error("on a connection of before: got an answer, want none")
	}
	if _, _, err := r.ask(t.Context(), "refused"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("refused: got %v, want ECONNREFUSED", err)
	}
	set(faultproxy.Up)
	if got := r.URL(); got != url {
		t.Errorf("URL after an outage: got %s, want %s", got, url)
	}
	works("after refused")
	set(faultproxy.BlackHole)
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if _, _, err := r.ask(ctx, "black hole"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("black hole: got %v, want a timeout", err)
	}
	set(faultproxy.Denied)
	if status, reply, err := r.ask(t.Context(), "denied"); err != nil || status != http.StatusBadRequest || !strings.Contains(reply, "AccessDenied") {
		t.Errorf("denied: got %d %q %v, want access denied", status, reply, err)
	}
	set(faultproxy.Up)
	works("after")
	if got, want := strings.Join(r.engine.all(), ", "), "before, after refused, after"; got != want {
		t.Errorf("the engine was asked %q, want %q", got, want)
	}
}

// An outage cuts off what is under way when connections are refused.
func TestRefusedCutsOff(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 1)
	c := always(faultproxy.Action{Fault: faultproxy.NoReply})
	c.Seen = func(faultproxy.Exchange) { arrived <- struct{}{} }
	r := setup(t, c)
	left := make(chan error, 1)
	go func() {
		_, _, err := r.ask(context.WithoutCancel(t.Context()), "patient")
		left <- err
	}()
	<-arrived
	if err := r.Set(faultproxy.Refused); err != nil {
		t.Fatal(err)
	}
	if err := <-left; err == nil {
		t.Error("the client got an answer, want none")
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"http://dynamodb.us-east-1.amazonaws.com", "https://127.0.0.1:1", "http://10.0.0.1", "127.0.0.1:80", "::", ""} {
		if p, err := faultproxy.New(target, nil); err == nil {
			t.Errorf("%q: got a proxy, want an error", target)
			_ = p.Close(t.Context())
		}
	}
	if err := setupClosed(t).Set(faultproxy.Up); err == nil {
		t.Error("Set after Close: got nil, want an error")
	}
}

func setupClosed(t *testing.T) *faultproxy.Proxy {
	t.Helper()
	p, err := faultproxy.New("http://127.0.0.1:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}
