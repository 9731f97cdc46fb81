package replay_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael/internal/replay"
)

func page(t *testing.T, r *replay.Report, file string) string {
	t.Helper()
	var b strings.Builder
	if err := r.WriteHTML(&b, file); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var script = regexp.MustCompile(`(?s)<script([^>]*)>(.*?)</script>`)

func TestPage(t *testing.T) {
	t.Parallel()
	const total = "tpm=ContextTokens+GeneratedTokens"
	o := replay.Options{Limits: limits(t, "rpm=200/min", "tpm=400000/min"), Consume: exprs(t, total), MaxWait: 30 * time.Second}
	r := run(t, bytes.NewReader(readAzure(t)), &o)
	html := page(t, r, "azure.csv")
	scripts := script.FindAllStringSubmatch(html, -1)
	if len(scripts) != 3 || !strings.Contains(scripts[0][1], "application/json") {
		t.Fatalf("got %d scripts, want data, uPlot and the page's own", len(scripts))
	}
	var data struct {
		Step     float64 `json:"step"`
		Requests []int64 `json:"requests"`
		Admitted []int64 `json:"admitted"`
		Waited   []int64 `json:"waited"`
		Limits   []struct {
			Rate   int64     `json:"rate"`
			Burst  int64     `json:"burst"`
			Demand []float64 `json:"demand"`
			Level  []float64 `json:"level"`
		} `json:"limits"`
	}
	if err := json.Unmarshal([]byte(scripts[0][2]), &data); err != nil {
		t.Fatalf("the data: %v", err)
	}
	sum := func(values []int64) (n int64) {
		for _, v := range values {
			n += v
		}
		return n
	}
	want(t, "requests in the charts", sum(data.Requests), r.Requests)
	want(t, "admitted in the charts", sum(data.Admitted), r.Admitted)
	want(t, "waited in the charts", sum(data.Waited), r.Waited)
	if n := len(data.Requests); n < 40 || n > 240 || len(data.Limits) != 2 {
		t.Fatalf("got %d points for %d limits, want 40 to 240 for 2", n, len(data.Limits))
	}
	tpm := data.Limits[1]
	want(t, "tpm's rate", tpm.Rate, 400000)
	want(t, "tpm's burst", tpm.Burst, 400000)
	demand, level := 0.0, 0.0
	for i := range tpm.Demand {
		demand += tpm.Demand[i] * data.Step / 60
		level = max(level, tpm.Level[i])
	}
	want(t, "tokens in the charts", int64(demand+0.5), r.DemandedAmounts["tpm"])
	want(t, "the highest level", int64(level+0.5), int64(r.Limits[1].PeakUtilization*4000+0.5))

	// The page loads nothing.
	rest := script.ReplaceAllString(html, "")
	for _, reference := range []string{"src=", "href=", "url(", "@import", "http:", "https:", "//"} {
		if strings.Contains(rest, reference) {
			t.Errorf("the page has %q outside its scripts", reference)
		}
	}
	for _, want := range []string{"Permission is hereby granted", "Leon Sorokin", "default-src 'none'", "azure.csv", "7,811", "rpm=383/min burst 200"} {
		if !strings.Contains(html, want) {
			t.Errorf("the page has no %q", want)
		}
	}
}

func TestPageWithoutCharts(t *testing.T) {
	t.Parallel()
	o := replay.Options{Limits: limits(t, "rpm=200/min")}
	for trace, want := range map[string]string{
		"t\n":             "The trace has no rows",
		"t\n2024-01-01\n": "within a millisecond",
		"t\n2024-01-01\n2024-01-01 00:00:00.0001\n": "within a millisecond",
	} {
		html := page(t, run(t, strings.NewReader(trace), &o), "little.csv")
		if !strings.Contains(html, want) || strings.Contains(html, "<script") || strings.Contains(html, "uPlot") {
			t.Errorf("%q: want a page without charts, with %q", trace, want)
		}
	}
	html := page(t, run(t, strings.NewReader("t\n2024-01-01\n2024-01-01 00:00:00.0011\n"), &o), "little.csv")
	if len(script.FindAllString(html, -1)) != 3 {
		t.Error("got no charts of two requests that are 1.1 ms apart")
	}
}

// TestPageEscapes checks that names from the trace and the flags stay text.
func TestPageEscapes(t *testing.T) {
	t.Parallel()
	const evil = `</script><script>alert(1)</script><img src=x onerror=alert(1)>&"'`
	column := strings.ReplaceAll(evil, `"`, "")
	o := replay.Options{Limits: limits(t, "rpm=200/min"), Consume: exprs(t, `rpm="`+column+`"`)}
	r := run(t, strings.NewReader("t,"+column+"\n2024-01-01,1\n2024-01-02,1\n"), &o)
	html := page(t, r, evil)
	if n := len(script.FindAllString(html, -1)); n != 3 {
		t.Errorf("got %d scripts, want 3", n)
	}
	if strings.Contains(html, "<img") || strings.Contains(html, "<script>alert") {
		t.Error("the page has markup from a name")
	}
	if !strings.Contains(html, "&lt;img src=x") {
		t.Error("the page does not show the name")
	}
}
