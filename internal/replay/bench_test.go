package replay_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/replay"
	"github.com/zeroae/zael/memstore"
)

// BenchmarkRun replays requests like those of the trace in examples/, of which the
// limits refuse a few.
func BenchmarkRun(b *testing.B) {
	const rows = 100_000
	rng := rand.New(rand.NewPCG(1, 2))
	var trace bytes.Buffer
	trace.WriteString("TIMESTAMP,ContextTokens,GeneratedTokens,user\n")
	at := bucket.Epoch().AddDate(-2, 0, 0)
	for range rows {
		at = at.Add(time.Duration(rng.ExpFloat64() * float64(80*time.Millisecond)))
		fmt.Fprintf(&trace, "%s,%d,%d,u%d\n", at.Format("2006-01-02 15:04:05.0000000"), rng.IntN(7000), rng.IntN(200), rng.IntN(1000))
	}
	const total = "tpm=ContextTokens+GeneratedTokens"
	for _, c := range []struct {
		name    string
		options replay.Options
	}{
		{"plain", replay.Options{Consume: exprs(b, total)}},
		{"waiting", replay.Options{Consume: exprs(b, total), MaxWait: 30 * time.Second}},
		{"settling", replay.Options{Consume: exprs(b, "tpm=ContextTokens"), Settle: exprs(b, total)}},
		{"entities", replay.Options{Consume: exprs(b, total), EntityColumn: "user"}},
		{"sorting", replay.Options{Consume: exprs(b, total), Sort: true}},
	} {
		b.Run(c.name, func(b *testing.B) {
			o := c.options
			o.Limits = limits(b, "rpm=700/min", "tpm=2500000/min")
			b.ReportAllocs()
			for b.Loop() {
				report, err := replay.Run(context.Background(), memstore.New(nil), bytes.NewReader(trace.Bytes()), &o)
				if err != nil || report.Requests != rows {
					b.Fatal(report, err)
				}
			}
			b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
