package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/decimal"
	"github.com/zeroae/zael/internal/loadgen"
	"github.com/zeroae/zael/stores"
)

// A benchCommand has the flags of zael bench.
type benchCommand struct {
	loadgen.Job
	store                *storeFlags
	limits, parentLimits *limitsValue
	consume              amountsValue
	processes            int
	rate                 float64
	unlimited            bool // the limit is the default one
	json                 *bool
}

// Bounds of the flags.
const (
	maxProcesses = 256
	maxCallers   = 10_000
	maxKeys      = 1_000_000
	maxRate      = 1e9
)

func (a *app) bench() *cobra.Command {
	var c benchCommand
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure a store under load, and check what it admits",
		Long: `Bench measures how many acquires a store handles, and checks that it admits no more
than the limits allow.

Each of --processes runs --callers callers. A caller makes one acquire after the
other, each for a key chosen at random. Callers go as fast as the store answers, or,
with --rate, make N acquires a second in all. A late caller then catches up, and the
latency of an acquire counts from when it was due.

Bench prints acquires and refusals a second, their latencies, errors, and what was
admitted compared with the ideal: for each key its burst, and what refilled between
the first and the last acquire. A correct store never admits more. It admits as much
if every key is asked for more than its limits allow, except for what refills at the
very end. On DynamoDB, bench also prints what all calls cost for each admitted
acquire; a refusal by the table counts as one write unit, the least that AWS bills.

With --max-wait, a new caller starts --rate times a second. It makes one acquire, and
waits in line up to --max-wait or leaves after --give-up. Bench then prints how many
callers were served in each second: as many as the limits allow, however many leave.

The default limit never refuses, so that the store itself is measured. With --cascade,
all keys have one parent and take from it too.

Bench makes entities that begin with bench- and a random word, deletes them at the
end, also after Ctrl-C, and touches nothing else. If it is killed with KILL, they
stay. The audit log keeps the deletions. After Ctrl-C, bench prints the results so
far and exits with 130.`,
		Example: `  zael bench --store memory: --duration 1s
  zael bench --processes 4 --limit n=1000/s --duration 2s
  zael bench --processes 4 --rate 3000 --limit n=1000/s --duration 2s
  zael bench --processes 4 --rate 100 --limit n=50/s --max-wait 30s --give-up 500ms --duration 3s
  zael bench --processes 2 --callers 8 --keys 10 --cascade --limit n=100/s --duration 2s --json`,
		Args: cobra.NoArgs,
	}
	c.store = addStore(cmd, time.Second)
	cmd.Flags().Lookup("timeout").Usage = "give up an acquire that takes longer than this"
	c.store.settings = []string{"count_units"}
	c.limits = addLimits(cmd)
	cmd.Flags().Lookup("limit").Usage += " (default n=1000000000/s)"
	c.parentLimits = new(limitsValue)
	c.consume = addAmounts(cmd, "tokens that an acquire takes from a limit; may be repeated (default 1)")
	c.json = addJSON(cmd)
	f := cmd.Flags()
	f.Var(c.parentLimits, "parent-limit", "a limit of the parent; may be repeated (default: those of --limit)")
	f.IntVarP(&c.processes, "processes", "p", 1, "run `N` processes")
	f.IntVar(&c.Callers, "callers", 64, "run `N` callers in each process")
	f.IntVarP(&c.Keys, "keys", "k", 1, "take from `N` entities")
	f.DurationVarP(&c.Duration, "duration", "d", 10*time.Second, "run for this long")
	f.BoolVar(&c.Cascade, "cascade", false, "also take from one parent of all keys")
	f.Float64VarP(&c.rate, "rate", "r", 0, "make `N` acquires a second in all (default: as fast as the store answers)")
	c.addLine(f)
	for _, flag := range []string{"parent-limit", "processes", "callers", "keys", "duration", "rate", "max-wait", "give-up"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		if err := c.checkLine(cmd.Flags()); err != nil {
			return err
		}
		url, err := c.prepare(a)
		if err != nil {
			return err
		}
		return a.runBench(cmd.Context(), &c, url)
	})
	return cmd
}

// prepare validates the flags, completes the job and returns the store's URL.
func (c *benchCommand) prepare(a *app) (url string, err error) {
	for _, n := range []struct {
		flag      string
		have, max int
	}{
		{"--processes", c.processes, maxProcesses}, {"--callers", c.Callers, maxCallers}, {"--keys", c.Keys, maxKeys},
	} {
		if n.have < 1 || n.have > n.max {
			return "", usagef("%s %d is not 1 to %d", n.flag, n.have, n.max)
		}
	}
	switch {
	case !(c.rate >= 0 && c.rate <= maxRate): // false for NaN
		return "", usagef("--rate %v is not 0 to %.0f", c.rate, maxRate)
	case c.Duration <= 0:
		return "", usagef("--duration %v is not above 0", c.Duration)
	case len(*c.parentLimits) > 0 && !c.Cascade:
		return "", usagef("--parent-limit has no effect without --cascade")
	}
	if c.unlimited = len(*c.limits) == 0; c.unlimited {
		*c.limits = limitsValue{zael.PerSecond("n", 1_000_000_000)}
	}
	c.Limits = *c.limits
	if len(*c.parentLimits) > 0 {
		c.ParentLimits = *c.parentLimits
	}
	if c.Consume, err = c.consume.amounts(*c.limits, *c.parentLimits, false); err != nil {
		return "", err
	}
	for _, l := range c.Limits {
		if _, named := c.Consume[l.Name]; !named {
			c.Consume[l.Name] = 1 // for the report too
		}
	}
	if !slices.ContainsFunc(c.Limits, func(l zael.Limit) bool { return c.Consume[l.Name] > 0 }) {
		return "", usagef("--consume takes nothing from any limit")
	}
	c.Resource = "bench"
	c.Prefix = "bench-" + strings.ToLower(rand.Text()[:8])
	c.Timeout = c.store.timeout
	c.Rate = c.rate / float64(c.processes)
	if c.MaxWait > 0 {
		c.Callers = 0 // callers come at the rate instead, each for one call
	}
	if url, err = a.storeURL(c.store); err != nil {
		return "", err
	}
	if c.processes > 1 && strings.HasPrefix(url, "memory:") {
		return "", usagef("processes cannot share memory: use --processes 1, or another --store than %s", url)
	}
	return url, nil
}

func (a *app) runBench(ctx context.Context, c *benchCommand, url string) error {
	store, err := a.open(ctx, c.store)
	if err != nil {
		return err
	}
	last := context.WithoutCancel(ctx)
	defer func() { _ = store.Close(last) }()
	l, err := zael.New(store, &zael.Config{Principal: a.who(c.store)})
	if err != nil {
		return err
	}
	line := a.newLine()
	defer line.clear()
	line.write("preparing")
	err = loadgen.Setup(ctx, l, &c.Job)
	var tally *loadgen.Tally
	if err == nil {
		progress := benchProgress(line, c.Duration)
		if c.processes == 1 {
			tally, err = loadgen.Run(ctx, store, &c.Job, progress)
		} else {
			tally, err = loadgen.RunProcesses(ctx, c.processes, worker(url), &c.Job, progress)
		}
	}
	line.write("cleaning up")
	if left := loadgen.Cleanup(last, l, &c.Job); left != nil {
		err = errors.Join(err, fmt.Errorf("entities that begin with %s could not be deleted: %w", c.Prefix, left))
	}
	line.clear()
	if err != nil {
		return ofProcess(err)
	}
	report, err := c.report(tally, url)
	if err != nil {
		return err
	}
	if *c.json {
		err = a.printJSON(report)
	} else {
		a.printBench(c, report)
	}
	return errors.Join(err, ctx.Err())
}

// worker returns the command of another process.
func worker(url string) func(context.Context) *exec.Cmd {
	return func(ctx context.Context) *exec.Cmd {
		self, err := os.Executable()
		if err != nil {
			self = os.Args[0]
		}
		cmd := exec.CommandContext(ctx, self, "bench-worker")
		cmd.Env = append(os.Environ(), "ZAEL_STORE="+url) // which may have a password: others see a command line
		return cmd
	}
}

func (a *app) benchWorker() *cobra.Command {
	cmd := &cobra.Command{
		Use:    "bench-worker",
		Short:  "A process of zael bench",
		Hidden: true,
		Args:   cobra.NoArgs,
	}
	store := addStore(cmd, storeTimeout)
	store.settings = []string{"count_units"}
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		opened, err := a.open(cmd.Context(), store)
		if err != nil {
			return err
		}
		defer func() { _ = opened.Close(context.WithoutCancel(cmd.Context())) }()
		return loadgen.Work(cmd.Context(), opened, a.in, a.stdout)
	})
	return cmd
}

// ofProcess returns the error of a process with its exit code.
func ofProcess(err error) error {
	var p *loadgen.ProcessError
	var exit *exec.ExitError
	if !errors.As(err, &p) || !errors.As(err, &exit) {
		return err
	}
	code := exitFailed
	if exit.ExitCode() == exitUnavailable {
		code = exitUnavailable
	}
	return &exitError{code: code, cause: errors.New(strings.ReplaceAll(err.Error(), ": zael: ", ": "))}
}

// benchProgress shows the progress on a terminal.
func benchProgress(line *line, duration time.Duration) func(loadgen.Counts) {
	begin := time.Now()
	return func(c loadgen.Counts) {
		gone := time.Since(begin)
		text := fmt.Sprintf("%v of %v  %s acquires/s", gone.Round(time.Second), duration, perSecond(c.Admitted, gone))
		if c.Refused > 0 {
			text += fmt.Sprintf("  %s refused/s", perSecond(c.Refused, gone))
		}
		if c.Failed > 0 {
			text += fmt.Sprintf("  %s errors", number(c.Failed))
		}
		line.write(text)
	}
}

func perSecond(n int64, d time.Duration) string { return number(int64(rate(n, d) + 0.5)) }

func rate(n int64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return decimal.Round(float64(n)/d.Seconds(), 2)
}

// A benchReport has the results as JSON.
type benchReport struct {
	Store           string           `json:"store"`
	Processes       int              `json:"processes"`
	Callers         int              `json:"callers,omitempty"` // in each process
	Keys            int              `json:"keys"`
	DurationSeconds float64          `json:"duration_seconds"`     // from the first decision to the last
	Rate            float64          `json:"rate_per_s,omitempty"` // asked for; 0: as fast as the store answers
	AcquiresPerS    float64          `json:"acquires_per_s"`       // admitted
	RefusedPerS     float64          `json:"refused_per_s"`
	P50             float64          `json:"p50_ms"` // of admitted acquires
	P99             float64          `json:"p99_ms"`
	P999            float64          `json:"p999_ms"`
	Max             float64          `json:"max_ms"`
	RefusedP50      float64          `json:"refused_p50_ms"`
	RefusedP99      float64          `json:"refused_p99_ms"`
	RefusedP999     float64          `json:"refused_p999_ms"`
	RefusedMax      float64          `json:"refused_max_ms"`
	Errors          int64            `json:"errors"`
	ErrorsByKind    map[string]int64 `json:"errors_by_kind"`
	Admitted        int64            `json:"admitted"` // acquires
	Ideal           int64            `json:"ideal"`    // the most that the limits allow
	Refused         int64            `json:"refused"`
	AdmittedAmounts zael.Amounts     `json:"admitted_amounts"` // tokens by limit
	IdealAmounts    zael.Amounts     `json:"ideal_amounts"`
	*benchCost                       // nil if the store does not count
	*benchLine                       // nil without --max-wait
	elapsed         time.Duration
	latency, denial loadgen.Latency
}

// A benchCost has the cost of all calls of DynamoDB, refusals included, for each
// admitted acquire.
type benchCost struct {
	CallsPerAcquire      float64 `json:"calls_per_acquire"`
	WriteUnitsPerAcquire float64 `json:"write_units_per_acquire"`
	ReadUnitsPerAcquire  float64 `json:"read_units_per_acquire"`
}

func costOf(t *loadgen.Tally) *benchCost {
	n := float64(t.Admitted)
	if t.Cost == nil || n == 0 {
		return nil
	}
	each := func(sum float64) float64 { return decimal.Round(sum/n, 4) }
	return &benchCost{each(float64(t.Cost.Calls)), each(t.Cost.WriteUnits), each(t.Cost.ReadUnits)}
}

func (c *benchCommand) report(t *loadgen.Tally, url string) (*benchReport, error) {
	ideal, err := c.Ideal(t)
	if err != nil {
		return nil, err
	}
	r := &benchReport{
		Store: stores.Redact(url), Processes: c.processes, Callers: c.Callers, Keys: c.Keys,
		DurationSeconds: decimal.Seconds(t.Elapsed()), Rate: c.rate,
		AcquiresPerS: rate(t.Admitted, t.Elapsed()), RefusedPerS: rate(t.Refused, t.Elapsed()),
		Errors: t.Failed, ErrorsByKind: t.Errors,
		Admitted: t.Admitted, Ideal: ideal.Acquires, Refused: t.Refused,
		AdmittedAmounts: zael.Amounts{}, IdealAmounts: ideal.Tokens,
		benchCost: costOf(t), benchLine: c.lineReport(t),
		elapsed: t.Elapsed(), latency: t.Latency(), denial: t.RefusedLatency(),
	}
	for name := range ideal.Tokens {
		r.AdmittedAmounts[name] = t.Admitted * c.Consume[name]
	}
	r.P50, r.P99, r.P999, r.Max = ms(r.latency.P50), ms(r.latency.P99), ms(r.latency.P999), ms(r.latency.Max)
	r.RefusedP50, r.RefusedP99, r.RefusedP999, r.RefusedMax = ms(r.denial.P50), ms(r.denial.P99), ms(r.denial.P999), ms(r.denial.Max)
	return r, nil
}

func ms(d time.Duration) float64 { return decimal.Milliseconds(d) }

func (a *app) printBench(c *benchCommand, r *benchReport) {
	fmt.Fprintf(a.out, "%s, %s", r.Store, count(r.Processes, "process", "processes"))
	if r.Callers > 0 {
		fmt.Fprintf(a.out, " with %s", count(r.Callers, "caller", "callers"))
	}
	fmt.Fprintf(a.out, ", %s, ", count(r.Keys, "key", "keys"))
	if r.benchLine != nil {
		fmt.Fprintf(a.out, "%g callers a second, %s, ", r.Rate, r.patience())
	} else if r.Rate > 0 {
		fmt.Fprintf(a.out, "%g asked a second, ", r.Rate)
	}
	fmt.Fprintf(a.out, "%.1f s\n\n", r.DurationSeconds)
	t := newTable("", ">a second", ">p50", ">p99", ">p99.9", ">max")
	row := func(name string, n int64, l loadgen.Latency) {
		cells := []string{name, perSecond(n, r.elapsed), "", "", "", ""}
		if l.Max > 0 {
			cells = []string{name, perSecond(n, r.elapsed), short(l.P50), short(l.P99), short(l.P999), short(l.Max)}
		}
		t.add(cells...)
	}
	row("acquires", r.Admitted, r.latency)
	row("refused", r.Refused, r.denial)
	if r.benchLine != nil {
		row("left", r.Left, loadgen.Latency{})
	}
	t.write(a.out, "")
	fmt.Fprintf(a.out, "errors    %s", number(r.Errors))
	separator := ": "
	for _, kind := range slices.Sorted(maps.Keys(r.ErrorsByKind)) {
		fmt.Fprintf(a.out, "%s%s %s", separator, number(r.ErrorsByKind[kind]), printable(kind))
		separator = ", "
	}
	fmt.Fprintln(a.out)
	if r.benchCost != nil {
		fmt.Fprintf(a.out, "for each acquire %.3f calls of DynamoDB, %.3f write units, %.3f read units\n",
			r.CallsPerAcquire, r.WriteUnitsPerAcquire, r.ReadUnitsPerAcquire)
	}
	a.printSeconds(r.benchLine)
	if c.unlimited {
		return
	}
	fmt.Fprintln(a.out)
	t = newTable("", ">admitted", ">ideal", ">share")
	t.add("acquires", number(r.Admitted), number(r.Ideal), share(r.Admitted, r.Ideal))
	for _, l := range c.Limits {
		if ideal, ok := r.IdealAmounts[l.Name]; ok {
			t.add(l.String(), number(r.AdmittedAmounts[l.Name]), number(ideal), share(r.AdmittedAmounts[l.Name], ideal))
		}
	}
	t.write(a.out, "")
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(int64(n)) + " " + many
}

// share returns part of whole in percent. Only all is 100.0 %.
func share(part, whole int64) string {
	if whole == 0 {
		return ""
	}
	p := 100 * float64(part) / float64(whole)
	if text := percent(p); part == whole || text != percent(100) {
		return text
	}
	return "99.9 %"
}

// short returns a duration with about three digits.
func short(d time.Duration) string {
	switch {
	case d < 10*time.Microsecond:
		return fmt.Sprintf("%.2f µs", float64(d)/1e3)
	case d < time.Millisecond:
		return fmt.Sprintf("%.0f µs", float64(d)/1e3)
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%.1f ms", ms(d))
	}
	return fmt.Sprintf("%.0f ms", ms(d))
}
