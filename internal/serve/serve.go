package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve/access"
	"github.com/zeroae/zael/internal/serve/config"
	"github.com/zeroae/zael/internal/serve/filewatch"
	"github.com/zeroae/zael/internal/serve/live"
)

// A Store is a zael.Store that its opener closes, whichever package opens it: none is imported here.
type Store interface {
	zael.Store
	Close(ctx context.Context) error
}

// Options say what a Daemon runs with.
type Options struct {
	Source   config.Source
	Open     func(ctx context.Context, url string) (Store, error) // the store of a configuration
	Handlers Handlers
	Log      io.Writer
	Hangup   <-chan struct{} // each value reloads the configuration; may be nil

	LookEvery time.Duration // how often files are looked at whether they have changed; 0: each second
}

// A Daemon serves a limiter.
type Daemon struct {
	source config.Source
	hangup <-chan struct{}
	seen   filewatch.Fingerprint         // of the files that were loaded at first
	every  time.Duration                 // how often they are looked at, or 0
	config atomic.Pointer[config.Config] // what holds now
	tls    atomic.Pointer[tls.Config]    // nil: connections are not encrypted

	log     *slog.Logger
	level   *slog.LevelVar
	metrics *metrics
	live    *live.Recorder
	store   Store
	limiter *zael.Limiter
	health  health

	guard   *access.Guard
	api     http.Handler // behind the guard; nil if there is none
	gateway Gateway      // nil if there is none
	page    Page         // nil if there is none

	apiServer     *server
	metricsServer *server // of metrics and health alone; nil if they are served by apiServer
	rls           RateLimits
	rlsListener   *boundedListener // of rls; both are nil if the configuration has no rate limit service

	requests        requests
	requestsContext context.Context         //nolint:containedctx // of all requests
	cancelRequests  context.CancelCauseFunc // ends requestsContext
	waits           atomic.Int64            // requests that wait for their limits
	notReady        atomic.Bool             // the daemon is shutting down
	draining        chan struct{}           // closed when it begins to
}

// errShutdown is the cause of the contexts of requests that the shutdown cuts off.
var errShutdown = errors.New("the server is shutting down")

// New loads the configuration, opens the store and listens. The daemon serves when it Runs;
// one that does not run has to be closed by Close.
func New(ctx context.Context, o *Options) (*Daemon, error) {
	d := &Daemon{source: o.Source, hangup: o.Hangup, every: o.LookEvery, draining: make(chan struct{}), level: new(slog.LevelVar)}
	d.requests.none = make(chan struct{})
	d.requestsContext, d.cancelRequests = context.WithCancelCause(context.WithoutCancel(ctx))
	before := filewatch.Of(o.Source.File)
	c, err := d.source.Load()
	if err != nil {
		return nil, err
	}
	d.config.Store(c)
	d.seen = before + filewatch.Of(c.Files()...)
	d.level.Set(c.Log.Level)
	d.log = slog.New(logHandler(o.Log, c.Log.JSON, d.level))
	if d.metrics, err = newMetrics(d); err != nil {
		return nil, err
	}
	if c.TLS != nil {
		loaded, err := c.TLS.Load()
		if err != nil {
			return nil, err
		}
		d.tls.Store(loaded)
	}
	if d.store, err = o.Open(ctx, c.Store); err != nil {
		return nil, err
	}
	if err := d.build(ctx, o.Handlers); err != nil {
		return nil, errors.Join(err, d.Close(ctx))
	}
	return d, nil
}

func logHandler(w io.Writer, asJSON bool, level slog.Leveler) slog.Handler {
	if asJSON {
		return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
	}
	return slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})
}

// build makes everything that needs the store.
func (d *Daemon) build(ctx context.Context, h Handlers) (err error) {
	c := d.config.Load()
	d.live = live.New(time.Now)
	d.limiter, err = zael.New(d.store, &zael.Config{
		Timeout: c.Timeout, FailureMode: c.FailureMode, Principal: "zael serve", Observer: observers{d.metrics.observer, d.live},
	})
	if err != nil {
		return err
	}
	d.health.ping = d.limiter.Ping
	if d.guard, err = access.NewGuard(rules(c), d.log, d.metrics.refuse); err != nil {
		return err
	}
	env := &Env{
		Limiter: d.limiter, Store: d.store, Live: d.live, Log: d.log, Guard: d.guard, Metrics: d.metrics.registry,
		Config: d.config.Load, Wait: d.wait, Draining: d.draining, TLS: d.tlsConfig(), LookEvery: d.every,
	}
	if h.API != nil {
		api, err := h.API(env)
		if err != nil {
			return err
		}
		d.api = d.guard.Handler(d.bounded(api))
	}
	d.page = h.Page
	if h.Gateway != nil {
		if d.gateway, err = h.Gateway(env); err != nil {
			return err
		}
	}
	if d.apiServer, err = d.listen(ctx, c.Listen, d.tls.Load() != nil, d, d.maxConnections); err != nil {
		return listenError(c.Listen, "--listen", err)
	}
	if c.RLS != nil && h.RateLimits != nil {
		if err := d.listenRLS(ctx, env, h); err != nil {
			return err
		}
	}
	if c.MetricsListen == "" {
		return nil
	}
	guard, encrypted := d.guard, d.tls.Load() != nil
	if config.Loopback(c.MetricsListen) {
		if guard, err = access.NewGuard(access.Rules{Hosts: c.Hosts}, d.log, d.metrics.refuse); err != nil {
			return err
		}
		encrypted = false
	}
	d.metricsServer, err = d.listen(ctx, c.MetricsListen, encrypted, d.metricsHandler(guard), func() int64 { return maxScrapers })
	return listenError(c.MetricsListen, "metrics_listen", err)
}

// listenRLS makes the rate limit service and its listener.
func (d *Daemon) listenRLS(ctx context.Context, env *Env, h Handlers) (err error) {
	if d.rls, err = h.RateLimits(env); err != nil {
		return err
	}
	address := d.config.Load().RLS.Listen
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return listenError(address, "--rls-listen", err)
	}
	d.rlsListener = &boundedListener{Listener: l, most: d.maxConnections, refused: d.metrics.connectionsRefused.Inc}
	return nil
}

// tlsConfig returns the configuration of a listener, which shows each client the certificate that
// was loaded last; nil if connections are not encrypted.
func (d *Daemon) tlsConfig() *tls.Config {
	if d.tls.Load() == nil {
		return nil
	}
	c := d.tls.Load().Clone()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return d.tls.Load(), nil }
	return c
}

// maxScrapers bounds the connections of the listener for metrics.
const maxScrapers = 100

func (d *Daemon) maxConnections() int64 { return int64(d.config.Load().Max.Connections) }

// rules returns whom a configuration lets in.
func rules(c *config.Config) access.Rules {
	return access.Rules{Tokens: c.Tokens, Hosts: c.Hosts, Proxies: c.TrustedProxies, AllowRemote: c.Insecure && !config.Loopback(c.Listen)}
}

// wait is Env.Wait.
func (d *Daemon) wait() (done func(), ok bool) {
	if d.waits.Add(1) > int64(d.config.Load().Max.Waits) {
		d.waits.Add(-1)
		return nil, false
	}
	return func() { d.waits.Add(-1) }, true
}

// Addr returns the address of the API.
func (d *Daemon) Addr() net.Addr { return d.apiServer.listener.Addr() }

// MetricsAddr returns the address of the metrics, if they have one of their own.
func (d *Daemon) MetricsAddr() net.Addr {
	if d.metricsServer == nil {
		return nil
	}
	return d.metricsServer.listener.Addr()
}

// RLSAddr returns the address of the rate limit service, nil if there is none.
func (d *Daemon) RLSAddr() net.Addr {
	if d.rlsListener == nil {
		return nil
	}
	return d.rlsListener.Addr()
}

// Run serves until ctx is done. It is then no longer ready, and shuts down after ShutdownDelay: it
// refuses requests that wait, finishes those under way and closes the store, within
// ShutdownTimeout. Requests that are left at its end are cut off, which is an error.
func (d *Daemon) Run(ctx context.Context) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	var group sync.WaitGroup
	failed := make(chan error, 3)
	for _, s := range d.servers() {
		group.Go(func() { failed <- s.serve() })
	}
	if d.rlsListener != nil {
		group.Go(func() { failed <- d.rls.Serve(d.rlsListener) })
	}
	group.Go(func() { filewatch.Watch(running, d.every, d.seen, d.fingerprint, d.hangup, d.reload) })
	d.log.Info("serving", "address", d.Addr().String(), "tls", d.tls.Load() != nil, "tokens", len(d.config.Load().Tokens))
	if d.tls.Load() == nil && !config.Loopback(d.Addr().String()) {
		d.log.Warn("requests are not encrypted: set tls in the configuration, unless a proxy in front encrypts them")
	}
	var err error
	select {
	case <-ctx.Done():
		d.announce()
		<-time.After(d.config.Load().ShutdownDelay)
	case err = <-failed:
	}
	stop()
	err = errors.Join(err, d.end(context.WithoutCancel(ctx)))
	group.Wait()
	return err
}

func (d *Daemon) servers() []*server {
	if d.metricsServer == nil {
		return []*server{d.apiServer}
	}
	return []*server{d.apiServer, d.metricsServer}
}

// announce makes the daemon not ready. It goes on serving, but closes each connection after its
// request, so that clients connect elsewhere.
func (d *Daemon) announce() {
	d.notReady.Store(true)
	for _, s := range d.servers() {
		s.SetKeepAlivesEnabled(false)
	}
	if d.rls != nil {
		d.rls.Announce()
	}
}

// end finishes the requests under way, and closes everything.
func (d *Daemon) end(ctx context.Context) error {
	c := d.config.Load()
	d.log.Info("ending", "requests", d.requests.number())
	ctx, cancel := context.WithTimeout(ctx, c.ShutdownTimeout)
	defer cancel()
	d.notReady.Store(true)
	close(d.draining)
	// Requests that are still under way then are cancelled while there is time to write an answer.
	polite, done := context.WithTimeout(ctx, c.ShutdownTimeout*4/5)
	defer done()
	var group sync.WaitGroup
	for _, s := range d.servers() {
		group.Go(func() {
			if s.Shutdown(polite) != nil {
				d.cancelRequests(errShutdown)
				if s.Shutdown(ctx) != nil {
					_ = s.Close()
				}
			}
		})
	}
	if d.rls != nil {
		group.Go(func() { d.rls.Shutdown(polite) })
	}
	group.Wait()
	var err error
	if cut := d.requests.close(ctx); cut > 0 {
		err = fmt.Errorf("%d requests were cut off, as they took longer than shutdown_timeout, %v", cut, c.ShutdownTimeout)
	}
	d.cancelRequests(errShutdown)
	err = errors.Join(err, d.settleGateway(ctx), d.closeStore(ctx))
	d.log.Info("ended")
	return err
}

// Close releases what New has made, for a Daemon that does not Run.
func (d *Daemon) Close(ctx context.Context) error {
	d.cancelRequests(errShutdown)
	var errs []error
	for _, s := range []*server{d.apiServer, d.metricsServer} {
		if s != nil {
			errs = append(errs, s.listener.Close())
		}
	}
	if d.rls != nil {
		d.rls.Shutdown(ctx)
	}
	if d.rlsListener != nil {
		errs = append(errs, d.rlsListener.Close())
	}
	return errors.Join(append(errs, d.closeStore(ctx))...)
}

// storeTime is how long the store has at least to close.
const storeTime = 5 * time.Second

// settleGateway waits until the store has been told what calls through the gateway used; no
// client waits for that.
func (d *Daemon) settleGateway(ctx context.Context) error {
	if d.gateway == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTime)
	defer cancel()
	if d.gateway.Shutdown(ctx) != nil {
		return errors.New("calls through the gateway have not settled")
	}
	return nil
}

func (d *Daemon) closeStore(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTime)
	defer cancel()
	if d.limiter != nil {
		if err := d.limiter.Close(ctx); err != nil {
			return err
		}
	}
	return d.store.Close(ctx)
}
