package ratelimit

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/zeroae/zael/internal/serve/config"
)

// Settings are what the environment says.
type Settings struct {
	Config *config.Config // of the rate limit service, the log and TLS
	Store  string         // URL

	HTTP, Debug, Prometheus string // addresses; an empty one is not listened on
	PrometheusPath          string
	Socket                  string // path of a Unix socket for gRPC, instead of Config.RLS.Listen
	WithRules               bool   // healthy only when there are rules

	Ignored []string // variables that are set and have no effect
}

// Read reads the environment, in the form of os.Environ. The error names every variable that
// is wrong.
func Read(variables []string) (*Settings, error) {
	e := newEnvironment(variables)
	c := config.Default()
	s := &Settings{
		Config:    c,
		HTTP:      address(e, "HOST", "0.0.0.0", "PORT", 8080),
		Debug:     address(e, "DEBUG_HOST", "127.0.0.1", "DEBUG_PORT", 6070),
		Socket:    e.text("GRPC_UDS", ""),
		WithRules: e.flag("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED"),
	}
	c.Log = logOf(e)
	c.RLS = &config.RLS{
		Listen: address(e, "GRPC_HOST", "0.0.0.0", "GRPC_PORT", 8081), Merge: e.flag("MERGE_DOMAIN_CONFIG"), Insecure: true, CompatMetrics: true,
		Shadow: e.flag("SHADOW_MODE"), Quota: e.flag("QUOTA_MODE"),
		MaxAge: e.duration("GRPC_MAX_CONNECTION_AGE", 24*time.Hour), MaxAgeGrace: e.duration("GRPC_MAX_CONNECTION_AGE_GRACE", time.Hour),
	}
	if share, err := strconv.ParseFloat(e.text("NEAR_LIMIT_RATIO", "0.8"), 32); err != nil || share <= 0 || share > 1 {
		e.wrong("NEAR_LIMIT_RATIO", "a number above 0, up to 1")
	} else {
		c.RLS.NearLimit = float32(share)
	}
	if names := (config.RLSHeaders{
		Limit: e.text("LIMIT_LIMIT_HEADER", "RateLimit-Limit"), Remaining: e.text("LIMIT_REMAINING_HEADER", "RateLimit-Remaining"), Reset: e.text("LIMIT_RESET_HEADER", "RateLimit-Reset"),
	}); e.flag("LIMIT_RESPONSE_HEADERS_ENABLED") {
		c.RLS.Headers = names
	}
	if use := e.flag("USE_PROMETHEUS"); use {
		s.Prometheus = e.text("PROMETHEUS_ADDR", ":9090")
	}
	s.PrometheusPath = e.text("PROMETHEUS_PATH", "/metrics")
	e.flag("USE_STATSD") // Istio turns it off; it is never on
	encryption(e, c)
	source(e, c.RLS)
	s.Store = store(e)
	s.Ignored = e.ignored()
	return s, e.err()
}

func address(e *environment, hostVariable, anyHost, portVariable string, port int) string {
	return net.JoinHostPort(e.text(hostVariable, anyHost), strconv.Itoa(e.number(portVariable, port, 0, 65535)))
}

func logOf(e *environment) config.Log {
	l := config.Log{JSON: e.text("LOG_FORMAT", "text") == "json"}
	level := strings.ToUpper(e.text("LOG_LEVEL", "WARN"))
	known, ok := map[string]slog.Level{
		"TRACE": slog.LevelDebug, "DEBUG": slog.LevelDebug, "INFO": slog.LevelInfo, "WARN": slog.LevelWarn, "WARNING": slog.LevelWarn,
		"ERROR": slog.LevelError, "FATAL": slog.LevelError, "PANIC": slog.LevelError,
	}[level]
	if !ok {
		e.wrong("LOG_LEVEL", "debug, info, warn or error")
	}
	l.Level = known
	return l
}

// encryption reads the certificates of the gRPC server.
func encryption(e *environment, c *config.Config) {
	use := e.flag("GRPC_SERVER_USE_TLS")
	t := &config.TLS{Cert: e.text("GRPC_SERVER_TLS_CERT", ""), Key: e.text("GRPC_SERVER_TLS_KEY", ""), ClientCA: e.text("GRPC_CLIENT_TLS_CACERT", "")}
	san := e.text("GRPC_CLIENT_TLS_SAN", "")
	switch {
	case use && (t.Cert == "" || t.Key == ""):
		e.errs = append(e.errs, errors.New("GRPC_SERVER_USE_TLS needs GRPC_SERVER_TLS_CERT and GRPC_SERVER_TLS_KEY"))
	case san != "" && (!use || t.ClientCA == ""):
		e.errs = append(e.errs, errors.New("GRPC_CLIENT_TLS_SAN needs GRPC_SERVER_USE_TLS and GRPC_CLIENT_TLS_CACERT: nobody's certificate would be looked at"))
	case use:
		c.TLS, c.RLS.ClientName = t, san
	}
}

// source reads where the rules come from.
func source(e *environment, r *config.RLS) {
	folder := filepath.Join(e.text("RUNTIME_ROOT", "/srv/runtime_data/current"), e.text("RUNTIME_SUBDIRECTORY", ""), e.text("RUNTIME_APPDIRECTORY", "config"))
	e.flag("RUNTIME_WATCH_ROOT") // files are watched wherever links lead
	e.flag("RUNTIME_IGNOREDOTFILES")
	force := e.flag("FORCE_START_WITHOUT_INITIAL_CONFIG")
	x := &config.XDS{
		Server: e.text("CONFIG_GRPC_XDS_SERVER_URL", "localhost:18000"), NodeID: e.text("CONFIG_GRPC_XDS_NODE_ID", "default"),
		Metadata: e.pairs("CONFIG_GRPC_XDS_NODE_METADATA", "="), Headers: e.pairs("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", ":"),
		ServerName: e.text("CONFIG_GRPC_XDS_SERVER_TLS_SAN", ""), MaxMessage: e.number("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", 0, 0, 1<<30),
		FirstRetry: e.duration("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", 10*time.Second), MaxRetry: e.duration("XDS_CLIENT_BACKOFF_MAX_INTERVAL", time.Minute),
		ForceStart: force,
	}
	e.text("CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL", "") // gRPC has its own
	e.text("XDS_CLIENT_BACKOFF_RANDOM_FACTOR", "")
	e.text("XDS_CLIENT_BACKOFF_JITTER", "")
	t := &config.TLS{
		Cert: e.text("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", ""), Key: e.text("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", ""), ClientCA: e.text("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", ""),
	}
	if e.flag("CONFIG_GRPC_XDS_SERVER_USE_TLS") {
		x.TLS = t
	}
	switch kind := e.text("CONFIG_TYPE", "FILE"); kind {
	case "FILE":
		r.Folder = folder
	case "GRPC_XDS_SOTW":
		r.XDS = x
	default:
		e.wrong("CONFIG_TYPE", "FILE or GRPC_XDS_SOTW")
	}
}

// store returns the URL of the store: ZAEL_STORE, or what REDIS_ says.
func store(e *environment) string {
	own := e.text("ZAEL_STORE", "")
	if kind := e.text("BACKEND_TYPE", "redis"); own == "" && kind != "redis" {
		e.wrong("BACKEND_TYPE", "redis: set ZAEL_STORE to the URL of another store")
	}
	r := readRedis(e)
	if own != "" {
		return own
	}
	if err := r.check(); err != nil {
		e.errs = append(e.errs, err)
		return ""
	}
	text, err := r.url()
	if err != nil {
		e.errs = append(e.errs, err)
	}
	return text
}

// A redis is what the environment says of a Redis.
type redis struct {
	addresses          string // REDIS_URL: of one server, of a cluster, or a primary's name and sentinels
	kind               string // SINGLE, CLUSTER or SENTINEL
	socket             string
	auth, sentinelAuth string
	tls, skipVerify    bool
	settings           url.Values // of the store's URL
}

func readRedis(e *environment) *redis {
	r := &redis{
		addresses: e.text("REDIS_URL", ""), kind: strings.ToUpper(e.text("REDIS_TYPE", "SINGLE")), socket: e.text("REDIS_SOCKET_TYPE", "unix"),
		auth: e.text("REDIS_AUTH", ""), sentinelAuth: e.text("REDIS_SENTINEL_AUTH", ""),
		tls: e.flag("REDIS_TLS"), skipVerify: e.flag("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION"), settings: url.Values{},
	}
	for name, variable := range map[string]string{"ca": "REDIS_TLS_CACERT", "cert": "REDIS_TLS_CLIENT_CERT", "key": "REDIS_TLS_CLIENT_KEY"} {
		if file := e.text(variable, ""); r.tls && file != "" {
			r.settings.Set(name, file)
		}
	}
	if prefix := e.text("CACHE_KEY_PREFIX", ""); prefix != "" {
		r.settings.Set("namespace", strings.Trim(prefix, ":"))
	}
	return r
}

// check returns an error about what zael does not have.
func (r *redis) check() error {
	switch {
	case r.addresses == "":
		return errors.New("there is no store: set REDIS_URL, or ZAEL_STORE to the URL of another one: otherwise each replica would count alone")
	case r.skipVerify:
		return errors.New("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION: certificates are always verified: put the name into the certificate")
	case r.sentinelAuth != "":
		return errors.New("REDIS_SENTINEL_AUTH is not known: set ZAEL_STORE to a URL of redis+sentinel://")
	case r.kind == "SINGLE" && r.socket != "tcp":
		return fmt.Errorf("REDIS_SOCKET_TYPE is %s: only tcp is spoken: set it, and REDIS_URL to host and port", r.socket)
	}
	return nil
}

// url returns the URL of the store.
func (r *redis) url() (string, error) {
	scheme := "redis"
	if r.tls {
		scheme = "rediss"
	}
	hosts, path := r.addresses, ""
	switch r.kind {
	case "SINGLE":
		hosts = strings.TrimPrefix(strings.TrimPrefix(hosts, "rediss://"), "redis://")
	case "CLUSTER":
		scheme += "+cluster"
	case "SENTINEL":
		scheme += "+sentinel"
		var primary string
		if primary, hosts, _ = strings.Cut(r.addresses, ","); hosts == "" {
			return "", errors.New("REDIS_URL of sentinels is the name of the primary and their addresses: mymaster,host1:26379,host2:26379")
		}
		path = "/" + url.PathEscape(primary)
	default:
		return "", fmt.Errorf("REDIS_TYPE: %q is not SINGLE, SENTINEL or CLUSTER", r.kind)
	}
	if r.auth != "" {
		user, password, both := strings.Cut(r.auth, ":")
		if !both {
			user, password = "", r.auth
		}
		hosts = url.PathEscape(user) + ":" + url.PathEscape(password) + "@" + hosts
	}
	if query := r.settings.Encode(); query != "" {
		path += "?" + query
	}
	return scheme + "://" + hosts + path, nil
}
