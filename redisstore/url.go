package redisstore

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/redact"
	"github.com/zeroae/zael/internal/storearg"
	"github.com/zeroae/zael/internal/trial"
)

const (
	defaultPort         = "6379"
	defaultSentinelPort = "26379"
	defaultPasswordEnv  = "REDISCLI_AUTH"

	dialTimeout = 2 * time.Second
	// silentFor is how long a connection may not answer before it is given up for another one.
	// Calls have given up before.
	silentFor = time.Second
	// askAlive is how often an idle connection is asked whether it is alive.
	askAlive = time.Second
)

// Open opens the store that a URL names. It asks nothing of the server: that is connected to
// by the first call, so that a program can start before its server.
//
//	redis://[user[:password]@]host[:6379][/db]          one server
//	redis+sentinel://[user@]host[:26379],host…/NAME[/db]   the primary that sentinels know by NAME
//	redis+cluster://[user@]host[:6379],host…             a cluster
//
// With rediss for redis connections are by TLS; certificates are always verified. Settings follow
// a question mark:
//
//	namespace=team-a      see Config
//	usage=true            see Config
//	wait=N                see Config.Replicas
//	password_env=NAME     the variable of the environment that has the password, if the URL has none: REDISCLI_AUTH
//	sentinel_password_env=NAME   the one that has the password of the sentinels, if they have one
//	ca=FILE               certificates (PEM) of the authorities to trust, instead of the system's
//	cert=FILE&key=FILE    the client's certificate and key (PEM)
//	server_name=NAME      whom the server's certificate must be for, if not the host
//	virtual_time=true     for replays: instants are the caller's, and not corrected by the server's clock
//
// Errors are *zael.ValidationErrors, which show no password.
func Open(address string) (*Store, error) {
	u, err := parseURL(address)
	if err != nil {
		return nil, err
	}
	s, err := newStore(&u.config, u.trial)
	if err != nil {
		return nil, err
	}
	s.where = u.where
	s.connection.dial = func() (rueidis.Client, error) { return rueidis.NewClient(u.option) }
	s.cluster = u.cluster
	return s, nil
}

// An address is what a URL says.
type address struct {
	option  rueidis.ClientOption
	config  Config
	trial   trial.Options
	cluster bool
	where   string // for people
}

func parseURL(text string) (a address, err error) {
	bad := func(format string, args ...any) error {
		return storearg.Invalid("store", redact.URL(text), fmt.Sprintf(format, args...))
	}
	scheme, rest, ok := strings.Cut(text, "://")
	kind := strings.Replace(scheme, "rediss", "redis", 1)
	if !ok || !slices.Contains([]string{"redis", "redis+sentinel", "redis+cluster"}, kind) {
		return a, bad(`is no URL of Redis or Valkey: write it like "redis://HOST:6379", "rediss://HOST:6379", "redis+sentinel://HOST1,HOST2/NAME" or "redis+cluster://HOST1,HOST2"`)
	}
	rest, fragment, hasFragment := strings.Cut(rest, "#")
	if hasFragment {
		return a, bad("has a #%s, which has no meaning; in a password write %%23", strings.Repeat(".", min(3, len(fragment))))
	}
	rest, query, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	settings, err := url.ParseQuery(query)
	if err != nil {
		return a, bad("has settings that cannot be read: separate them by &, and write special characters as %%XX")
	}
	a.option = rueidis.ClientOption{
		DisableCache: true, DisableRetry: true, AlwaysPipelining: true, ClientName: "zael", ConnWriteTimeout: silentFor, Dialer: net.Dialer{Timeout: dialTimeout, KeepAlive: askAlive},
	}
	hosts := authority
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		user, password, _ := strings.Cut(authority[:at], ":")
		hosts = authority[at+1:]
		var errs [2]error
		a.option.Username, errs[0] = url.PathUnescape(user)
		a.option.Password, errs[1] = url.PathUnescape(password)
		if errs[0] != nil || errs[1] != nil {
			return a, bad("has a user or password that cannot be read: write special characters as %%XX")
		}
	}
	port := defaultPort
	if kind == "redis+sentinel" {
		port = defaultSentinelPort
	}
	for host := range strings.SplitSeq(hosts, ",") {
		h, err := hostPort(host, port)
		if err != nil {
			return a, bad("%s", err.Error())
		}
		a.option.InitAddress = append(a.option.InitAddress, h)
	}
	if err := a.place(kind, path); err != nil {
		return a, bad("%s", err.Error())
	}
	secure := scheme != kind
	if err := a.settings(settings, secure); err != nil {
		return a, bad("%s", err.Error())
	}
	a.where = scheme + "://" + hosts + strings.TrimSuffix("/"+path, "/")
	return a, nil
}

// hostPort returns a host with its port.
func hostPort(host, port string) (string, error) {
	if host == "" {
		return "", fmt.Errorf("names no host: write it like redis://localhost:%s", defaultPort)
	}
	bare := strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") || !strings.Contains(host, ":")
	if bare {
		return net.JoinHostPort(strings.Trim(host, "[]"), port), nil
	}
	h, p, err := net.SplitHostPort(host)
	if n, perr := strconv.ParseUint(p, 10, 16); err != nil || perr != nil || n == 0 || h == "" {
		return "", fmt.Errorf("has a host %q that is not HOST or HOST:PORT; an IPv6 address is in brackets", host)
	}
	return net.JoinHostPort(h, p), nil
}

// place reads what follows the hosts.
func (a *address) place(kind, path string) error {
	one := len(a.option.InitAddress) == 1
	db := path
	switch kind {
	case "redis":
		if !one {
			return fmt.Errorf("names several hosts: that is for redis+sentinel:// and redis+cluster://")
		}
		a.option.ForceSingleClient = true
	case "redis+cluster":
		if path != "" {
			return fmt.Errorf("has /%s, but a cluster has no databases: leave it out", path)
		}
		a.cluster = true
		return nil
	case "redis+sentinel":
		name, rest, _ := strings.Cut(path, "/")
		if db = rest; name == "" {
			return fmt.Errorf("names no primary: write it like redis+sentinel://HOST1,HOST2/NAME")
		}
		a.option.Sentinel.MasterSet = name
		a.option.Sentinel.TopologyRefreshInterval = 5 * time.Second
		a.option.Sentinel.Dialer = a.option.Dialer
	}
	if db == "" {
		return nil
	}
	n, err := strconv.Atoi(db)
	if err != nil || n < 0 {
		return fmt.Errorf("has a database %q that is no number from 0", db)
	}
	a.option.SelectDB = n
	return nil
}

// settings reads what follows the question mark.
func (a *address) settings(settings url.Values, secure bool) error {
	passwordEnv, sentinelEnv := defaultPasswordEnv, ""
	var files struct{ ca, cert, key, serverName string }
	for name, values := range settings {
		value := values[len(values)-1]
		var err error
		switch name {
		case "namespace":
			if a.config.Namespace = value; value != "" {
				err = zael.CheckNamespace(value)
			}
		case "usage":
			a.config.Usage, err = strconv.ParseBool(value)
		case "wait":
			a.config.Replicas, err = strconv.Atoi(value)
			if err == nil && (a.config.Replicas < 0 || a.config.Replicas > maxReplicas) {
				err = strconv.ErrRange
			}
		case "virtual_time":
			a.trial.VirtualTime, err = strconv.ParseBool(value)
		case "password_env":
			passwordEnv = value
		case "sentinel_password_env":
			sentinelEnv = value
		case "ca":
			files.ca = value
		case "cert":
			files.cert = value
		case "key":
			files.key = value
		case "server_name":
			files.serverName = value
		default:
			return fmt.Errorf("has an unknown setting, %q: there are namespace, usage, wait, password_env, sentinel_password_env, ca, cert, key and server_name", name)
		}
		if err != nil {
			return fmt.Errorf("has %s=%q, which is not %s", name, value, map[string]string{
				"namespace": "1 to 64 characters of A-Z a-z 0-9 _ . -", "usage": "true or false", "virtual_time": "true or false", "wait": fmt.Sprintf("a number of replicas, 0 to %d", maxReplicas),
			}[name])
		}
	}
	if a.cluster && a.config.Replicas > 0 {
		return fmt.Errorf("has wait=%d, which is for one server and its replicas: leave it out for a cluster", a.config.Replicas)
	}
	if _, named := settings["password_env"]; a.option.Password == "" {
		var set bool
		if a.option.Password, set = os.LookupEnv(passwordEnv); named && !set {
			return fmt.Errorf("has password_env=%q, and there is no such variable: set it to the password", passwordEnv)
		}
	} else if named {
		return fmt.Errorf("has a password and password_env: leave one of them out")
	}
	if sentinelEnv != "" {
		var set bool
		if a.option.Sentinel.Password, set = os.LookupEnv(sentinelEnv); !set || a.option.Sentinel.MasterSet == "" {
			return fmt.Errorf("has sentinel_password_env=%q, and there is no such variable, or no sentinel: set it to the password of redis+sentinel://", sentinelEnv)
		}
	}
	if !secure {
		if files.ca+files.cert+files.key+files.serverName != "" {
			return fmt.Errorf("has settings of TLS, but is not rediss: write rediss for redis")
		}
		return nil
	}
	return a.secure(files.ca, files.cert, files.key, files.serverName)
}

// secure sets TLS.
func (a *address) secure(ca, cert, key, serverName string) error {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: serverName}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return fmt.Errorf("has a ca that cannot be read: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("has ca=%s, which has no certificate (PEM)", ca)
		}
	}
	if (cert == "") != (key == "") {
		return fmt.Errorf("has cert without key, or key without cert: name both")
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return fmt.Errorf("has a cert and key that cannot be used: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	a.option.TLSConfig = config
	if a.option.Sentinel.MasterSet != "" {
		a.option.Sentinel.TLSConfig = config
	}
	return nil
}

var schemes = regexp.MustCompile(`^rediss?(\+sentinel|\+cluster)?$`)

// IsScheme reports whether the scheme of a URL is one of Open's.
func IsScheme(scheme string) bool { return schemes.MatchString(scheme) }
