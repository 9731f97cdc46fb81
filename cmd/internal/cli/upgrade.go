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
