package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael/stack"
)

func (a *app) check() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Tell whether this program and a limiter's table go together",
		Long: `Check compares the versions that the table ZAEL-NAME has noted with this program,
and changes nothing. The exit code is 1 if they do not go together, and if the table
has no versions yet. An aggregator that is older than this program is told of, and
goes together with it; zael upgrade brings it up to date.`,
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
				if verdict == nil && c.Versions != nil {
					fmt.Fprintln(a.out, "compatible")
				}
			}
			switch {
			case verdict != nil:
				return verdict
			case c.Versions == nil:
				return errors.New("the table has no versions yet: run zael deploy")
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
	out := checkedVersions{Compatibility: c, Compatible: verdict == nil && c.Versions != nil}
	if verdict != nil {
		out.Reason = message(verdict)
	}
	return out
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
		t.add("aggregator", "", orNone(v.Lambda)+outdated)
	} else {
		t.add("table", "none noted")
	}
	t.write(a.out, "")
}

func (a *app) upgrade() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Bring a limiter's stack to this program: its template and the aggregator's code",
		Long: `Upgrade brings the template and the aggregator's code of the stack ZAEL-NAME to those
of this program. Its options stay. Code that is not older than this program stays
too, also where one of the two has no version, such as (devel), and so does the
template of a newer one, unless --force says otherwise.`,
		Example: `  zael upgrade --name demo
  zael upgrade --name demo --lambda-only`,
		Args: onlyFlags,
	}
	s := addStack(cmd, stackTimeout, "limiter")
	lambdaOnly := cmd.Flags().Bool("lambda-only", false, "only the aggregator's code, not the template")
	force := cmd.Flags().Bool("force", false, "also what is as new as this program, or newer")
	bucket := cmd.Flags().String("code-bucket", "", "`BUCKET` of S3, in the stack's region, to upload the function's code to (default: the account's own)")
	var code codeFlag
	code.add(cmd)
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		return s.withStack(cmd.Context(), func(ctx context.Context, st *stack.Stack) error {
			now, err := st.Status(ctx, nil)
			if err != nil {
				return err
			}
			change := stack.Change{
				CodeBucket: *bucket, OnlyUpgrade: !*force, KeepTemplate: *lambdaOnly,
				By: a.who(&storeFlags{}), Progress: a.progressTo(*asJSON),
			}
			switch {
			case now.Status == "REVIEW_IN_PROGRESS":
				return fmt.Errorf("%s has nothing in it, only a change set in review: %s makes it", st.Name(), s.command("deploy"))
			case now.Foreign: // Apply says so
			case !now.Options.NoAggregator:
				if change.Code, err = code.read(now.Options.Architecture); err != nil {
					return err
				}
			case *lambdaOnly || code.path != "" || *bucket != "":
				return fmt.Errorf("%s has no aggregator", st.Name())
			}
			result, err := st.Apply(ctx, change)
			if err != nil {
				return err
			}
			return a.printApplied(s, result, !now.Options.NoAggregator, *asJSON)
		})
	})
	return cmd
}
