package deadletter_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/schema"
	"github.com/zeroae/zael/internal/testrig/streamfake"
	"github.com/zeroae/zael/internal/usage"
	"github.com/zeroae/zael/internal/usage/deadletter"
)

// A letter is counted by the rules of the program that gave it up, or not at all: other
// windows would miss changes, and another retention could shorten what is kept.
func TestRedriveRules(t *testing.T) {
	t.Parallel()
	rules := func(windows string, days int) usage.CountingRules {
		return usage.CountingRules{Windows: windows, Days: days}
	}
	none := usage.CountingRules{}
	for _, c := range []struct {
		name                    string
		letter, recorded, asked usage.CountingRules
		want                    usage.CountingRules
		err                     []string
	}{
		{"a worker's", rules("hourly,monthly", 400), none, none, rules("hourly,monthly", 400), nil},
		{"a worker's, beside a function", rules("monthly", 400), rules("hourly,daily", 7), none, rules("monthly", 400), nil},
		{"a worker's, asked the same", rules("monthly", 400), rules("hourly", 7), rules("monthly", 30), rules("monthly", 30), nil},
		{"a worker's, asked otherwise", rules("monthly", 400), none, rules("hourly,daily", 0), none, []string{"monthly", "the worker", "hourly,daily"}},
		{"the function's", none, rules("hourly,daily,monthly", 400), none, rules("hourly,daily,monthly", 400), nil},
		{"the function's, asked the same", none, rules("daily", 400), rules("daily", 0), rules("daily", 400), nil},
		{"the function's, kept longer", none, rules("daily", 400), rules("", 500), rules("daily", 500), nil},
		{"the function's, asked otherwise", none, rules("daily", 400), rules("hourly", 0), none, []string{"daily", "the table's function", "hourly"}},
		{"nobody's", none, none, none, none, []string{"which neither the message nor the table's version record names"}},
		{"nobody's, asked for", none, none, rules("daily,hourly", 0), rules("hourly,daily", 90), nil},
	} {
		for _, dry := range []bool{true, false} {
			if c.letter != none && c.letter.Windows == "" {
				t.Fatal("a worker's letter has windows")
			}
			b := newBench(t, 2)
			var source deadletter.Source = deadletter.NewQueue(b.queue, "https://sqs/q")
			if c.letter == none {
				b.dies(0, 0)
			} else {
				table := deadletter.NewTable(b.table, "fake")
				err := table.Put(t.Context(), "label", &deadletter.Letter{
					Stream: streamfake.ARN, Shard: "a", First: b.seqs[0], Last: b.seqs[0], Time: time.Now(), CountingRules: c.letter,
				})
				if err != nil {
					t.Fatal(err)
				}
				source = table
			}
			d := b.redriver()
			d.FunctionRules, d.Asked, d.DryRun = c.recorded, c.asked, dry
			var outcomes []deadletter.Outcome
			if err := d.Run(t.Context(), source, 0, func(o deadletter.Outcome) { outcomes = append(outcomes, o) }); err != nil {
				t.Fatal(err)
			}
			if len(outcomes) != 1 || errors.Is(outcomes[0].Err, deadletter.ErrWindows) != (c.err != nil) || c.err == nil && outcomes[0].Err != nil {
				t.Errorf("%s, dry %v: got %+v, want one letter with the error %v", c.name, dry, outcomes, c.err)
				continue
			}
			for _, part := range c.err {
				if !strings.Contains(outcomes[0].Err.Error(), part) {
					t.Errorf("%s: got %v, want %s in it", c.name, outcomes[0].Err, part)
				}
			}
			want := c.want
			if dry {
				want = none
			}
			if got := rulesOfUsage(b); got != want {
				t.Errorf("%s, dry %v: got usage %+v, want %+v", c.name, dry, got, want)
			}
		}
	}
}

// rulesOfUsage returns the windows in which there is usage, and for how long.
func rulesOfUsage(b *bench) (c usage.CountingRules) {
	b.t.Helper()
	at := time.Date(2026, 1, 13, 14, 0, 0, 0, time.UTC)
	var windows []zael.Window
	for _, w := range []zael.Window{zael.Hourly, zael.Daily, zael.Monthly} {
		start, end := w.Bounds(at)
		it := b.table.Get("U#e0", schema.UsageSort("gpt-4", w, start, "birth"))
		if it == nil {
			continue
		}
		windows = append(windows, w)
		var seconds int64
		if _, err := fmt.Sscan(it["ttl"].(*types.AttributeValueMemberN).Value, &seconds); err != nil {
			b.t.Fatal(err)
		}
		c.Days = int(time.Unix(seconds, 0).Sub(end) / (24 * time.Hour))
	}
	c.Windows = usage.FormatWindows(windows)
	return c
}
