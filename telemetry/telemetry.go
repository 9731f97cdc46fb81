// Package telemetry turns what a limiter does into OpenTelemetry metrics and spans, and
// logs what operators must see:
//
//	package main
//
//	import (
//		"log"
//		"log/slog"
//		"net/http"
//
//		"github.com/prometheus/client_golang/prometheus/promhttp"
//		"go.opentelemetry.io/otel/exporters/prometheus"
//		"go.opentelemetry.io/otel/sdk/metric"
//
//		"github.com/zeroae/zael"
//		"github.com/zeroae/zael/httplimit"
//		"github.com/zeroae/zael/memstore"
//		"github.com/zeroae/zael/telemetry"
//	)
//
//	func main() {
//		exporter, err := prometheus.New()
//		if err != nil {
//			log.Fatal(err)
//		}
//		meters := metric.NewMeterProvider(metric.WithReader(exporter))
//		observer, err := telemetry.New(&telemetry.Config{MeterProvider: meters, Logger: slog.Default()})
//		if err != nil {
//			log.Fatal(err)
//		}
//		limiter, err := zael.New(memstore.New(nil), &zael.Config{Observer: observer})
//		if err != nil {
//			log.Fatal(err)
//		}
//		policy := zael.MustPolicy("api", zael.PerSecond("requests", 10))
//		limit := httplimit.Must(httplimit.New(limiter, policy, httplimit.Address(nil), nil))
//
//		http.Handle("GET /", limit.Handler(http.FileServer(http.Dir("public"))))
//		http.Handle("GET /metrics", promhttp.Handler())
//		log.Fatal(http.ListenAndServe(":8080", nil))
//	}
//
// The instruments, with their names in Prometheus by OpenTelemetry's exporter:
//
//	zael.decisions      zael_decisions_total       requests by resource, limit and outcome; limit is the one that refused
//	zael.near_limit     zael_near_limit_total      requests that left less than a fifth of a limit
//	zael.degraded       zael_degraded_total        requests admitted without a charge, as the store was unavailable
//	zael.wait           zael_wait_seconds          how long requests with MaxWait waited
//	zael.settled.ratio  zael_settled_ratio         what leases used of what they took, by resource and limit
//	zael.debt.tokens    zael_debt_tokens_total     tokens that leases used above what was taken and left
//	zael.store.call     zael_store_call_seconds    calls of the store by op and outcome
//	zael.breaker.open   zael_breaker_open          1 while the breaker keeps callers from the store
//	zael.limit.tokens   zael_limit_tokens          the burst or amount of each limit, so that alerts can be written
//	zael.limit.period   zael_limit_period_seconds  the time in which it refills, of limits that have one: of a quota the
//	                                               period of the calendar that is on, of a session its length
//
// No metric and no span has an entity. Resources and limits beyond Config.MaxSeries pairs
// count as "other".
package telemetry

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/lograte"
)

const scope = "github.com/zeroae/zael/telemetry"

// logEvery is the least time between two log lines with the same message.
const logEvery = 10 * time.Second

// nearShare is the share of a limit that is left when a request counts as near it.
const nearShare = 0.2

// A Config tunes an Observer. A nil *Config is the same as the zero Config.
type Config struct {
	// MeterProvider and TracerProvider are where metrics and spans go. Nil is the global
	// one of package otel.
	MeterProvider  metric.MeterProvider
	TracerProvider trace.TracerProvider

	// Logger logs what operators must see: when the breaker opens and closes, and, each at
	// most every ten seconds, that the store is unavailable, that requests are admitted
	// without a charge and that a lease was never ended. Nil logs nothing.
	Logger *slog.Logger

	// Crossed is called when the level of a limit crosses one of Thresholds. It is called
	// concurrently and must not block. Nil ignores it.
	Crossed func(Crossing)
	// Thresholds are shares of a limit, in ascending order. Nil means 0.5, 0.8 and 1.
	Thresholds []float64

	// MaxSeries bounds the pairs of resource and limit that have series of their own. 0
	// means 1000.
	MaxSeries int
}

// An Observer is a zael.Observer, for any number of limiters. Its methods may be called
// concurrently.
type Observer struct {
	config Config
	tracer trace.Tracer
	levels *levels

	decisions, nearLimit, degraded, debt metric.Int64Counter
	wait, settled, storeCall             metric.Float64Histogram

	series  series
	open    atomic.Int64     // breakers
	logRate *lograte.Limiter // of log lines about the store, by message
}

var _ zael.Observer = (*Observer)(nil)

// New returns an Observer. The error is about Config.Thresholds or MaxSeries, or of the
// MeterProvider.
func New(config *Config) (*Observer, error) {
	var c Config
	if config != nil {
		c = *config
	}
	if c.MeterProvider == nil {
		c.MeterProvider = otel.GetMeterProvider()
	}
	if c.TracerProvider == nil {
		c.TracerProvider = otel.GetTracerProvider()
	}
	if c.MaxSeries < 0 {
		return nil, errors.New("telemetry: Config.MaxSeries is negative: use 0 for 1000")
	}
	c.MaxSeries = cmp.Or(c.MaxSeries, 1000)
	if c.Thresholds == nil {
		c.Thresholds = []float64{0.5, 0.8, 1}
	}
	last := 0.0
	for _, t := range c.Thresholds {
		if t <= last || t > 1 {
			return nil, errors.New("telemetry: Config.Thresholds are not ascending shares above 0, up to 1")
		}
		last = t
	}
	o := &Observer{config: c, tracer: c.TracerProvider.Tracer(scope), levels: newLevels(c.Thresholds), logRate: lograte.New(logEvery)}
	o.series.most = c.MaxSeries
	return o, o.instruments(c.MeterProvider.Meter(scope))
}

func (o *Observer) instruments(m metric.Meter) error {
	var errs [10]error
	o.decisions, errs[0] = m.Int64Counter("zael.decisions", metric.WithDescription("Requests, by how they were decided."))
	o.nearLimit, errs[1] = m.Int64Counter("zael.near_limit", metric.WithDescription("Admitted requests that left less than a fifth of a limit."))
	o.degraded, errs[2] = m.Int64Counter("zael.degraded", metric.WithDescription("Requests admitted without a charge, as the store was unavailable."))
	o.debt, errs[3] = m.Int64Counter("zael.debt.tokens", metric.WithDescription("Tokens that leases used above what was taken and left."))
	o.wait, errs[4] = m.Float64Histogram("zael.wait", metric.WithUnit("s"), metric.WithDescription("How long requests with MaxWait waited."),
		metric.WithExplicitBucketBoundaries(0, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60))
	o.settled, errs[5] = m.Float64Histogram("zael.settled.ratio", metric.WithUnit("1"), metric.WithDescription("What leases used, as a share of what they took."),
		metric.WithExplicitBucketBoundaries(0, 0.1, 0.25, 0.5, 0.75, 0.9, 1, 1.1, 1.25, 1.5, 2, 4, 10))
	o.storeCall, errs[6] = m.Float64Histogram("zael.store.call", metric.WithUnit("s"), metric.WithDescription("Calls of the store."),
		metric.WithExplicitBucketBoundaries(0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5))
	_, errs[7] = m.Int64ObservableGauge("zael.breaker.open", metric.WithDescription("Limiters whose breaker keeps callers from the store."),
		metric.WithInt64Callback(func(_ context.Context, to metric.Int64Observer) error {
			to.Observe(o.open.Load())
			return nil
		}))
	_, errs[8] = m.Int64ObservableGauge("zael.limit.tokens", metric.WithDescription("The burst or amount of a limit."),
		metric.WithInt64Callback(func(_ context.Context, to metric.Int64Observer) error {
			o.series.each(func(s *limitSeries) { to.Observe(s.tokens.Load(), s.options) })
			return nil
		}))
	_, errs[9] = m.Float64ObservableGauge("zael.limit.period", metric.WithUnit("s"), metric.WithDescription("The time in which a limit refills."),
		metric.WithFloat64Callback(func(_ context.Context, to metric.Float64Observer) error {
			o.series.each(func(s *limitSeries) {
				if period := s.period.Load(); period > 0 {
					to.Observe(time.Duration(period).Seconds(), s.options)
				}
			})
			return nil
		}))
	return errors.Join(errs[:]...)
}

// Decision implements zael.Observer.
func (o *Observer) Decision(d *zael.Observed) {
	ctx := d.Context
	refusing := ""
	if d.Decision != nil {
		refusing = o.limits(ctx, d)
	}
	s := o.series.of(d.Resource, refusing)
	o.decisions.Add(ctx, 1, s.outcome(d.Outcome))
	if d.Waited > 0 {
		o.wait.Record(ctx, d.Waited.Seconds(), s.outcome(d.Outcome))
	}
	switch d.Outcome {
	case zael.OutcomeDegraded:
		o.degraded.Add(ctx, 1, s.options)
		o.log(ctx, "requests are admitted without a charge, as the store is unavailable", nil)
	case zael.OutcomeUnavailable:
		o.log(ctx, "requests fail, as the store is unavailable", d.Err)
	}
	o.span(d, refusing)
}

// limits looks at each limit of a decision, and returns the one that refused.
func (o *Observer) limits(ctx context.Context, d *zael.Observed) (refusing string) {
	var longest time.Duration
	for status := range d.Decision.All() {
		s := o.series.of(d.Resource, status.Limit.Name)
		s.learn(&status)
		if status.Exceeded && (refusing == "" || status.RetryAfter > longest) {
			refusing, longest = status.Limit.Name, status.RetryAfter
		}
		size := status.Limit.Burst
		if size <= 0 {
			continue // blocked or unlimited
		}
		if d.Outcome == zael.OutcomeAdmitted && float64(status.Available) < nearShare*float64(size) {
			o.nearLimit.Add(ctx, 1, s.options)
		}
		if o.config.Crossed != nil {
			for _, c := range o.levels.see(&status) {
				o.config.Crossed(c)
			}
		}
	}
	return refusing
}

// span adds a span for the time that the request took, if its caller has one.
func (o *Observer) span(d *zael.Observed, refusing string) {
	if !trace.SpanContextFromContext(d.Context).IsValid() {
		return
	}
	end := time.Now()
	_, span := o.tracer.Start(d.Context, "zael.acquire", trace.WithTimestamp(end.Add(-d.Took)), trace.WithAttributes(
		attribute.String("zael.resource", d.Resource), attribute.String("zael.outcome", string(d.Outcome)),
	))
	if refusing != "" {
		span.SetAttributes(attribute.String("zael.limit", refusing))
	}
	if d.Outcome == zael.OutcomeUnavailable || d.Outcome == zael.OutcomeFailed {
		span.SetStatus(codes.Error, string(d.Outcome))
	}
	span.End(trace.WithTimestamp(end))
}

// Settled implements zael.Observer.
func (o *Observer) Settled(d *zael.Observed) {
	if errors.Is(d.Err, zael.ErrLeaseLeaked) {
		o.log(d.Context, "a lease was never ended", d.Err)
		return
	}
	if d.RolledBack || d.Outcome == zael.OutcomeDegraded {
		return
	}
	for _, u := range d.Used {
		s := o.series.of(d.Resource, u.Limit)
		if u.Taken > 0 {
			o.settled.Record(d.Context, float64(u.Used)/float64(u.Taken), s.options)
		}
		if over := u.Used - u.Taken; over > 0 {
			o.owes(d, u.Limit, over)
		}
	}
}

// owes counts what of the tokens used above those taken was not left.
func (o *Observer) owes(d *zael.Observed, limit string, over int64) {
	for status := range d.Decision.All() {
		if status.Limit.Name != limit {
			continue
		}
		if debt := over - max(0, status.Available); debt > 0 {
			o.debt.Add(d.Context, debt, o.series.of(d.Resource, limit).options)
		}
		return
	}
}

// StoreCall implements zael.Observer.
func (o *Observer) StoreCall(op zael.StoreOp, took time.Duration, err error) {
	outcome := "ok"
	switch {
	case errors.Is(err, zael.ErrExceeded):
		outcome = "refused"
	case errors.Is(err, zael.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		outcome = "unavailable"
	case errors.Is(err, context.Canceled):
		outcome = "canceled"
	case err != nil:
		outcome = "failed"
	}
	o.storeCall.Record(context.Background(), took.Seconds(), metric.WithAttributes(attribute.String("op", string(op)), attribute.String("outcome", outcome)))
}

// Breaker implements zael.Observer.
func (o *Observer) Breaker(open bool) {
	if open {
		o.open.Add(1)
	} else {
		o.open.Add(-1)
	}
	if o.config.Logger == nil {
		return
	}
	if open {
		o.config.Logger.Warn("zael: the store fails repeatedly: callers are kept from it, and it is tried again every 250 ms")
	} else {
		o.config.Logger.Info("zael: the store answers again")
	}
}

// log logs a message about the store, at most every ten seconds, with the number of those
// before it that were not logged.
func (o *Observer) log(ctx context.Context, message string, err error) {
	if o.config.Logger == nil {
		return
	}
	if suppressed, ok := o.logRate.Allow(message, time.Now()); ok {
		attrs := []slog.Attr{slog.Int("not_logged", suppressed)}
		if err != nil {
			attrs = append(attrs, slog.String("error", err.Error()))
		}
		o.config.Logger.LogAttrs(ctx, slog.LevelWarn, "zael: "+message, attrs...)
	}
}
