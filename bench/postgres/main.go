// Command postgres compares zael on PostgreSQL with a bare UPDATE of one row on the same
// server, and prints a table. It starts the server.
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

	"github.com/zeroae/zael/internal/testrig/pgtest"
	"github.com/zeroae/zael/postgresstore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "postgres:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("postgres", flag.ContinueOnError)
	b := &bench{}
	flags.IntVar(&b.rounds, "rounds", 3, "how often each pair is measured; the table has the median")
	flags.DurationVar(&b.d, "time", time.Second, "how long each round takes")
	flags.StringVar(&b.url, "url", "", "`URL` of an empty database (default: start a server)")
	flags.IntVar(&b.pool, "pool", 16, "connections of either side")
	flags.IntVar(&b.buckets, "buckets", 100_000, "how many buckets are made to weigh them")
	bin := flags.String("bin", "", "`DIR` with the programs of another PostgreSQL to start")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if b.rounds < 1 || b.d <= 0 || b.pool < 2 || b.buckets < 1 {
		return fmt.Errorf("-rounds %d, -time %v, -pool %d, -buckets %d: want 1 or more, a time, 2 or more, 1 or more", b.rounds, b.d, b.pool, b.buckets)
	}
	if b.url == "" {
		s, err := pgtest.New(ctx, pgtest.Options{Bin: *bin, Durable: true}, os.Stderr)
		if err != nil {
			return err
		}
		defer s.Close()
		b.url = s.URL("postgres")
	}
	version, err := b.begin(ctx)
	if err != nil {
		return err
	}
	defer b.bare.Close()
	fmt.Fprintf(out, "%s %s/%s, %d CPUs; PostgreSQL %s; two limits a bucket, %d connections; median of %d rounds of %v\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), version, b.pool, b.rounds, b.d)
	if err := b.weigh(ctx, out); err != nil { // first, into empty tables
		return err
	}
	for _, mode := range []struct {
		name       string
		durability postgresstore.Durability
	}{{"on", postgresstore.DurabilityOn}, {"off", postgresstore.DurabilityOff}} {
		fmt.Fprintf(out, "\n%-38s %9s %9s %7s %9s %9s %7s %9s %9s\n", "synchronous_commit "+mode.name, "bare/s", "zael/s", "ratio", "bare CPU", "zael CPU", "calls", "p50", "p99")
		if err := b.write(ctx, out, mode.durability); err != nil {
			return err
		}
	}
	return nil
}
