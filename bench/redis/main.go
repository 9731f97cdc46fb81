// Command redis compares zael on Valkey or Redis with bare HINCRBYs and with
// github.com/go-redis/redis_rate on the same server, and prints a table. It starts the
// server.
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
	"slices"
	"time"

	"github.com/zeroae/zael/internal/testrig/redistest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "redis:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("redis", flag.ContinueOnError)
	b := &bench{}
	var kind string
	var buckets int
	flags.IntVar(&b.rounds, "rounds", 3, "how often each row is measured, by turns; the table has the median")
	flags.DurationVar(&b.d, "time", time.Second, "how long each round takes")
	flags.StringVar(&kind, "server", string(redistest.Valkey), "valkey or redis")
	flags.StringVar(&b.only, "row", "", "only the rows whose names have this in them")
	flags.IntVar(&buckets, "buckets", 100_000, "how many buckets are made to see how large they are; 0: none")
	fsync := flags.String("appendfsync", "", "always or everysec: with a log of all writes")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if b.rounds < 1 || b.d <= 0 {
		return fmt.Errorf("-rounds %d, -time %v: want 1 or more, and a time", b.rounds, b.d)
	}
	o := redistest.Options{Kind: redistest.Kind(kind)}
	if *fsync != "" {
		o.Args = []string{"--appendonly", "yes", "--appendfsync", *fsync}
	}
	server, err := redistest.Run(ctx, o, os.Stderr)
	if err != nil {
		return err
	}
	defer server.Close()
	b.address = server.Address()
	if err := b.open(ctx); err != nil {
		return err
	}
	defer b.close(ctx)
	fmt.Fprintf(out, "%s %s/%s, %d CPUs; %s; median of %d rounds of %v\n\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), kind, b.rounds, b.d)
	if err := b.write(ctx, out); err != nil || buckets == 0 {
		return err
	}
	return b.sizes(ctx, out, buckets)
}

// write prints the table of rates. All rows of a group are measured by turns, and compared with
// the first.
func (b *bench) write(ctx context.Context, out io.Writer) error {
	fmt.Fprintf(out, "%-44s %11s %8s %9s %10s %10s %10s\n", "", "rate/s", "to first", "server", "client CPU", "p50", "p99")
	for _, group := range b.groups() {
		all := make([][]measure, len(group))
		for range b.rounds {
			for i, row := range group {
				if !b.picks(row.name) {
					continue
				}
				m, err := b.measure(ctx, row)
				if err != nil {
					return fmt.Errorf("%s: %w", row.name, err)
				}
				all[i] = append(all[i], m)
			}
		}
		first := 0.
		for i, row := range group {
			if len(all[i]) == 0 {
				continue
			}
			slices.SortFunc(all[i], func(x, y measure) int { return int(x.rate - y.rate) })
			m := all[i][len(all[i])/2]
			if first == 0 {
				first = m.rate
			}
			fmt.Fprintf(out, "%-44s %11.0f %8.2f %9s %10s %10s %10s  %s\n", row.name, m.rate, m.rate/first, m.server.Round(10*time.Nanosecond),
				m.client.Round(100*time.Nanosecond), m.p50.Round(time.Microsecond), m.p99.Round(time.Microsecond), m.note)
		}
		fmt.Fprintln(out)
	}
	return nil
}
