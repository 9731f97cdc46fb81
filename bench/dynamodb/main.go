// Command dynamodb compares zael on DynamoDB Local with a bare loop of UpdateItem on the
// same engine, and prints a table. It starts the engine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"time"

	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/dynamolocal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "dynamodb:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("dynamodb", flag.ContinueOnError)
	b := &bench{}
	flags.IntVar(&b.rounds, "rounds", 3, "how often each pair is measured; the table has the median")
	flags.DurationVar(&b.d, "time", time.Second, "how long each round takes")
	flags.StringVar(&b.endpoint, "endpoint", "", "`URL` of a running DynamoDB Local (default: start one)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if b.rounds < 1 || b.d <= 0 {
		return fmt.Errorf("-rounds %d, -time %v: want 1 or more, and a time", b.rounds, b.d)
	}
	if b.endpoint == "" {
		s, err := dynamolocal.Start(ctx, dynamolocal.Options{Progress: os.Stderr})
		if err != nil {
			return err
		}
		defer s.Close()
		b.endpoint = s.Endpoint()
	}
	b.table = fmt.Sprintf("ZAEL-bench-%d", time.Now().UnixNano())
	if err := dynamostore.CreateTable(ctx, dynamostore.NewClient(config(b.endpoint)), b.table); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s %s/%s, %d CPUs; DynamoDB Local; median of %d rounds of %v\n\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), b.rounds, b.d)
	return b.write(ctx, out)
}

// writeAlone prints the rows of a caller whom nobody disturbs: those limits and paces at
// which a store that takes its own refill for others' takes would guess wrong.
func (b *bench) writeAlone(ctx context.Context, out io.Writer) error {
	for _, row := range []struct {
		name  string
		rate  int64
		every time.Duration
	}{
		{"one caller, 100/s, one every 9 ms", 100, 9 * time.Millisecond}, {"one caller, 10,000/s", 10_000, 0}, {"one caller, 1,000,000/s", 1_000_000, 0},
	} {
		m, calls, err := b.alone(ctx, row.rate, row.every)
		if err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
		fmt.Fprintf(out, "%-34s %9s %9.0f %7s %9s %9s %7s %7.3f %9s\n", row.name, "", m.Rate(), "", "",
			m.CPUPerOp().Round(100*time.Nanosecond), "", calls, m.Quantile(0.99).Round(10*time.Microsecond))
	}
	return nil
}

func (b *bench) write(ctx context.Context, out io.Writer) error {
	fmt.Fprintf(out, "%-34s %9s %9s %7s %9s %9s %7s %7s %9s\n", "", "bare/s", "zael/s", "ratio", "bare CPU", "zael CPU", "ratio", "calls", "p99")
	for _, row := range []struct {
		name          string
		callers, keys int
	}{
		{"one caller", 1, 1}, {"64 callers, 64 keys", 64, 64}, {"64 callers, one key", 64, 1}, {"1000 callers, one key", 1000, 1},
	} {
		p, err := b.pair(ctx, row.callers, row.keys)
		if err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
		fmt.Fprintf(out, "%-34s %9.0f %9.0f %6.2fx %9s %9s %6.2fx %7.3f %9s\n", row.name, p.bare.Rate(), p.zael.Rate(), p.ratio,
			p.bare.CPUPerOp().Round(100*time.Nanosecond), p.zael.CPUPerOp().Round(100*time.Nanosecond), p.cpu, p.calls,
			p.zael.Quantile(0.99).Round(10*time.Microsecond))
	}
	if err := b.writeAlone(ctx, out); err != nil {
		return err
	}
	m, calls, err := b.cascade(ctx, 64)
	if err != nil {
		return fmt.Errorf("cascade: %w", err)
	}
	fmt.Fprintf(out, "%-34s %9s %9.0f %7s %9s %9s %7s %7.3f %9s\n", "64 callers, 64 keys, one parent", "", m.Rate(), "", "",
		m.CPUPerOp().Round(100*time.Nanosecond), "", calls, m.Quantile(0.99).Round(10*time.Microsecond))

	if m, calls, err = b.exhausted(ctx); err != nil {
		return fmt.Errorf("exhausted bucket: %w", err)
	}
	fmt.Fprintf(out, "\nexhausted bucket of 60/min, 8 callers: %.0f refusals a second, %.1f calls a second, %v of CPU each\n\n",
		m.Rate(), calls, m.CPUPerOp().Round(10*time.Nanosecond))

	fmt.Fprintf(out, "%-34s %9s %9s %9s %7s %7s %7s %7s\n", "8 processes, 64 callers, one key", "asked", "admitted", "at most", "calls", "units", "p99.9", "most")
	for _, share := range []float64{0.3, 0.9, 1.5, 5} {
		s, err := b.processes(ctx, share)
		if err != nil {
			return fmt.Errorf("8 processes at %v: %w", share, err)
		}
		fmt.Fprintf(out, "%-34s %9d %9d %9.0f %7.3f %7.3f %7d %7d\n", fmt.Sprintf("  at %.1f times the rate", share),
			s.asked, s.admitted, s.ideal, s.calls, s.units, s.p999, s.most)
	}
	return b.writeKinds(ctx, out)
}
