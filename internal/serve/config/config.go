// Package config is the configuration of the daemon: a YAML file, checked as a whole before
// anything of it holds.
package config

import (
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve/access"
	"github.com/zeroae/zael/llm"
)

// A Config says how the daemon runs. One that is loaded is never changed: a reload makes
// another.
type Config struct {
	Listen        string // address of the API, such as 127.0.0.1:8080
	MetricsListen string // address of the metrics alone; empty: they are served on Listen
	Insecure      bool   // without tokens, callers of other machines may do everything
	Store         string // URL of the store; empty: the user's default

	// Hosts are names, in lower case and without a port, under which the daemon may be
	// called beside those of this machine.
	Hosts          []string
	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed
	TLS            *TLS           // nil: connections are not encrypted

	Timeout         time.Duration    // of an operation on the store, as zael.Config.Timeout
	FailureMode     zael.FailureMode // as zael.Config.FailureMode
	Log             Log
	ShutdownTimeout time.Duration // for requests that are under way when the daemon ends
	ShutdownDelay   time.Duration // before that: the daemon serves, but says that it is not ready
	Max             Max
	Leases          Leases
	Tokens          []access.Token          // none: callers of this machine need none
	Policies        map[string]*zael.Policy // by name, which is also the resource
	Prices          ByName[llm.Price]       // by model or resource
	Gateway         []Route
	RLS             *RLS // nil: there is no rate limit service
}

// TLS names the files of a server's certificate.
type TLS struct {
	Cert, Key string
	ClientCA  string // certificates that clients' certificates are signed by; empty: clients need none
}

// RLS is Envoy's rate limit service.
type RLS struct {
	Listen   string // address of gRPC
	Folder   string // of the files of rules; empty: they come from XDS
	XDS      *XDS
	Merge    bool // several files may have rules for the same domain
	Insecure bool // whoever reaches the address may call, from other machines too

	ChargeOnRefusal bool // all descriptors are charged, whether they fit or not, but token buckets that refuse
	NeverRefuse     bool // quotas refuse nobody, also if none of a request's has anything left
	CompatMetrics   bool // metrics under the names of envoyproxy/ratelimit too
	Headers         RLSHeaders

	// Of the program ratelimit alone.
	Shadow, Quota       bool          // every rule is in that mode
	NearLimit           float32       // share of a limit above which hits count as near it; 0 means 0.8
	MaxAge, MaxAgeGrace time.Duration // of a connection, and until it is cut; 0 means for ever
	ClientName          string        // that a client's certificate has to have; empty: any
}

// XDS is a control plane that sends rules.
type XDS struct {
	Server     string // host and port
	NodeID     string
	Metadata   map[string]string // of the node
	Headers    map[string]string // of the stream
	TLS        *TLS              // of this client; nil: the connection is not encrypted. ClientCA is who signs the server's certificate
	ServerName string            // in the server's certificate; empty: that of Server
	MaxMessage int               // bytes; 0 means the usual

	FirstRetry, MaxRetry time.Duration // 0 means the usual
	// ForceStart serves before there are rules: nothing is limited until then.
	ForceStart bool
}

// RLSHeaders are the names of headers for the client; an empty one is left out.
type RLSHeaders struct{ Limit, Remaining, Reset string }

// Log says what is logged, and how.
type Log struct {
	Level slog.Level
	JSON  bool // instead of text
}

// Max has the bounds of what clients may use.
type Max struct {
	Body        int64         // bytes of a request's body
	Header      int           // bytes of a request's header
	HeaderTime  time.Duration // until a request's header is read
	Idle        time.Duration // that a connection may have no request, or a body no byte
	Connections int           // at a time
	Waits       int           // requests that wait for their limits, at a time
	Wait        time.Duration // that a request may ask to wait
	Call        int64         // bytes of the body of a call through the gateway
	Streams     int           // calls through the gateway, at a time
}

// Leases say how the texts of leases are signed.
type Leases struct {
	Keys   []string      // the first signs, all verify; none: the daemon finds its own
	MaxAge time.Duration // after which a lease can no longer be ended
}

// Default returns the configuration of an empty file.
func Default() *Config {
	return &Config{
		Listen:          "127.0.0.1:8080",
		Timeout:         time.Second,
		FailureMode:     zael.FailClosed,
		ShutdownTimeout: 30 * time.Second,
		Max: Max{
			Body: 1 << 20, Header: 32 << 10, HeaderTime: 5 * time.Second, Idle: 2 * time.Minute,
			Connections: 10_000, Waits: 10_000, Wait: time.Minute,
			Call: 32 << 20, Streams: 10_000,
		},
		Leases: Leases{MaxAge: 24 * time.Hour},
	}
}

// NeedRestart returns the keys of the file in which two configurations differ and that a reload
// cannot change.
func NeedRestart(old, next *Config) []string {
	var keys []string
	for _, k := range []struct {
		name      string
		old, next any
	}{
		{"listen", old.Listen, next.Listen},
		{"metrics_listen", old.MetricsListen, next.MetricsListen},
		{"store", old.Store, next.Store},
		{"tls (from or to none)", old.TLS == nil, next.TLS == nil},
		{"timeout", old.Timeout, next.Timeout},
		{"failure_mode", old.FailureMode, next.FailureMode},
		{"log.format", old.Log.JSON, next.Log.JSON},
		{"max.header", old.Max.Header, next.Max.Header},
		{"max.header_time", old.Max.HeaderTime, next.Max.HeaderTime},
		{"max.idle", old.Max.Idle, next.Max.Idle},
		{"leases.max_age", old.Leases.MaxAge, next.Leases.MaxAge},
		{"rls", old.RLS, next.RLS},
		{"tokens (from or to none)", len(old.Tokens) == 0, len(next.Tokens) == 0},
	} {
		if !reflect.DeepEqual(k.old, k.next) {
			keys = append(keys, k.name)
		}
	}
	return keys
}

// Loopback reports whether an address, as a file has it, is of this machine alone.
func Loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}
