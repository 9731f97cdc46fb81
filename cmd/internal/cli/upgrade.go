package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael/cmd/internal/bootstrap"
	"github.com/zeroae/zael/stack"
)

func (a *app) upgrade() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Bring a limiter's stack up to date with this program",
		Long: `Upgrade replaces the template and the aggregator's code of the stack ZAEL-NAME by
those of this program. The stack keeps its options.

Without --force it keeps a template of a newer program, and code that is not known to
be older than this program's: it may be newer, of the same version, or of one that
cannot be compared, such as (devel). It says what it keeps.`,
		Example: `  zael upgrade --name demo
  zael upgrade --name demo --lambda-only`,
		Args: onlyFlags,
	}
	s := addStack(cmd, stackTimeout, "limiter")
	lambdaOnly := cmd.Flags().Bool("lambda-only", false, "replace only the aggregator's code, not the template")
	force := cmd.Flags().Bool("force", false, "replace also what is not known to be older")
	bucket := cmd.Flags().String("code-bucket", "", "upload the function's code to this S3 `BUCKET` in the stack's region (default: the account's own)")
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
				return fmt.Errorf("%s has no resources yet, only a change set in review; to create it: %s", st.Name(), s.command("deploy"))
			case now.Foreign: // Apply says so
			case !now.Options.NoAggregator:
				change.Code, err = code.read(now.Options.Architecture)
				if errors.Is(err, bootstrap.ErrMissing) && !*lambdaOnly && !*force && *bucket == "" {
					err = nil // the rest can be done; Kept says what is not
				}
				if err != nil {
					return err
				}
			case *lambdaOnly || code.path != "" || *bucket != "":
				return fmt.Errorf("%s has no aggregator", st.Name())
			}
			result, err := st.Apply(ctx, change)
			if err != nil {
				return err
			}
			if err := a.printApplied(s, result, !now.Options.NoAggregator, *asJSON); err != nil {
				return err
			}
			if slices.ContainsFunc(result.Kept, func(k stack.Kept) bool { return k.Reason == stack.NoCode }) {
				return errors.New("the aggregator is not up to date")
			}
			return nil
		})
	})
	return cmd
}
