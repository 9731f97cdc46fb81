// Command bench measures zael beside other limiters of one process and prints
// one table. See README.md.
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
	"github.com/zeroae/zael/bench/internal/rows"
	"github.com/zeroae/zael/bench/internal/table"
)

const entities = 1_000_000 // that -heap counts

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	testing.Init() // for test.benchtime
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	rounds := flags.Int("rounds", 5, "how often each row is measured; the median counts")
	benchtime := flags.String("benchtime", "200ms", "how long each time, as in go test")
	filter := flags.String("run", "", "only rows whose group/name matches this regular `expression`")
	best := flags.Bool("best", false, "let the fastest round count, not the median: for a machine that does other work too")
	heap := flags.Bool("heap", false, "also count the heap that a million entities take; needs some seconds and 2 GB")
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

	pick, which := table.Pick(table.Median), "median"
	if *best {
		pick, which = table.Best, "best"
	}
	fmt.Fprintf(out, "%s %s/%s, %d CPUs; %s of %d rounds of %s\n\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), which, *rounds, *benchtime)
	table.Head(out)
	var loads load.Loads
	for _, g := range rows.All(&loads) {
		g.Rows = slices.DeleteFunc(g.Rows, func(r rows.Row) bool { return !match.MatchString(g.Name + "/" + r.Name) })
		if len(g.Rows) == 0 {
			continue
		}
		lines, err := table.Measure(g, *rounds)
		if err != nil {
			return err
		}
		table.Write(out, g.Name, lines, pick)
	}
	if !*heap {
		return nil
	}
	fmt.Fprintf(out, "\nheap of %d live entities with two limits each, their keys included\n", entities)
	for _, w := range peers.Ways() {
		if w.Limits != 2 || !match.MatchString("heap/"+w.Name) {
			continue
		}
		n, err := rows.Heap(&w, entities)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "  %-36s %10.0f bytes an entity\n", w.Name, n)
	}
	return nil
}
