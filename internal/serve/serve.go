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
	"github.com/zeroae/zael/internal/serve/live"
	"github.com/zeroae/zael/stores"
)

// Options say what a Daemon runs with.
type Options struct {
	Source   config.Source
	Open     func(ctx context.Context, url string) (stores.Store, error) // the store of a configuration
	Handlers Handlers
	Log      io.Writer
	Hangup   <-chan struct{} // each value reloads the configuration; may be nil
}

// A Daemon serves a limiter.
type Daemon struct {
	source config.Source
	hangup <-chan struct{}
	seen   fingerprint                   // of the files that were loaded last
	config atomic.Pointer[config.Config] // what holds now
	tls    atomic.Pointer[tls.Config]    // nil: connections are not encrypted

	log     *slog.Logger
	level   *slog.LevelVar
	metrics *metrics
	live    *live.Recorder
	store   stores.Store
	limiter *zael.Limiter
	health  health

	guard   *access.Guard
	api     http.Handler // behind the guard; nil if there is none
	calling Gateway      // nil if there is none
	page    Page         // nil if there is none

	main, aside  *server // aside serves metrics alone; nil if there is none
	rateLimits   RateLimits
	rates        *boundedListener // of rateLimits; both are nil if there are none
	calls        calls
	waits        atomic.Int64
	notReady     atomic.Bool // as the daemon ends
	draining     chan struct{}
	cutCalls     context.CancelCauseFunc
	callsContext context.Context //nolint:containedctx // of all requests
}

// errEnding is the cause of the contexts of requests that the end of the daemon cuts off.
var errEnding = errors.New("the daemon ends")

// New loads the configuration, opens the store and listens. The daemon serves when it Runs;
// one that does not run has to be closed by Close.
func New(ctx context.Context, o *Options) (*Daemon, error) {
	d := &Daemon{source: o.Source, hangup: o.Hangup, draining: make(chan struct{}), level: new(slog.LevelVar)}
	d.calls.none = make(chan struct{})
	d.callsContext, d.cutCalls = context.WithCancelCause(context.WithoutCancel(ctx))
	files := []string{o.Source.File}
	before := fingerprintOf(files)
	c, err := d.source.Load()
	if err != nil {
		return nil, err
	}
	d.config.Store(c)
	d.seen = before.and(fingerprintOf(c.Files()))
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

// build makes what stands on the store.
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
		Config: d.config.Load, Wait: d.wait, Draining: d.draining, TLS: d.encryption(),
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
		if d.calling, err = h.Gateway(env); err != nil {
			return err
		}
	}
	if d.main, err = d.listen(ctx, c.Listen, d.tls.Load() != nil, d, d.maxConnections); err != nil {
		return err
	}
	if c.RLS != nil && h.RateLimits != nil {
		if err := d.limitRates(ctx, env, h); err != nil {
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
	d.aside, err = d.listen(ctx, c.MetricsListen, encrypted, d.metricsAlone(guard), func() int64 { return scrapers })
	return err
}

// limitRates makes the rate limit service, and listens for it.
func (d *Daemon) limitRates(ctx context.Context, env *Env, h Handlers) (err error) {
	if d.rateLimits, err = h.RateLimits(env); err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", d.config.Load().RLS.Listen)
	if err != nil {
		return err
	}
	d.rates = &boundedListener{Listener: l, most: d.maxConnections, refused: d.metrics.connectionsRefused.Inc}
	return nil
}

// encryption returns what a server needs to show the certificate that holds when a client
// connects; nil if connections are not encrypted.
func (d *Daemon) encryption() *tls.Config {
	if d.tls.Load() == nil {
		return nil
	}
	c := d.tls.Load().Clone()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return d.tls.Load(), nil }
	return c
}

// scrapers is the most connections that the listener for metrics alone has.
const scrapers = 100

func (d *Daemon) maxConnections() int64 { return int64(d.config.Load().Max.Connections) }

// rules returns whom a configuration lets in.
func rules(c *config.Config) access.Rules {
	return access.Rules{Tokens: c.Tokens, Hosts: c.Hosts, Proxies: c.TrustedProxies, Open: c.Insecure && !config.Loopback(c.Listen)}
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
func (d *Daemon) Addr() net.Addr { return d.main.listener.Addr() }

// MetricsAddr returns the address of the metrics, if they have one of their own.
func (d *Daemon) MetricsAddr() net.Addr {
	if d.aside == nil {
		return nil
	}
	return d.aside.listener.Addr()
}

// RatesAddr returns the address of the rate limit service, nil if there is none.
func (d *Daemon) RatesAddr() net.Addr {
	if d.rates == nil {
		return nil
	}
	return d.rates.Addr()
}

// Run serves until ctx is done. Then it is not ready any more, and ends after ShutdownDelay: it
// refuses requests that wait, finishes those that are under way and closes the store. That
// takes no longer than ShutdownTimeout, at whose end what is left is cut off, which is an error.
func (d *Daemon) Run(ctx context.Context) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	var group sync.WaitGroup
	failed := make(chan error, 3)
	for _, s := range d.servers() {
		group.Go(func() { failed <- s.serve() })
	}
	if d.rates != nil {
		group.Go(func() { failed <- d.rateLimits.Serve(d.rates) })
	}
	group.Go(func() { d.watch(running) })
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
	if d.aside == nil {
		return []*server{d.main}
	}
	return []*server{d.main, d.aside}
}

// announce says that the daemon is not ready any more. It goes on serving, but clients have to
// connect again, elsewhere if they can.
func (d *Daemon) announce() {
	d.notReady.Store(true)
	for _, s := range d.servers() {
		s.SetKeepAlivesEnabled(false)
	}
	if d.rateLimits != nil {
		d.rateLimits.Announce()
	}
}

// end finishes what is under way, and closes everything.
func (d *Daemon) end(ctx context.Context) error {
	c := d.config.Load()
	d.log.Info("ending", "requests", d.calls.number())
	ctx, cancel := context.WithTimeout(ctx, c.ShutdownTimeout)
	defer cancel()
	d.notReady.Store(true)
	close(d.draining)
	// What does not end by itself is told to in time to write its answer.
	polite, done := context.WithTimeout(ctx, c.ShutdownTimeout*4/5)
	defer done()
	var group sync.WaitGroup
	for _, s := range d.servers() {
		group.Go(func() {
			if s.Shutdown(polite) != nil {
				d.cutCalls(errEnding)
				if s.Shutdown(ctx) != nil {
					_ = s.Close()
				}
			}
		})
	}
	if d.rateLimits != nil {
		group.Go(func() { d.rateLimits.Shutdown(polite) })
	}
	group.Wait()
	var err error
	if cut := d.calls.close(ctx); cut > 0 {
		err = fmt.Errorf("%d requests were cut off, as they took longer than shutdown_timeout, %v", cut, c.ShutdownTimeout)
	}
	d.cutCalls(errEnding)
	err = errors.Join(err, d.settleCalls(ctx), d.closeStore(ctx))
	d.log.Info("ended")
	return err
}

// Close lets go of what New has made.
func (d *Daemon) Close(ctx context.Context) error {
	d.cutCalls(errEnding)
	var errs []error
	for _, s := range []*server{d.main, d.aside} {
		if s != nil {
			errs = append(errs, s.listener.Close())
		}
	}
	if d.rateLimits != nil {
		d.rateLimits.Shutdown(ctx)
	}
	if d.rates != nil {
		errs = append(errs, d.rates.Close())
	}
	return errors.Join(append(errs, d.closeStore(ctx))...)
}

// storeTime is how long the store has at least to close.
const storeTime = 5 * time.Second

// settleCalls waits for what calls through the gateway used to be told to the store, which no
// client waits for.
func (d *Daemon) settleCalls(ctx context.Context) error {
	if d.calling == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTime)
	defer cancel()
	if d.calling.Shutdown(ctx) != nil {
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
