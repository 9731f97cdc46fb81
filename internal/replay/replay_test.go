package replay_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/replay"
	"github.com/zeroae/zael/memstore"
)

func limits(tb testing.TB, texts ...string) []zael.Limit {
	tb.Helper()
	var out []zael.Limit
	for _, text := range texts {
		l, err := zael.ParseLimit(text)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, l)
	}
	return out
}

// exprs parses texts NAME=EXPR.
func exprs(tb testing.TB, texts ...string) map[string]replay.Expr {
	tb.Helper()
	out := map[string]replay.Expr{}
	for _, text := range texts {
		name, expr, _ := strings.Cut(text, "=")
		e, err := replay.ParseExpr(expr)
		if err != nil {
			tb.Fatal(err)
		}
		out[name] = e
	}
	return out
}

func run(tb testing.TB, r io.Reader, o *replay.Options) *replay.Report {
	tb.Helper()
	report, err := replay.Run(context.Background(), memstore.New(nil), r, o)
	if err != nil {
		tb.Fatal(err)
	}
	return report
}

func readAzure(tb testing.TB) []byte {
	tb.Helper()
	trace, err := os.ReadFile("../../examples/azure_llm_code_2023.csv")
	if err != nil {
		tb.Fatal(err)
	}
	return trace
}

// want compares a number of a report.
func want(t *testing.T, what string, got, want int64) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %d, want %d", what, got, want)
	}
}

func TestAzure(t *testing.T) {
	t.Parallel()
	const total = "tpm=ContextTokens+GeneratedTokens"
	for _, c := range []struct {
		name                      string
		options                   replay.Options
		admitted, waited          int64
		byRPM, byTPM, admittedTPM int64
	}{
		{
			name:     "plain",
			options:  replay.Options{Consume: exprs(t, "rpm=1", total)},
			admitted: 7118, byRPM: 1401, byTPM: 383, admittedTPM: 14451900,
		},
		{
			name:     "waiting",
			options:  replay.Options{Consume: exprs(t, total), MaxWait: 30 * time.Second},
			admitted: 7811, waited: 2590, byRPM: 648, byTPM: 418, admittedTPM: -1,
		},
		{
			name:     "settling",
			options:  replay.Options{Consume: exprs(t, "tpm=ContextTokens"), Settle: exprs(t, total)},
			admitted: 7118, byRPM: 1403, byTPM: 374, admittedTPM: 14451652,
		},
	} {
		if testing.Short() && c.name != "settling" { // TestPage has another
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := c.options
			o.Limits = limits(t, "rpm=200/min", "tpm=400000/min")
			r := run(t, bytes.NewReader(readAzure(t)), &o)
			want(t, "requests", r.Requests, 8819)
			want(t, "admitted", r.Admitted, c.admitted)
			want(t, "denied", r.Denied, 8819-c.admitted)
			want(t, "waited", r.Waited, c.waited)
			want(t, "denied by rpm", r.DeniedBy["rpm"], c.byRPM)
			want(t, "denied by tpm", r.DeniedBy["tpm"], c.byTPM)
			want(t, "admitted rpm", r.AdmittedAmounts["rpm"], c.admitted)
			if c.admittedTPM >= 0 {
				want(t, "admitted tpm", r.AdmittedAmounts["tpm"], c.admittedTPM)
			}
		})
	}
}
