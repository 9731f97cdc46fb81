package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/limitsfile"
)

func (a *app) limitsApply() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Change the store to match a file",
		Long: `Apply makes the changes that plan shows, without asking, and prints them. Applied
again, it has nothing to do.

All changes are made in one step, or none if one fails; only on DynamoDB are they made
one by one: if one fails, those before it stay, and apply can be run again. Each change
has an audit event.

What is stored for a scope stands alone: limits of other scopes that do not bind any
more are named on standard error. To put nothing but unlimited in the place of other limits
is an error without --replace.

` + fileHelp,
		Example: `  printf 'resources: {gpt-4: {limits: [rpm=100/min]}}' | zael limits apply -f -
  zael limits apply -f limits.yaml`,
		Args: cobra.NoArgs,
	}
	file := addFile(cmd)
	store := addServed(cmd, storeTimeout)
	a.addPrincipal(cmd, store)
	asJSON := addJSON(cmd)
	replace := addReplace(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		f, err := a.readLimits(cmd.Context(), *file)
		if err != nil {
			return err
		}
		return a.manage(cmd.Context(), store, func(ctx context.Context, l limiter) error {
			plan, overrides, err := comparePlan(ctx, l, f, *replace)
			if err != nil {
				return fileError(*file, err)
			}
			a.warnOverrides(overrides)
			done, err := limitsfile.Apply(ctx, l, plan)
			if err != nil {
				err = fmt.Errorf("%d of %d changes are done: %w", len(done), len(plan.Changes), err)
			}
			if !*asJSON {
				for _, c := range done {
					a.printChange(c)
				}
			}
			if *asJSON {
				return errors.Join(err, a.printJSON(planReportOf(plan, done)))
			}
			if err == nil {
				a.printPlan(plan, "applied", "created", "changed", "deleted")
			}
			return err
		})
	})
	return cmd
}

// addReplace gives cmd the flag --replace.
func addReplace(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("replace", false, "let nothing but unlimited take the place of other limits")
}

// comparePlan returns the plan of a file, and what it hides.
func comparePlan(ctx context.Context, l limiter, f *limitsfile.File, replace bool) (*limitsfile.Plan, []zael.Override, error) {
	plan, err := limitsfile.Compare(ctx, l, f)
	if err != nil {
		return nil, nil, err
	}
	overrides, err := limitsfile.Overridden(ctx, l, plan)
	if err != nil || replace {
		return plan, overrides, err
	}
	return plan, overrides, limitsfile.Lifted(f, plan, overrides)
}

// warnOverrides names the limits that do not bind any more.
func (a *app) warnOverrides(overrides []zael.Override) {
	for _, o := range overrides {
		fmt.Fprintf(a.err, "zael: warning: %s of %s no longer binds %s: repeat it there to keep it\n", o.Limit, o.Scope, o.By)
	}
}
