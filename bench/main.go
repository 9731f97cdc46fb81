// Command bench compares zael with other limiters in one process and prints a table.
// See README.md.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"slices"
	"testing"

	"github.com/zeroae/zael/bench/internal/load"
	"github.com/zeroae/zael/bench/internal/peers"
	"github.com/zeroae/zael/bench/internal/suite"
	"github.com/zeroae/zael/bench/internal/table"
)

const heapEntities = 1_000_000 // whose memory -heap measures

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	testing.Init() // for test.benchtime
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	rounds := flags.Int("rounds", 5, "how often each benchmark is run; the table has the median")
	benchtime := flags.String("benchtime", "200ms", "how long each run takes, as in go test")
	filter := flags.String("run", "", "run only benchmarks whose group/name matches this regular `expression`")
	best := flags.Bool("best", false, "show the fastest round instead of the median, for a machine that does other work")
	heap := flags.Bool("heap", false, "also measure the heap that a million entities take; needs some seconds and 2 GB")
	if err := flags.Parse(args); err != nil {
		return err
	}
	match, err := regexp.Compile(*filter)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	if *rounds < 1 {
		return errors.New("-rounds must be 1 or more")
	}
	if err := flag.Set("test.benchtime", *benchtime); err != nil {
		return fmt.Errorf("-benchtime: %w", err)
	}

	statistic, which := table.Statistic(table.Median), "median"
	if *best {
		statistic, which = table.Best, "best"
	}
	fmt.Fprintf(out, "%s %s/%s, %d CPUs; %s of %d rounds of %s\n\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), which, *rounds, *benchtime)
	table.WriteHeader(out)
	var loads load.Loads
	for _, g := range suite.All(&loads) {
		g.Benchmarks = slices.DeleteFunc(g.Benchmarks, func(b suite.Benchmark) bool { return !match.MatchString(g.Name + "/" + b.Name) })
		if len(g.Benchmarks) == 0 {
			continue
		}
		rows, err := table.Measure(g, *rounds)
		if err != nil {
			return err
		}
		table.Write(out, g.Name, rows, statistic)
	}
	if !*heap {
		return nil
	}
	fmt.Fprintf(out, "\nheap of %d live entities with two limits each, keys included\n", heapEntities)
	for _, c := range peers.Contenders() {
		if c.Limits != 2 || !match.MatchString("heap/"+c.Name) {
			continue
		}
		n, err := suite.Heap(&c, heapEntities)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "  %-36s %10.0f bytes an entity\n", c.Name, n)
	}
	return nil
}
