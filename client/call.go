package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/zeroae/zael"
)

const (
	mostAnswer = 64 << 20 // bytes
	tries      = 3        // of a request that may be repeated
	firstPause = 50 * time.Millisecond
)

// A call is one request of the API.
type call struct {
	method string
	path   string     // escaped
	query  url.Values // may be nil
	body   any        // nil: none
	key    string     // Idempotency-Key; empty: none

	// repeats says that a repetition does no harm, whether or not the first request was served.
	repeats bool

	wait     time.Duration // that the server may wait in line
	entity   string        // for errors
	resource string
}

// do makes a call and decodes its answer into out, unless that is nil.
func (c *Client) do(ctx context.Context, r *call, out any) error {
	if c == nil || c.http == nil {
		return errNone
	}
	var body []byte
	if r.body != nil {
		var err error
		if body, err = json.Marshal(r.body); err != nil {
			return fmt.Errorf("zael: the request cannot be written as JSON: %w", err)
		}
	}
	for n := 1; ; n++ {
		err := c.try(ctx, r, body, out)
		if !lost(err) || n == tries || !r.repeats && !neverSent(err) {
			return err
		}
		pause := time.NewTimer(time.Duration(float64(firstPause<<(2*n-2)) * (0.5 + rand.Float64())))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
	}
}

// lost reports whether err is that of a request which may or may not have been served, or of a
// server that is about to end.
func lost(err error) bool {
	down, ok := errors.AsType[*zael.UnavailableError](err)
	if !ok {
		return false
	}
	said, ok := errors.AsType[*Error](down.Cause)
	return !ok || said.Code != "unavailable"
}

// neverSent reports whether a request has not reached a server, so that it can be repeated.
func neverSent(err error) bool {
	dial, ok := errors.AsType[*net.OpError](err)
	return ok && dial.Op == "dial"
}

// try makes a call once.
func (c *Client) try(ctx context.Context, r *call, body []byte, out any) error {
	within, cancel := context.WithTimeout(ctx, c.timeout+r.wait)
	defer cancel()
	req, err := c.request(within, r, body)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unanswered(ctx, r, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, c.most+1))
	switch {
	case err != nil:
		return c.unanswered(ctx, r, err)
	case int64(len(text)) > c.most:
		return fmt.Errorf("zael: the answer of %s is longer than %d bytes", c.base, c.most)
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return c.refused(r, resp, text)
	case out == nil:
		return nil
	case mediaType(resp) != "application/json":
		return c.foreign(resp, "its Content-Type is "+resp.Header.Get("Content-Type"))
	}
	if err := json.Unmarshal(text, out); err != nil {
		return c.foreign(resp, err.Error())
	}
	return nil
}

// request returns the request of a call.
func (c *Client) request(ctx context.Context, r *call, body []byte) (*http.Request, error) {
	target := c.base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("zael: %w", err)
	}
	if body == nil {
		req.Body, req.GetBody = http.NoBody, nil
	} else {
		req.Header["Content-Type"] = []string{"application/json"}
	}
	req.Header["Accept"] = []string{"application/json, application/problem+json"}
	if c.token != "" {
		req.Header["Authorization"] = []string{"Bearer " + c.token}
	}
	if r.key != "" {
		req.Header["Idempotency-Key"] = []string{r.key}
	}
	return req, nil
}

// mediaType returns the type of an answer without its parameters; empty if it is not readable.
func mediaType(resp *http.Response) string {
	t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}

// unanswered returns the error of a request without an answer.
func (c *Client) unanswered(ctx context.Context, r *call, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("zael: %s: %w", c.base, ctx.Err())
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok { // it repeats the URL
		err = wrapped.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %v", c.timeout+r.wait)
	}
	return &zael.UnavailableError{Cause: err, Store: c.base, Entity: r.entity, Resource: r.resource}
}

// foreign returns the error of an answer that is none of zael's.
func (c *Client) foreign(resp *http.Response, why string) error {
	return &Error{Status: resp.StatusCode, Detail: fmt.Sprintf("the answer of %s is not that of a zael server: %s", c.base, why)}
}

// segment returns a name as a segment of a path.
func segment(name string) string {
	if strings.Trim(name, ".") == "" {
		return strings.ReplaceAll(name, ".", "%2E")
	}
	return url.PathEscape(name)
}

// A seconds is a duration that JSON has in seconds, read to the nanosecond; null is 0.
type seconds time.Duration

// UnmarshalJSON implements json.Unmarshaler.
func (d *seconds) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		return nil
	}
	parsed, err := time.ParseDuration(string(text) + "s")
	*d = seconds(parsed)
	return err
}
