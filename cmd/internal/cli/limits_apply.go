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

In a SQLite file, all changes are made in one transaction, or none if one fails. On
DynamoDB they are made one by one; if one fails, those before it stay, and apply can
be run again. Each change has an audit event.

` + fileHelp,
		Example: `  printf 'resources: {gpt-4: {limits: [rpm=100/min]}}' | zael limits apply -f -
  zael limits apply -f limits.yaml`,
		Args: cobra.NoArgs,
	}
	file := addFile(cmd)
	store := addStore(cmd, storeTimeout)
	a.addPrincipal(cmd, store)
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		f, err := a.readLimits(cmd.Context(), *file)
		if err != nil {
			return err
		}
		return a.manage(cmd.Context(), store, func(ctx context.Context, l *zael.Limiter) error {
			plan, err := limitsfile.Compare(ctx, l, f)
			if err != nil {
				return fileError(*file, err)
			}
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
