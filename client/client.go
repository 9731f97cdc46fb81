package client

import (
	"cmp"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/zeroae/zael"
)

// Config has what a Client needs beside an address. The zero value and nil are usable.
type Config struct {
	// Token is sent as Authorization: Bearer. Empty sends none, as a server on this machine may
	// allow.
	Token string

	// Timeout is how long the server may take to answer, beyond Request.MaxWait: 1 ms to 10 min,
	// 0 for 30 s. A context may end a call sooner.
	Timeout time.Duration

	// Transport makes the requests, for instance with a certificate of the client; nil for one
	// of the Client's own, which keeps up to 256 connections open. Redirects are not followed,
	// whatever the Transport.
	Transport http.RoundTripper
}

const (
	defaultTimeout = 30 * time.Second
	mostTimeout    = 10 * time.Minute
	keptOpen       = 256 // idle connections
)

// A Client calls one server, or several behind one address. Its methods may be called concurrently.
// Close it when it is no longer used.
//
// Its methods for entities, limits, settings, namespaces and reports are those of a [zael.Limiter]
// and promise the same, errors included, within the rights of the token, which the audit log names.
// A call that reads is repeated if its answer was lost, and so is a change with an idempotency key;
// after a [*zael.UnavailableError] any other change may have been made. The Field of a
// [*zael.ValidationError] is a member of the JSON, such as "entity".
type Client struct {
	base    string // of URLs, without a slash at its end
	token   string
	timeout time.Duration
	most    int64 // bytes of an answer
	http    *http.Client
	own     bool // the transport
}

// New returns a Client of the server at an address, such as http://127.0.0.1:8080 or
// https://limits.example.com. It makes no call. Beyond this machine the address must be https, so
// that nobody on the way reads the token. The error is a [*zael.ValidationError].
func New(address string, config *Config) (*Client, error) {
	var c Config
	if config != nil {
		c = *config
	}
	base, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	if c.Timeout < 0 || c.Timeout > mostTimeout || c.Timeout > 0 && c.Timeout < time.Millisecond {
		return nil, &zael.ValidationError{Field: "Config.Timeout", Value: c.Timeout, Reason: "is not in 1ms to 10m0s: use 0 for 30s"}
	}
	for _, r := range c.Token {
		if r <= ' ' || r > '~' {
			return nil, &zael.ValidationError{Field: "Config.Token", Reason: "has characters that no token has: give what zael token new printed"}
		}
	}
	own := c.Transport == nil
	if own {
		c.Transport = newTransport(strings.HasPrefix(base, "http:"))
	}
	return &Client{
		base: base, token: c.Token, timeout: cmp.Or(c.Timeout, defaultTimeout), most: mostAnswer, own: own,
		http: &http.Client{Transport: c.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

// newTransport returns a transport. A local one connects to this machine alone, whatever
// localhost may resolve to.
func newTransport(local bool) *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	transport := &http.Transport{
		DialContext: dialer.DialContext, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
		MaxIdleConns: keptOpen, MaxIdleConnsPerHost: keptOpen, IdleConnTimeout: 90 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second, DisableCompression: true,
	}
	if local {
		transport.Proxy = nil
		dialer.Control = func(_, address string, _ syscall.RawConn) error {
			if host, _, err := net.SplitHostPort(address); err != nil || !loopback(host) {
				return errNotLocal
			}
			return nil
		}
	}
	return transport
}

var errNotLocal = errors.New("the name resolves to another machine, and http is for this one: use https")

// parseAddress returns the address of a server, without a slash at its end.
func parseAddress(address string) (base string, err error) {
	invalid := func(reason string) (string, error) {
		// A password in it is not shown.
		return "", &zael.ValidationError{Field: "address", Value: redacted(address), Reason: reason}
	}
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Hostname() == "" || u.Opaque != "":
		return invalid("is not the address of a server: write it like http://127.0.0.1:8080 or https://limits.example.com")
	case u.User != nil:
		return invalid("has a user name: give the token in Config.Token, or in ZAEL_TOKEN of the command line")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return invalid("has a query or a fragment: leave it out")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return invalid("is not encrypted and not of this machine: use https, so that nobody on the way reads the token")
	}
	return u.Scheme + "://" + u.Host + strings.TrimRight(u.EscapedPath(), "/"), nil
}

// redacted returns an address without a user's name and password.
func redacted(address string) string {
	if before, rest, ok := strings.Cut(address, "://"); ok {
		if i := strings.LastIndexByte(rest, '@'); i >= 0 {
			return before + "://…@" + rest[i+1:]
		}
	}
	return address
}

// loopback reports whether a host is this machine.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// String returns the address of the server.
func (c *Client) String() string {
	if c == nil {
		return ""
	}
	return c.base
}

// Close closes idle connections. It does nothing to a Transport of the Config.
func (c *Client) Close() {
	if c != nil && c.own {
		c.http.CloseIdleConnections()
	}
}

// errNone is the error of a Client that New has not made.
var errNone = errors.New("zael: the client is nil or the zero value: make one with client.New")
