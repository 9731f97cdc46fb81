package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael/stack"
)

func (a *app) status() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status --name NAME",
		Short: "Show the state of a limiter's stack",
		Long: `Status shows the resources, outputs, options and versions of the stack ZAEL-NAME, and
where its template differs from this program's. The exit code is 1 if there is no
stack, or if its last operation failed or was rolled back.`,
		Example: `  zael status --name demo
  zael status --name demo --json`,
		Args: onlyFlags,
	}
	s := addStack(cmd, askTimeout, "")
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		return s.withStack(cmd.Context(), func(ctx context.Context, st *stack.Stack) error {
			status, err := st.Status(ctx, nil)
			if status == nil {
				return err
			}
			if *asJSON {
				err = cmp.Or(a.printJSON(status), err)
			} else {
				a.printStatus(status, err == nil)
			}
			if err == nil && (strings.Contains(status.Status, "FAILED") || strings.Contains(status.Status, "ROLLBACK")) {
				err = &exitError{code: exitFailed}
			}
			return err
		})
	})
	return cmd
}

// printStatus prints how a stack stands; not whole if not all of it could be read.
func (a *app) printStatus(s *stack.Status, whole bool) {
	t := newTable("stack", s.Stack)
	t.add("status", s.Status)
	if s.Reason != "" {
		t.add("reason", printable(s.Reason))
	}
	t.add("created", s.Created.Local().Format(time.DateTime))
	if !s.Updated.IsZero() {
		t.add("updated", s.Updated.Local().Format(time.DateTime))
	}
	o := s.Options
	if len(o.Windows) > 0 {
		usage := "no aggregator"
		if !o.NoAggregator {
			usage = fmt.Sprintf("%s, kept %d days; function on %s, %d MB, %d s, log %d days", strings.Join(windowTexts(o.Windows), " and "),
				o.RetentionDays, o.Architecture, o.LambdaMemoryMB, o.LambdaTimeoutSeconds, o.LogRetentionDays)
		}
		t.add("usage", usage)
		alarms := "none"
		if !o.NoAlarms {
			if alarms = "to nobody"; o.AlarmTopic != "" {
				alarms = "to " + o.AlarmTopic
			}
		}
		t.add("alarms", alarms)
		t.add("protected", protection(s))
		if o.PITRRecoveryDays > 0 {
			t.add("recovery", fmt.Sprintf("%d days", o.PITRRecoveryDays))
		}
	}
	switch v := s.Versions; {
	case s.Foreign:
		t.add("made by", "another program, such as zae-limiter, which zael leaves alone")
	case v == nil && whole && strings.HasSuffix(s.Status, "_COMPLETE"):
		t.add("versions", "none noted")
	case v != nil:
		t.add("versions", fmt.Sprintf("schema %s, aggregator %s, programs from %s", v.Schema, aggregatorOf(v), v.ClientMin))
	}
	for _, d := range s.RecordDifferences {
		t.add("record", fmt.Sprintf("%s: deployed is %s, the table's version record says %s", d.What, d.Deployed, d.Recorded))
	}
	for _, d := range s.Drift {
		t.add("drift", fmt.Sprintf("%s is %s and would be %s", d.Option, d.Deployed, d.Wanted))
	}
	t.write(a.out, "")
	fmt.Fprintln(a.out)
	t = newTable("resource", "type", "status", "id")
	for i := range s.Resources {
		r := &s.Resources[i]
		t.add(r.Name, r.Type, r.Status, r.PhysicalID)
		if r.Reason != "" {
			t.add("", printable(r.Reason))
		}
	}
	t.write(a.out, "")
	if len(s.Outputs) > 0 {
		fmt.Fprintln(a.out)
		a.printOutputs(s.Outputs)
	}
}

// protection is what refuses to be deleted.
func protection(s *stack.Status) string {
	switch table := s.Options.DeletionProtection; {
	case s.Protected && !table:
		return "the stack, not the table"
	case table && !s.Protected:
		return "the table, not the stack"
	}
	return yesNo(s.Protected)
}
