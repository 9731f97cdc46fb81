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
		Short: "Bring the store to what a file says",
		Long: `Apply does what plan shows, and says what it did. It does not ask. Applied again,
it has nothing to do.

In a SQLite file all lines are one transaction: all are done, or none if one
fails. On DynamoDB they are done one by one, and if one fails those before it
stay: apply again. Each has its audit event.

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
