package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/decimal"
)

// An acquireCommand has the flags of zael acquire.
type acquireCommand struct {
	*requestFlags
	store                *storeFlags
	mode                 failureMode
	maxWait              time.Duration
	refused, unavailable int // exit codes
	json, quiet          *bool
}

func (a *app) acquire() *cobra.Command {
	var c acquireCommand
	cmd := &cobra.Command{
		Use:   "acquire --entity ID --resource NAME [flags] [-- COMMAND [ARG...]]",
		Short: "Take tokens from limits, or run a command under limits",
		Long: `Acquire takes tokens from all limits of an entity on a resource, or from none. A
limit that --consume does not name gives 1 token; slots that it does not name give none.

Without a command, the tokens are taken for good.

With a command, acquire takes the tokens and then runs the command. A command that
knows what it really used appends lines NAME=N to the file named by $ZAEL_SETTLE; the
last line of each name counts. Tokens that it did not use are then given back, and
tokens that it used beyond those taken are charged, into debt if necessary. If a
command fails, by an exit code other than 0 or a signal, and has written no such line,
all tokens are given back.

With --max-wait, acquire waits in line for tokens that refill within that time; it is
refused as soon as it is certain that they will not. Callers of all processes are served
nearly in the order in which they came. If it is interrupted while it waits, it has
taken nothing.

The signals TERM, HUP, INT, QUIT, USR1 and USR2 are passed on to the command, except
INT and QUIT in the foreground of a terminal, which sends them to the command
itself. If zael is killed with KILL, the tokens stay taken.

Exit codes: that of the command; 128+N if signal N ended it; 127 if the command is
not found and 126 if it cannot be run, before anything is taken. If the command was
not run: 3 refused by a limit or a switch, 4 the store is unavailable, 1 failed,
2 wrong usage; zael then writes a line that begins with "zael: " to standard error. For
commands that use 3 or 4 themselves, choose other codes with --refused-exit-code and
--unavailable-exit-code.

The JSON of a refusal is the body of an HTTP response with status 429, or 403 if a
switch refuses (see 'zael disable'). With a command, JSON is printed only for a refusal.`,
		Example: `  zael acquire --entity key-1 --resource gpt-4 \
    --limit rpm=100/min --limit tpm=10000/min --consume rpm=1 --consume tpm=500

  # Wait in line for up to 30 s, then run a command.
  zael acquire --entity nightly --resource crawl --limit n=10/min --max-wait 30s -- echo fetching

  # Take an estimate, then settle to what was used.
  zael acquire --entity key-1 --resource gpt-4 --limit tpm=10000/min --consume tpm=500 \
    -- sh -c 'echo tpm=123 >>"$ZAEL_SETTLE"'`,
		Args: commandAfterDashes,
	}
	c.requestFlags = addRequest(cmd, "tokens to take from a limit; may be repeated (default 1 from each limit)")
	c.store = addServed(cmd, time.Second)
	c.json = addJSON(cmd)
	f := cmd.Flags()
	c.quiet = f.BoolP("quiet", "q", false, "print nothing if admitted")
	f.DurationVar(&c.maxWait, "max-wait", 0, "wait in line up to this long, such as 30s")
	f.Var(&c.mode, "failure-mode", "what to do if the store is unavailable: closed refuses, open admits without charging (default closed)")
	f.IntVar(&c.refused, "refused-exit-code", exitRefused, "exit code `N` if a limit refuses")
	f.IntVar(&c.unavailable, "unavailable-exit-code", exitUnavailable, "exit code `N` if the store is unavailable")
	_ = cmd.RegisterFlagCompletionFunc("failure-mode", cobra.FixedCompletions([]string{"closed", "open"}, cobra.ShellCompDirectiveNoFileComp))
	for _, flag := range []string{"max-wait", "refused-exit-code", "unavailable-exit-code"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	cmd.RunE = a.run(func(cmd *cobra.Command, args []string) error {
		return c.code(a.runAcquire(cmd.Context(), &c, args))
	})
	return cmd
}

// commandAfterDashes checks that a command comes after --, so that the value of a
// misspelt flag is not run.
func commandAfterDashes(cmd *cobra.Command, args []string) error {
	switch dash := cmd.ArgsLenAtDash(); {
	case dash < 0 && len(args) > 0, dash > 0:
		return fmt.Errorf("unexpected argument %q: put a command after --", args[0])
	case dash == 0 && (len(args) == 0 || args[0] == ""):
		return errors.New("no command after --")
	}
	return nil
}

// check validates the flags.
func (c *acquireCommand) check() error {
	if err := c.requestFlags.check(); err != nil {
		return err
	}
	switch {
	case c.maxWait < 0:
		return usagef("--max-wait %v is negative", c.maxWait)
	}
	for flag, code := range map[string]int{"--refused-exit-code": c.refused, "--unavailable-exit-code": c.unavailable} {
		if code < 0 || code > 255 {
			return usagef("%s %d is not 0 to 255", flag, code)
		}
	}
	return nil
}

// code returns err with the exit code that the flags choose.
func (c *acquireCommand) code(err error) error {
	var own *exitError
	var exceeded *zael.ExceededError
	switch {
	case errors.As(err, &own):
		return err
	case errors.As(err, &exceeded):
		return &exitError{code: c.refused, cause: err, detail: statuses(exceeded)}
	case errors.Is(err, zael.ErrDisabled):
		return &exitError{code: c.refused, cause: err}
	case errors.Is(err, zael.ErrUnavailable):
		return &exitError{code: c.unavailable, cause: err}
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
	req := zael.Request{
		Entity: c.entity, Resource: c.resource, Limits: *c.limits, ParentLimits: c.parents(), Consume: amounts,
		Cascade: c.cascade, UseStoredLimits: c.stored, MaxWait: c.maxWait, FailureMode: zael.FailureMode(c.mode),
	}
	acquirer, closeAll, err := a.acquirer(ctx, c.store, &req, child != nil)
	if err != nil {
		return err
	}
	defer closeAll()
	lease, err := a.inLine(ctx, acquirer, &req)
	if err != nil {
		if exceeded := (*zael.ExceededError)(nil); *c.json && errors.As(err, &exceeded) {
			return errors.Join(a.printJSON(exceeded), err)
		}
		if off := (*zael.DisabledError)(nil); *c.json && errors.As(err, &off) {
			return errors.Join(a.printJSON(off), err)
		}
		return c.ofRequest(err)
	}
	defer func() { _ = lease.Rollback(ctx) }()
	if child == nil {
		for _, s := range lease.statuses() {
			if s.Limit.Kind() == zael.KindSlots && s.Requested > 0 {
				return slotsError(s.Limit.Name, s.Requested)
			}
		}
	}
	a.warn(c, lease)
	if child != nil {
		return a.runUnder(ctx, lease, child)
	}
	if err := lease.Commit(ctx); err != nil {
		return err
	}
	return a.printLease(c, lease)
}

// slotsError returns the error of slots that no command holds.
func slotsError(name string, amount int64) error {
	return usagef("--consume %s=%d: slots are held until a command ends: write the command after --", name, amount)
}

// warn writes warnings about an admitted acquire to standard error.
func (a *app) warn(c *acquireCommand, lease lease) {
	if lease.Degraded() {
		fmt.Fprintln(a.err, "zael: warning: the store is unavailable: admitted without charging")
		return
	}
	have := lease.statuses()
	for _, name := range slices.Sorted(maps.Keys(c.consume)) {
		if !slices.ContainsFunc(have, func(s zael.Status) bool { return s.Limit.Name == name }) {
			fmt.Fprintf(a.err, "zael: warning: no limit %q of %s on %s is stored: nothing was taken from it\n", name, c.entity, c.resource)
		}
	}
}

// inLine acquires, and shows on a terminal how long it has waited.
func (a *app) inLine(ctx context.Context, acquirer acquirer, req *zael.Request) (lease, error) {
	if req.MaxWait == 0 {
		return acquirer.acquire(ctx)
	}
	line := a.newLine()
	defer line.clear()
	begin := time.Now()
	ended := make(chan struct{})
	var shown sync.WaitGroup
	shown.Go(func() {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-ended:
				return
			case <-ticker.C:
				line.write(fmt.Sprintf("waiting in line for %v of up to %v", time.Since(begin).Round(time.Second), req.MaxWait))
			}
		}
	})
	defer shown.Wait()
	defer close(ended)
	return acquirer.acquire(ctx)
}

// A leaseReport is an admitted acquire as JSON.
type leaseReport struct {
	Admitted      bool          `json:"admitted"`
	Degraded      bool          `json:"degraded"` // the store was unavailable; nothing was charged
	Entity        string        `json:"entity_id"`
	Resource      string        `json:"resource"`
	Consumed      zael.Amounts  `json:"consumed"`
	Available     zael.Amounts  `json:"available,omitempty"` // right after
	WaitedSeconds float64       `json:"waited_seconds"`
	Limits        []zael.Status `json:"limits"` // as a refusal has them
}

func (a *app) printLease(c *acquireCommand, lease lease) error {
	if *c.quiet && !*c.json {
		return nil
	}
	r := leaseReport{
		Admitted: true, Degraded: lease.Degraded(), Entity: c.entity, Resource: c.resource,
		Consumed: lease.Consumed(), WaitedSeconds: decimal.Seconds(lease.Delay()), Limits: []zael.Status{},
	}
	r.Limits = append(r.Limits, lease.statuses()...)
	if r.Degraded {
		r.Consumed = zael.Amounts{}
	} else {
		r.Available = left(r.Limits)
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

// left returns what is left of each limit after an acquire: the lesser of the entity's and
// its parent's. Of an unlimited one there is no number.
func left(statuses []zael.Status) zael.Amounts {
	amounts := zael.Amounts{}
	for _, s := range statuses {
		if s.Limit.Kind() == zael.KindUnlimited {
			continue
		}
		if n, ok := amounts[s.Limit.Name]; !ok || s.Available < n {
			amounts[s.Limit.Name] = s.Available
		}
	}
	return amounts
}

// statuses returns a table of all limits of a refused request, if there are several.
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

// Set implements pflag.Value.
func (m *failureMode) Set(text string) error {
	for _, known := range []zael.FailureMode{zael.FailClosed, zael.FailOpen} {
		if text == known.String() {
			*m = failureMode(known)
			return nil
		}
	}
	return errors.New("is neither closed nor open")
}

// String implements pflag.Value. The help shows it as the default.
func (m *failureMode) String() string {
	if *m == 0 {
		return ""
	}
	return zael.FailureMode(*m).String()
}

// Type implements pflag.Value. The help shows it after the flag.
func (m *failureMode) Type() string { return "MODE" }
