// Package ratelimit is the program ratelimit: it stands in for envoyproxy/ratelimit, with its
// variables of the environment, its ports and its paths.
//
// That it is started by this name is the permission to serve whoever reaches its addresses,
// without encryption: the original does, and Envoy has no token to show. So it serves nothing
// but rate limits, their rules, health and metrics.
package ratelimit

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
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve"
	"github.com/zeroae/zael/internal/serve/config"
	"github.com/zeroae/zael/internal/serve/envoy"
)

// Times that clients have.
const (
	headerTime = 5 * time.Second
	idleTime   = 2 * time.Minute
	endTime    = 30 * time.Second // for what is under way at the end
)

// A Store is what a Program counts in.
type Store = serve.Store

// Options say what a Program runs with.
type Options struct {
	Settings *Settings
	Open     func(ctx context.Context, url string) (Store, error)
	Log      io.Writer
}

// A Program serves.
type Program struct {
	settings *Settings
	log      *slog.Logger
	registry *prometheus.Registry
	store    Store
	limiter  *zael.Limiter
	rates    *envoy.Server
	grpc     net.Listener
	web      []*http.Server
	listen   []net.Listener // of web
}

// New opens the store and listens. A Program that does not Run has to be closed by Close.
func New(ctx context.Context, o *Options) (*Program, error) {
	s := o.Settings
	level := &slog.HandlerOptions{Level: s.Config.Log.Level}
	p := &Program{settings: s, log: slog.New(slog.NewTextHandler(o.Log, level)), registry: prometheus.NewRegistry()}
	if s.Config.Log.JSON {
		p.log = slog.New(slog.NewJSONHandler(o.Log, level))
	}
	var err error
	if p.store, err = o.Open(ctx, s.Store); err != nil {
		return nil, err
	}
	if err := p.build(ctx); err != nil {
		return nil, errors.Join(err, p.Close(ctx))
	}
	return p, nil
}

func (p *Program) build(ctx context.Context) (err error) {
	c := p.settings.Config
	for _, name := range p.settings.Ignored {
		p.log.Warn("a variable has no effect", "name", name)
	}
	p.limiter, err = zael.New(p.store, &zael.Config{Timeout: c.Timeout, Principal: "ratelimit"})
	if err != nil {
		return err
	}
	env := &serve.Env{Limiter: p.limiter, Store: p.store, Log: p.log, Metrics: p.registry, Config: func() *config.Config { return c }}
	if c.TLS != nil {
		if env.TLS, err = c.TLS.Load(); err != nil {
			return err
		}
		env.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.TLS.Load() } // certificates are renewed
	}
	if p.rates, err = envoy.NewServer(env); err != nil {
		return err
	}
	network, address := "tcp", c.RLS.Listen
	if p.settings.Socket != "" {
		network, address = "unix", p.settings.Socket
	}
	if p.grpc, err = new(net.ListenConfig).Listen(ctx, network, address); err != nil {
		return err
	}
	open := prometheus.NewGauge(prometheus.GaugeOpts{Name: "zael_insecure_listeners", Help: "Addresses that serve other machines without encryption or a certificate of theirs."})
	p.registry.MustRegister(open, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	err = errors.Join(p.serve(ctx, p.settings.HTTP, p.http()), p.serve(ctx, p.settings.Debug, p.debug()))
	if p.settings.Prometheus != "" {
		mux := http.NewServeMux()
		mux.Handle(p.settings.PrometheusPath, promhttp.HandlerFor(p.registry, promhttp.HandlerOpts{}))
		err = errors.Join(err, p.serve(ctx, p.settings.Prometheus, mux))
	}
	if err != nil {
		return err
	}
	var insecure []string
	if network == "tcp" && !config.Loopback(p.grpc.Addr().String()) && (c.TLS == nil || c.TLS.ClientCA == "") {
		insecure = append(insecure, p.grpc.Addr().String())
	}
	for _, l := range p.listen {
		if !config.Loopback(l.Addr().String()) {
			insecure = append(insecure, l.Addr().String())
		}
	}
	if open.Set(float64(len(insecure))); len(insecure) > 0 {
		p.log.Warn("whoever reaches these addresses is served: let in Envoy alone", "addresses", insecure)
	}
	return nil
}

// serve listens for HTTP.
func (p *Program) serve(ctx context.Context, address string, h http.Handler) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	p.listen = append(p.listen, l)
	p.web = append(p.web, &http.Server{
		Handler: http.MaxBytesHandler(h, 1<<20), ReadHeaderTimeout: headerTime, ReadTimeout: headerTime + idleTime, WriteTimeout: idleTime, IdleTimeout: idleTime,
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	})
	return nil
}

func (p *Program) http() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/json", p.rates)
	mux.HandleFunc("/healthcheck", func(w http.ResponseWriter, r *http.Request) {
		err := p.limiter.Ping(r.Context())
		if p.settings.WithRules && !p.rates.Ready() {
			err = errors.Join(err, errors.New("no rules are known yet"))
		}
		if err != nil {
			p.log.WarnContext(r.Context(), "not healthy", "error", err)
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, "OK")
	})
	return mux
}

func (p *Program) debug() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/rlconfig", func(w http.ResponseWriter, _ *http.Request) {
		for _, line := range p.rates.Rules() {
			fmt.Fprintln(w, line)
		}
	})
	return mux
}

// Addresses returns those of gRPC, HTTP, debugging and, if it is there, Prometheus.
func (p *Program) Addresses() []net.Addr {
	all := []net.Addr{p.grpc.Addr()}
	for _, l := range p.listen {
		all = append(all, l.Addr())
	}
	return all
}

// Run serves until ctx is done, and then finishes what is under way.
func (p *Program) Run(ctx context.Context) error {
	failed := make(chan error, 1+len(p.web))
	var group sync.WaitGroup
	group.Go(func() { failed <- p.rates.Serve(p.grpc) })
	for i, s := range p.web {
		group.Go(func() {
			if err := s.Serve(p.listen[i]); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	p.rates.Announce()
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	for _, s := range p.web {
		if s.Shutdown(ending) != nil {
			_ = s.Close()
		}
	}
	err = errors.Join(err, p.Close(ending))
	group.Wait()
	return err
}

// Close lets go of what New has made.
func (p *Program) Close(ctx context.Context) error {
	if p.rates != nil {
		p.rates.Shutdown(ctx)
	}
	if p.grpc != nil {
		_ = p.grpc.Close()
	}
	for _, l := range p.listen {
		_ = l.Close()
	}
	var err error
	if p.limiter != nil {
		err = p.limiter.Close(context.WithoutCancel(ctx))
	}
	return errors.Join(err, p.store.Close(context.WithoutCancel(ctx)))
}
