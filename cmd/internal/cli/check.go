package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael/stack"
)

func (a *app) check() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check that this program and a limiter's table are compatible",
		Long: `Check compares this program with the versions that the table ZAEL-NAME records, and
that record with the stack, if it may read the stack. It changes nothing.

The exit code is 1 if they are not compatible, and if the record is missing or out of
date. An aggregator that is older than this program is compatible with it; zael
upgrade brings it up to date.`,
		Example: `  zael check --name demo
  zael check --name demo --json`,
		Args: onlyFlags,
	}
	s := addStack(cmd, askTimeout, "limiter")
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		return s.withStack(cmd.Context(), func(ctx context.Context, st *stack.Stack) error {
			c, verdict := st.Check(ctx)
			if c == nil {
				return s.ofTable(cmd.Context(), verdict)
			}
			if *asJSON {
				if err := a.printJSON(checked(c, verdict)); err != nil {
					return err
				}
			} else {
				a.printVersions(c)
				if verdict == nil && notKnown(c) == "" {
					fmt.Fprintln(a.out, "compatible")
				}
			}
			if verdict != nil {
				return verdict
			}
			if reason := notKnown(c); reason != "" {
				return &exitError{code: exitFailed, cause: errors.New(reason), detail: s.remedy(c)}
			}
			return nil
		})
	})
	return cmd
}

// A checkedVersions is what check prints, as JSON.
type checkedVersions struct {
	*stack.Compatibility
	Compatible bool   `json:"compatible"`
	Reason     string `json:"reason,omitempty"` // why not
}

func checked(c *stack.Compatibility, verdict error) checkedVersions {
	out := checkedVersions{Compatibility: c, Reason: notKnown(c)}
	if verdict != nil {
		out.Reason = message(verdict)
	}
	out.Compatible = out.Reason == ""
	return out
}

// notKnown says why it cannot be told whether program and table go together; empty if it
// can.
func notKnown(c *stack.Compatibility) string {
	switch {
	case c.Versions == nil:
		return "the table has no version record"
	case len(c.RecordDifferences) > 0:
		var parts []string
		for _, d := range c.RecordDifferences {
			parts = append(parts, fmt.Sprintf("%s %s instead of %s", d.What, d.Recorded, d.Deployed))
		}
		return "the table's version record is not what is deployed: " + strings.Join(parts, ", ")
	case c.Versions.Unknown && c.StackStatus != "":
		return "the table's version record does not know the aggregator: the stack is " + c.StackStatus
	case c.Versions.Unknown:
		return "the table's version record does not know the aggregator, and the stack cannot be read"
	}
	return ""
}

// remedy says what brings the version record up to date.
func (s *stackFlags) remedy(c *stack.Compatibility) string {
	switch {
	case c.StackStatus != "":
		return "To bring it up to date, when the stack is complete: " + s.command("upgrade") + "\n"
	case c.Versions == nil:
		return "A program that opens the table by package stack writes one.\n"
	}
	return ""
}

func (a *app) printVersions(c *stack.Compatibility) {
	t := newTable("", "schema", "zael")
	t.add("this program", c.Schema, c.Client)
	if v := c.Versions; v != nil {
		t.add("table", v.Schema, "from "+v.ClientMin)
		outdated := ""
		if c.Outdated {
			outdated = ", older than this program: zael upgrade"
		}
		t.add("aggregator", "", aggregatorOf(v)+outdated)
	} else {
		t.add("table", "none noted")
	}
	t.write(a.out, "")
}
