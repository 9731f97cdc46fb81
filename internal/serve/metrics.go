package serve

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve/access"
	"github.com/zeroae/zael/internal/serve/problem"
	"github.com/zeroae/zael/telemetry"
)

// metrics are what a daemon counts: what package telemetry does, and its own.
type metrics struct {
	observer *telemetry.Observer
	registry *prometheus.Registry

	requests           *prometheus.HistogramVec // by route and status
	accessRefused      *prometheus.CounterVec   // by reason
	connectionsRefused prometheus.Counter
	reloads            *prometheus.CounterVec // by result
	configCurrent      prometheus.Gauge
}

// newMetrics makes the metrics of a daemon that has a log.
func newMetrics(d *Daemon) (*metrics, error) {
	registry := prometheus.NewRegistry()
	reader, err := exporter.New(exporter.WithRegisterer(registry), exporter.WithoutScopeInfo(), exporter.WithoutTargetInfo())
	if err != nil {
		return nil, err
	}
	m := &metrics{
		registry: registry,
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "zael_serve_request_seconds", Help: "Requests, by route and status.",
			Buckets: []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"route", "status"}),
		accessRefused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "zael_serve_access_refused_total", Help: "Requests that were not let in, by reason.",
		}, []string{"reason"}),
		connectionsRefused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "zael_serve_connections_refused_total", Help: "Connections that were closed, as max.connections were open.",
		}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "zael_serve_reloads_total", Help: "Reloads of the configuration, by result.",
		}, []string{"result"}),
		configCurrent: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "zael_serve_config_current", Help: "1 if the file's configuration holds, 0 if an older one does, as the file is wrong or needs a restart.",
		}),
	}
	m.configCurrent.Set(1)
	registry.MustRegister(
		m.requests, m.accessRefused, m.connectionsRefused, m.reloads, m.configCurrent,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "zael_serve_connections", Help: "Open connections."},
			func() float64 { return float64(d.apiServer.listener.open.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "zael_serve_waits", Help: "Requests that wait for their limits."},
			func() float64 { return float64(d.waits.Load()) }),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	m.observer, err = telemetry.New(&telemetry.Config{
		MeterProvider: metric.NewMeterProvider(metric.WithReader(reader)), TracerProvider: noop.NewTracerProvider(), Logger: d.log,
	})
	return m, err
}

// served counts a request. A status of 0 is one that was not answered.
func (m *metrics) served(route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Observe(took.Seconds())
}

// refuse counts a request that access refused.
func (m *metrics) refuse(reason string) { m.accessRefused.WithLabelValues(reason).Inc() }

// serveMetrics serves the metrics to those who may see all.
func (d *Daemon) serveMetrics(w http.ResponseWriter, r *http.Request) {
	if !access.From(r.Context()).MayReadAll() {
		problem.Write(w, problem.Forbidden, "metrics need a token with the role read or admin and no prefix")
		return
	}
	families, err := d.metrics.registry.Gather()
	if err != nil {
		d.log.ErrorContext(r.Context(), "metrics are incomplete", "error", err)
	}
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	w.Header().Set("Content-Type", string(format))
	encoder := expfmt.NewEncoder(w, format)
	for _, f := range families {
		if encoder.Encode(f) != nil {
			return // the client has left
		}
	}
}

// observers are told the same, one after the other.
type observers []zael.Observer

// Decision implements zael.Observer.
func (all observers) Decision(o *zael.Observed) {
	for _, one := range all {
		one.Decision(o)
	}
}

// Settled implements zael.Observer.
func (all observers) Settled(o *zael.Observed) {
	for _, one := range all {
		one.Settled(o)
	}
}

// StoreCall implements zael.Observer.
func (all observers) StoreCall(op zael.StoreOp, took time.Duration, err error) {
	for _, one := range all {
		one.StoreCall(op, took, err)
	}
}

// Breaker implements zael.Observer.
func (all observers) Breaker(open bool) {
	for _, one := range all {
		one.Breaker(open)
	}
}
