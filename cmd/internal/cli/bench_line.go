package cli

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/zeroae/zael/internal/decimal"
	"github.com/zeroae/zael/internal/loadgen"
)

// maxWaiting is how many callers zael bench lets wait in one process.
const maxWaiting = 100_000

// addLine adds the flags of a load whose callers wait in line.
func (c *benchCommand) addLine(f *pflag.FlagSet) {
	f.DurationVar(&c.MaxWait, "max-wait", 0, "each caller makes one acquire, and waits in line up to this long; needs --rate")
	f.DurationVar(&c.GiveUp, "give-up", 0, "each caller leaves the line after this long (default: never)")
}

// checkLine validates the flags of such a load.
func (c *benchCommand) checkLine(f *pflag.FlagSet) error {
	switch {
	case c.MaxWait < 0:
		return usagef("--max-wait %v is negative", c.MaxWait)
	case c.GiveUp < 0:
		return usagef("--give-up %v is negative", c.GiveUp)
	case c.MaxWait == 0 && c.GiveUp > 0:
		return usagef("--give-up has no effect without --max-wait")
	case c.MaxWait == 0:
		return nil
	case !(c.rate > 0): // NaN is refused later
		return usagef("--max-wait needs --rate: how many callers come a second")
	case f.Changed("callers"):
		return usagef("--callers has no effect with --max-wait: each of --rate callers a second makes one acquire")
	}
	patience := min(c.MaxWait, c.Duration)
	if c.GiveUp > 0 {
		patience = min(patience, c.GiveUp)
	}
	if waiting := c.rate * patience.Seconds() / float64(max(1, c.processes)); waiting > maxWaiting {
		return usagef("%.0f callers may wait in each process, more than %d: lower --rate, --max-wait or --give-up", waiting, maxWaiting)
	}
	return nil
}

// A benchLine has the results of such a load.
type benchLine struct {
	MaxWaitSeconds float64          `json:"max_wait_seconds"`
	GiveUpSeconds  float64          `json:"give_up_seconds,omitempty"`
	Left           int64            `json:"left"` // gave up, or waited when the load ended
	Seconds        []loadgen.Second `json:"seconds"`
	maxWait        time.Duration
	giveUp         time.Duration
}

func (c *benchCommand) lineReport(t *loadgen.Tally) *benchLine {
	if c.MaxWait == 0 {
		return nil
	}
	return &benchLine{
		MaxWaitSeconds: decimal.Seconds(c.MaxWait), GiveUpSeconds: decimal.Seconds(c.GiveUp),
		Left: t.Left, Seconds: t.Seconds, maxWait: c.MaxWait, giveUp: c.GiveUp,
	}
}

// patience says how long callers wait.
func (l *benchLine) patience() string {
	if l.giveUp == 0 || l.giveUp > l.maxWait {
		return fmt.Sprintf("each waits up to %v", l.maxWait)
	}
	return fmt.Sprintf("each waits up to %v but leaves after %v", l.maxWait, l.giveUp)
}

// printSeconds prints what happened in each second.
func (a *app) printSeconds(l *benchLine) {
	if l == nil {
		return
	}
	fmt.Fprintln(a.out)
	t := newTable("second", ">came", ">served", ">refused", ">left", ">errors")
	for i, s := range l.Seconds {
		t.add(strconv.Itoa(i), number(s.Came), number(s.Served), number(s.Refused), number(s.Left), number(s.Failed))
	}
	t.write(a.out, "")
}
