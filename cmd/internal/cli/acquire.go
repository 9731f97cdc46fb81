package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/decimal"
)

// An acquireCommand is the flags of zael acquire.
type acquireCommand struct {
	*requestFlags
	store               *storeFlags
	mode                failureMode
	maxWait             time.Duration
	refused, unanswered int // exit codes
	json, quiet         *bool
}

func (a *app) acquire() *cobra.Command {
	var c acquireCommand
	cmd := &cobra.Command{
		Use:   "acquire --entity ID --resource NAME [flags] [-- COMMAND [ARG...]]",
		Short: "Take from limits, or run a command under them",
		Long: `Acquire takes from all limits of a bucket at once, or from none. A limit that no
--consume names takes 1. Without a command the amounts are taken for good.

With --max-wait it stands in line for tokens that will have come back by then:
first come, first served, across all processes.

With a command it takes first and then runs the command. A command that learns
what it really used says so by lines NAME=N in the file $ZAEL_SETTLE; the last
line of a name counts. What it took and did not use is then given back, and what
it used beyond is charged, into debt if need be. If the command fails, by an exit
code other than 0 or a signal, and has said nothing, everything is given back.

TERM, HUP, INT, QUIT, USR1 and USR2 are passed on to the command; INT and QUIT not
where zael is in the foreground of a terminal, as the terminal sends them to the
command itself. A zael that is killed with KILL keeps what it took.

Exit codes: those of the command; 128+N if signal N ended it; 127 if it is not
found and 126 if it cannot be run, before anything is taken. If it was not run:
3 refused by a limit, 4 the store is unavailable, 1 failed, 2 wrong usage. Zael
then writes a line that begins with "zael: " to standard error. A command that
uses 3 or 4 for something of its own is told apart by giving zael other codes
with --refused-exit-code and --unavailable-exit-code.

The JSON of a refusal is the body of an HTTP answer 429. With a command, JSON is
written for a refusal only.`,
		Example: `  zael acquire --entity key-1 --resource gpt-4 \
    --limit rpm=100/min --limit tpm=10000/min --consume rpm=1 --consume tpm=500

  # Wait in line, then run; what curl did not get is given back.
  zael acquire --entity nightly --resource crawl --limit n=10/min --max-wait 30s -- echo fetching

  # Take an estimate, settle to the truth.
  zael acquire --entity key-1 --resource gpt-4 --limit tpm=10000/min --consume tpm=500 \
    -- sh -c 'echo tpm=123 >>"$ZAEL_SETTLE"'`,
		Args: commandBehindDash,
	}
	c.requestFlags = addRequest(cmd, "what to take of a limit; may be repeated (default 1 of each --limit)")
	c.store = addStore(cmd, time.Second)
	c.json = addJSON(cmd)
	f := cmd.Flags()
	c.quiet = f.BoolP("quiet", "q", false, "print nothing when it is admitted")
	f.DurationVar(&c.maxWait, "max-wait", 0, "wait in line so long, such as 30s")
	f.Var(&c.mode, "failure-mode", "what to do if the store is unavailable: closed refuses, open admits without charge (default closed)")
	f.IntVar(&c.refused, "refused-exit-code", exitRefused, "exit code `N` if a limit refuses")
	f.IntVar(&c.unanswered, "unavailable-exit-code", exitUnavailable, "exit code `N` if the store is unavailable")
	_ = cmd.RegisterFlagCompletionFunc("failure-mode", cobra.FixedCompletions([]string{"closed", "open"}, cobra.ShellCompDirectiveNoFileComp))
	for _, flag := range []string{"max-wait", "refused-exit-code", "unavailable-exit-code"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	cmd.RunE = a.run(func(cmd *cobra.Command, args []string) error {
		return c.code(a.runAcquire(cmd.Context(), &c, args))
	})
	return cmd
}

// commandBehindDash keeps a forgotten flag from being run as a command.
func commandBehindDash(cmd *cobra.Command, args []string) error {
	switch dash := cmd.ArgsLenAtDash(); {
	case dash < 0 && len(args) > 0, dash > 0:
		return fmt.Errorf("unexpected argument %q: a command stands behind --", args[0])
	case dash == 0 && (len(args) == 0 || args[0] == ""):
		return errors.New("no command behind --")
	}
	return nil
}

// check tells what is wrong with the flags.
func (c *acquireCommand) check() error {
	if err := c.requestFlags.check(); err != nil {
		return err
	}
	switch {
	case c.maxWait < 0:
		return usagef("--max-wait %v is negative", c.maxWait)
	}
	for flag, code := range map[string]int{"--refused-exit-code": c.refused, "--unavailable-exit-code": c.unanswered} {
		if code < 0 || code > 255 {
			return usagef("%s %d is not 0 to 255", flag, code)
		}
	}
	return nil
}

// code gives an error the exit code that the flags ask for.
func (c *acquireCommand) code(err error) error {
	var own *exitError
	var exceeded *zael.ExceededError
	switch {
	case errors.As(err, &own):
		return err
	case errors.As(err, &exceeded):
		return &exitError{code: c.refused, cause: err, detail: statuses(exceeded)}
	case errors.Is(err, zael.ErrUnavailable):
		return &exitError{code: c.unanswered, cause: err}
	}
	return err
}

func (a *app) runAcquire(ctx context.Context, c *acquireCommand, args []string) error {
	if err := c.check(); err != nil {
		return err
	}
	amounts, err := c.consume.amounts(*c.limits, *c.parentLimits, c.stored)
	if err != nil {
		return err
	}
	var child *child
	if len(args) > 0 {
		if child, err = a.newChild(args); err != nil {
			return err
		}
		defer child.close()
	}
	var store zael.Store
	switch opened, err := a.open(ctx, c.store); {
	case err == nil:
		store = opened
		defer func() { _ = opened.Close(context.WithoutCancel(ctx)) }()
	case c.mode == failureMode(zael.FailOpen) && errors.Is(err, zael.ErrUnavailable):
		store = downStore{cause: err}
	default:
		return err
	}
	l, err := zael.New(store, &zael.Config{Timeout: c.store.timeout, FailureMode: zael.FailureMode(c.mode)})
	if err != nil {
		return err
	}
	lease, err := l.Reserve(ctx, zael.Request{
		Entity: c.entity, Resource: c.resource, Limits: *c.limits, ParentLimits: c.parents(), Consume: amounts,
		Cascade: c.cascade, UseStoredLimits: c.stored, MaxWait: c.maxWait,
	})
	if err != nil {
		if exceeded := (*zael.ExceededError)(nil); *c.json && errors.As(err, &exceeded) {
			return errors.Join(a.printJSON(exceeded), err)
		}
		return c.ofRequest(err)
	}
	defer lease.Rollback(ctx)
	a.warn(c, l, lease)
	if err := a.standInLine(ctx, lease.Delay()); err != nil {
		return err
	}
	if child != nil {
		return a.runUnder(ctx, lease, child)
	}
	if err := lease.Commit(ctx); err != nil {
		return err
	}
	return a.printLease(ctx, c, l, lease)
}

// warn says what the caller should know besides.
func (a *app) warn(c *acquireCommand, l *zael.Limiter, lease *zael.Lease) {
	if lease.Degraded() {
		fmt.Fprintln(a.err, "zael: warning: the store is unavailable: admitted without charge")
		return
	}
	if l.Stats().UnknownNames == 0 {
		return
	}
	have := lease.Consumed()
	for _, name := range slices.Sorted(maps.Keys(c.consume)) {
		if _, ok := have[name]; !ok {
			fmt.Fprintf(a.err, "zael: warning: no limit %q of %s on %s is stored: nothing was taken of it\n", name, c.entity, c.resource)
		}
	}
}

// standInLine waits, and shows on a terminal for how long.
func (a *app) standInLine(ctx context.Context, delay time.Duration) error {
	if delay == 0 {
		return ctx.Err()
	}
	end := time.NewTimer(delay)
	defer end.Stop()
	begin := time.Now()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	line := a.newLine()
	defer line.clear()
	for {
		select {
		case <-end.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			line.write(fmt.Sprintf("waiting in line, %v left", (delay - time.Since(begin)).Round(time.Second)))
		}
	}
}

// A leaseReport is what was taken, as JSON.
type leaseReport struct {
	Admitted      bool         `json:"admitted"`
	Degraded      bool         `json:"degraded"` // the store was unavailable, nothing was charged
	Entity        string       `json:"entity_id"`
	Resource      string       `json:"resource"`
	Consumed      zael.Amounts `json:"consumed"`
	Available     zael.Amounts `json:"available,omitempty"` // just after; missing if it could not be read
	WaitedSeconds float64      `json:"waited_seconds"`
}

func (a *app) printLease(ctx context.Context, c *acquireCommand, l *zael.Limiter, lease *zael.Lease) error {
	if *c.quiet && !*c.json {
		return nil
	}
	r := leaseReport{
		Admitted: true, Degraded: lease.Degraded(), Entity: c.entity, Resource: c.resource,
		Consumed: lease.Consumed(), WaitedSeconds: decimal.Seconds(lease.Delay()),
	}
	if r.Degraded {
		r.Consumed = zael.Amounts{}
	} else if left, err := l.Available(ctx, c.query()); err == nil {
		r.Available = left
	}
	if *c.json {
		return a.printJSON(r)
	}
	took := "took nothing"
	if maps.DeleteFunc(r.Consumed, func(_ string, n int64) bool { return n == 0 }); len(r.Consumed) > 0 {
		took = "took " + r.Consumed.String()
	}
	fmt.Fprintf(a.out, "%s for %s on %s", took, c.entity, c.resource)
	if d := lease.Delay(); d > 0 {
		fmt.Fprintf(a.out, " after %v in line", roundUp(d))
	}
	if len(r.Available) > 0 {
		fmt.Fprintf(a.out, "; left %s", r.Available)
	}
	fmt.Fprintln(a.out)
	return nil
}

// statuses are all limits that a refused request asked, if there are several.
func statuses(e *zael.ExceededError) string {
	if len(e.Statuses()) < 2 {
		return ""
	}
	t := newTable("entity", "limit", ">requested", ">available", "")
	for _, s := range e.Statuses() {
		refused := ""
		if s.Exceeded {
			refused = "refused"
		}
		t.add(s.Entity, s.Limit.String(), number(s.Requested), number(s.Available), refused)
	}
	var text strings.Builder
	w := bufio.NewWriter(&text)
	t.write(w, "  ")
	_ = w.Flush()
	return text.String()
}

// A failureMode is the flag --failure-mode.
type failureMode zael.FailureMode

// Set reads the flag.
func (m *failureMode) Set(text string) error {
	for _, known := range []zael.FailureMode{zael.FailClosed, zael.FailOpen} {
		if text == known.String() {
			*m = failureMode(known)
			return nil
		}
	}
	return errors.New("is neither closed nor open")
}

// String is for pflag, which shows it as the default.
func (m *failureMode) String() string {
	if *m == 0 {
		return ""
	}
	return zael.FailureMode(*m).String()
}

// Type is what stands after the flag in the help.
func (m *failureMode) Type() string { return "MODE" }
