package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/limiters"
	"github.com/zeroae/zael/memstore"
	"github.com/zeroae/zael/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A world is an observer whose metrics and spans are kept.
type world struct {
	*telemetry.Observer
	registry *prometheus.Registry
	spans    *tracetest.SpanRecorder
	tracer   *trace.TracerProvider
}

func setup(t *testing.T, config telemetry.Config) *world {
	t.Helper()
	w := &world{registry: prometheus.NewRegistry(), spans: tracetest.NewSpanRecorder()}
	reader, err := exporter.New(exporter.WithRegisterer(w.registry), exporter.WithoutScopeInfo(), exporter.WithoutTargetInfo())
	if err != nil {
		t.Fatal(err)
	}
	meters := metric.NewMeterProvider(metric.WithReader(reader))
	w.tracer = trace.NewTracerProvider(trace.WithSpanProcessor(w.spans))
	t.Cleanup(func() {
		if err := errors.Join(meters.Shutdown(context.Background()), w.tracer.Shutdown(context.Background())); err != nil {
			t.Error(err)
		}
	})
	config.MeterProvider, config.TracerProvider = meters, w.tracer
	if w.Observer, err = telemetry.New(&config); err != nil {
		t.Fatal(err)
	}
	return w
}

// limiter returns a limiter that the world observes.
func (w *world) limiter(t *testing.T, store zael.Store, mode zael.FailureMode) *zael.Limiter {
	t.Helper()
	l, err := zael.New(store, &zael.Config{Observer: w, FailureMode: mode, Clock: func() time.Time { return time.Date(2026, 1, 13, 14, 0, 0, 0, time.UTC) }})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// metrics returns what Prometheus would read, without buckets of histograms.
func (w *world) metrics(t *testing.T) []string {
	t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
			t.Fatal(err)
		}
	}
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	return slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "#") || strings.Contains(l, "_bucket{") })
}

var policy = zael.MustPolicy("gpt", zael.PerMinute("rpm", 5), zael.PerMinute("tpm", 100))

// use makes each outcome happen.
func use(t *testing.T, w *world, ctx context.Context) { //nolint:revive // the test comes first
	t.Helper()
	l := w.limiter(t, memstore.New(nil), 0)
	for _, used := range []int64{5, 20, 100} { // of 10: 95, 75 and then 65 are left, and 25 of debt
		lease, err := l.Acquire(ctx, policy.For("secret-entity", 1, 10))
		if err != nil {
			t.Fatal(err)
		}
		if err := lease.Settle(zael.Amounts{"tpm": used}); err != nil {
			t.Fatal(err)
		}
		if err := lease.Commit(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Allow(ctx, policy.For("secret-entity", 1, 1)); !errors.Is(err, zael.ErrExceeded) {
		t.Fatalf("got %v, want a refusal", err)
	}
	if _, err := l.Decide(ctx, policy.For("secret-entity", 1, 101)); err != nil {
		t.Fatal(err)
	}
	if err := l.Allow(ctx, policy.For("f", 5, 1)); err != nil { // nothing of rpm is left
		t.Fatal(err)
	}
	waits := policy.For("g", 1, 1)
	waits.MaxWait = time.Minute
	if _, err := l.Acquire(ctx, waits); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []zael.FailureMode{zael.FailOpen, zael.FailClosed} {
		dead := w.limiter(t, limiters.Dead(), mode)
		for range 6 { // and opens the breaker
			_ = dead.Allow(ctx, policy.For("secret-entity", 1, 1))
		}
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	_ = l.Allow(gone, policy.For("e", 1, 1))
	_ = l.Allow(ctx, zael.Request{})
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	w := setup(t, telemetry.Config{})
	use(t, w, t.Context())
	got := w.metrics(t)
	for _, want := range []string{
		`zael_decisions_total{outcome="admitted",resource="gpt"} 5`,
		`zael_decisions_total{limit="tpm",outcome="refused",resource="gpt"} 1`,
		`zael_decisions_total{limit="tpm",outcome="never",resource="gpt"} 1`,
		`zael_decisions_total{outcome="degraded",resource="gpt"} 6`,
		`zael_decisions_total{outcome="unavailable",resource="gpt"} 6`,
		`zael_decisions_total{outcome="canceled",resource="gpt"} 1`,
		`zael_decisions_total{outcome="failed",resource=""} 1`,
		`zael_degraded_total{resource="gpt"} 6`,
		`zael_near_limit_total{limit="rpm",resource="gpt"} 1`,
		`zael_debt_tokens_total{limit="tpm",resource="gpt"} 25`,
		`zael_settled_ratio_sum{limit="tpm",resource="gpt"} 12.5`,
		`zael_settled_ratio_count{limit="tpm",resource="gpt"} 3`,
		`zael_settled_ratio_count{limit="rpm",resource="gpt"} 3`,
		`zael_wait_seconds_count{outcome="admitted",resource="gpt"} 1`,
		`zael_limit_tokens{limit="tpm",resource="gpt"} 100`,
		`zael_limit_period_seconds{limit="rpm",resource="gpt"} 60`,
		`zael_store_call_seconds_count{op="take",outcome="unavailable"} 10`,
		`zael_breaker_open 2`,
	} {
		if !slices.Contains(got, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if all := strings.Join(got, "\n"); t.Failed() || strings.Contains(all, "secret-entity") {
		t.Errorf("metrics:\n%s", all)
	}
}

// Resources beyond the bound share the series of "other".
// TestPeriodsOfAllKinds: a quota's is that of the calendar which is on, and a session's is
// known before its first use. Slots are not refilled by time.
func TestPeriodsOfAllKinds(t *testing.T) {
	t.Parallel()
	w := setup(t, telemetry.Config{})
	l := w.limiter(t, memstore.New(nil), 0)
	kinds := zael.MustPolicy("kinds", zael.EachMonth("month", 10), zael.EachDay("day", 11), zael.FromFirstUse("session", 12, 5*time.Hour),
		zael.AtOnce("slots", 13), zael.PerMinute("rate", 14))
	for _, amounts := range [][]int64{{0, 0, 0, 0, 0}, {1, 1, 1, 0, 1}} {
		if _, err := l.Decide(t.Context(), kinds.For("e", amounts...)); err != nil {
			t.Fatal(err)
		}
		got := w.metrics(t)
		for limit, want := range map[string][2]string{
			"month": {"10", fmt.Sprint(31 * 86400)}, "day": {"11", "86400"}, "session": {"12", "18000"}, "slots": {"13", ""}, "rate": {"14", "60"},
		} {
			labels := `{limit="` + limit + `",resource="kinds"} `
			if !slices.Contains(got, "zael_limit_tokens"+labels+want[0]) {
				t.Errorf("%v: metrics lack %s tokens of %s: %q", amounts, want[0], limit, got)
			}
			period := slices.IndexFunc(got, func(line string) bool { return strings.HasPrefix(line, "zael_limit_period_seconds"+labels) })
			if want[1] == "" && period >= 0 || want[1] != "" && (period < 0 || !seconds(got[period], want[1])) {
				t.Errorf("%v: metrics lack a period of %s s of %s: %q", amounts, want[1], limit, got)
			}
		}
	}
}

// seconds reports whether a line of metrics has a number.
func seconds(line, want string) bool {
	got, err := strconv.ParseFloat(line[strings.LastIndex(line, " ")+1:], 64)
	number, err2 := strconv.ParseFloat(want, 64)
	return err == nil && err2 == nil && got == number
}

func TestSeriesAreBounded(t *testing.T) {
	t.Parallel()
	w := setup(t, telemetry.Config{MaxSeries: 4})
	l := w.limiter(t, memstore.New(nil), 0)
	for i := range 100 {
		if err := l.Allow(t.Context(), zael.Request{Entity: "e", Resource: fmt.Sprintf("r-%d", i), Limits: []zael.Limit{zael.PerMinute("rpm", 5)}}); err != nil {
			t.Fatal(err)
		}
	}
	got := w.metrics(t)
	resources := map[string]bool{}
	for _, line := range got {
		if m := regexp.MustCompile(`resource="([^"]*)"`).FindStringSubmatch(line); m != nil {
			resources[m[1]] = true
		}
	}
	if len(resources) > 4 || !slices.Contains(got, `zael_decisions_total{outcome="admitted",resource="other"} 98`) {
		t.Errorf("got %v, want four at most, and the rest as other:\n%s", resources, strings.Join(got, "\n"))
	}
}

// A request has a span within that of its caller, and none without one.
func TestSpans(t *testing.T) {
	t.Parallel()
	w := setup(t, telemetry.Config{})
	l := w.limiter(t, memstore.New(nil), 0)
	ctx, parent := w.tracer.Tracer("test").Start(t.Context(), "handler")
	for _, n := range []int64{5, 1} {
		_ = l.Allow(ctx, policy.For("secret-entity", n, 1))
	}
	_ = l.Allow(t.Context(), policy.For("secret-entity", 1, 1))
	parent.End()
	var got []string
	for _, s := range w.spans.Ended() {
		text := s.Name()
		for _, a := range s.Attributes() {
			text += " " + string(a.Key) + "=" + a.Value.String()
		}
		if s.Name() == "zael.acquire" && (s.Parent().SpanID() != parent.SpanContext().SpanID() || s.EndTime().Before(s.StartTime())) {
			t.Errorf("span %s: want it in its caller's", text)
		}
		got = append(got, text)
	}
	want := []string{"zael.acquire zael.resource=gpt zael.outcome=admitted", "zael.acquire zael.resource=gpt zael.outcome=refused zael.limit=rpm", "handler"}
	if !slices.Equal(got, want) {
		t.Errorf("spans: got %q, want %q", got, want)
	}
}

// The log tells of a dead store once, and of the breaker; not of each request.
func TestLog(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	w := setup(t, telemetry.Config{Logger: slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))})
	dead := w.limiter(t, limiters.Dead(), zael.FailOpen)
	for range 50 {
		if err := dead.Allow(t.Context(), policy.For("secret-entity", 1, 1)); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 { // as a Limiter tells of leases that the garbage collector found
		w.Settled(&zael.Observed{Context: t.Context(), Outcome: zael.OutcomeAdmitted, Err: zael.ErrLeaseLeaked})
	}
	want := `level=WARN msg="zael: requests are admitted without a charge, as the store is unavailable" not_logged=0
level=WARN msg="zael: the store fails repeatedly: callers are kept from it, and it is tried again every 250 ms"
level=WARN msg="zael: a lease was never ended" not_logged=0 error="zael: a lease with slots was never ended: commit it or roll it back, as Do does"
`
	if text.String() != want {
		t.Errorf("got\n%s\nwant\n%s", text.String(), want)
	}
}

// A threshold is told of once, and again after the level fell a tenth below it.
func TestCrossed(t *testing.T) {
	t.Parallel()
	var got []string
	w := setup(t, telemetry.Config{Crossed: func(c telemetry.Crossing) {
		got = append(got, fmt.Sprintf("%s %s %v at %.2f", c.Status.Entity, c.Status.Limit.Name, c.Threshold, c.Level))
	}})
	now := time.Date(2026, 1, 13, 14, 0, 0, 0, time.UTC)
	l, err := zael.New(memstore.New(nil), &zael.Config{Observer: w, Clock: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	rate := zael.MustPolicy("gpt", zael.PerMinute("tpm", 60))
	quota, err := zael.ParseLimit("day=10 each day")
	if err != nil {
		t.Fatal(err)
	}
	daily := zael.MustPolicy("daily", quota)
	for _, step := range []struct {
		after time.Duration
		req   zael.Request
		want  []string
	}{
		{0, rate.For("e", 29), nil},
		{0, rate.For("e", 1), []string{"e tpm 0.5 at 0.50"}},
		{0, rate.For("e", 1), nil},
		{2 * time.Second, rate.For("e", 1), nil}, // 0.50 again, and not a tenth below between
		{0, rate.For("e", 30), []string{"e tpm 0.8 at 1.00", "e tpm 1 at 1.00"}},
		{0, rate.For("e", 1), nil},                // refused
		{20 * time.Second, rate.For("e", 1), nil}, // 0.68: below 0.7
		{0, rate.For("e", 10), []string{"e tpm 0.8 at 0.85"}},
		{0, daily.For("e", 9), []string{"e day 0.5 at 0.90", "e day 0.8 at 0.90"}},
		{0, daily.For("e", 1), []string{"e day 1 at 1.00"}},
		{0, daily.For("e", 1), nil},
		{24 * time.Hour, daily.For("e", 5), []string{"e day 0.5 at 0.50"}},
	} {
		now = now.Add(step.after)
		got = nil
		_ = l.Allow(t.Context(), step.req)
		if !slices.Equal(got, step.want) {
			t.Errorf("after %v: got %q, want %q", step.after, got, step.want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []telemetry.Config{{MaxSeries: -1}, {Thresholds: []float64{0}}, {Thresholds: []float64{0.5, 0.5}}, {Thresholds: []float64{1.1}}} {
		if o, err := telemetry.New(&c); err == nil {
			t.Errorf("%+v: got %v, want an error", c, o)
		}
	}
	if _, err := telemetry.New(nil); err != nil {
		t.Error(err)
	}
}

// The board of Grafana asks for metrics that exist, by labels that they have.
func TestBoard(t *testing.T) {
	t.Parallel()
	w := setup(t, telemetry.Config{})
	use(t, w, t.Context())
	text, err := os.ReadFile("../examples/grafana/zael.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string `json:"title"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	all := strings.Join(w.metrics(t), "\n") + "\nzael_wait_seconds_bucket{le=\"1\",outcome=\"admitted\",resource=\"gpt\"} 1\nzael_store_call_seconds_bucket{le=\"1\",op=\"take\",outcome=\"ok\"} 1" +
		"\nzael_settled_ratio_bucket{le=\"1\",limit=\"tpm\",resource=\"gpt\"} 1"
	n := 0
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			n++
			for _, name := range regexp.MustCompile(`zael_[a-z_]+`).FindAllString(target.Expr, -1) {
				if !regexp.MustCompile(`(?m)^` + name + `[ {]`).MatchString(all) {
					t.Errorf("panel %q asks for %s, which is not exported", p.Title, name)
				}
			}
			for _, labels := range regexp.MustCompile(`by \(([^)]*)\)`).FindAllStringSubmatch(target.Expr, -1) {
				for label := range strings.SplitSeq(labels[1], ",") {
					if !strings.Contains(all, strings.TrimSpace(label)+`="`) {
						t.Errorf("panel %q groups by %s, which no metric has", p.Title, label)
					}
				}
			}
		}
	}
	if n < 8 {
		t.Errorf("the board has %d queries, want those of its panels", n)
	}
}
