package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
)

// A refillReport is a bucket after a reset or a top-up as JSON.
type refillReport struct {
	Entity    string       `json:"entity_id"`
	Resource  string       `json:"resource"`
	Available zael.Amounts `json:"available"`
}

func (a *app) reset() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reset --entity ID --resource NAME [--limit-name NAME...]",
		Short: "Fill the limits of a bucket",
		Long: `Reset fills all limits of an entity on a resource, or those of --limit-name. Acquires
from before that settle later give nothing back. The parent's bucket stays as it is.`,
		Example: `  zael reset --entity key-1 --resource gpt-4
  zael reset --entity key-1 --resource gpt-4 --limit-name tpm`,
	}
	var names []string
	cmd.Flags().StringArrayVar(&names, "limit-name", nil, "`NAME` of a limit to reset; may be repeated (default: all)")
	_ = cmd.RegisterFlagCompletionFunc("limit-name", cobra.NoFileCompletions)
	return a.refill(cmd, nil, func(ctx context.Context, l limiter, s *zael.Scope, options *zael.AdminOptions) (zael.Amounts, error) {
		return l.Reset(ctx, s.Entity, s.Resource, names, *options)
	})
}

func (a *app) topUp() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top-up --entity ID --resource NAME --amount NAME=N...",
		Short: "Give tokens to a bucket",
		Long: `Top-up gives tokens to limits of an entity on a resource, in addition to what is there;
a rate has no more than its burst after it. The parent's bucket stays as it is. A script
that may run twice should give an --idempotency-key.`,
		Example: `  zael top-up --entity key-1 --resource gpt-4 --amount tpm=10000 --idempotency-key ticket-4711`,
	}
	amounts := amountsValue{}
	cmd.Flags().Var(amounts, "amount", "tokens to give to a limit; may be repeated")
	_ = cmd.RegisterFlagCompletionFunc("amount", cobra.NoFileCompletions)
	check := func() error {
		if len(amounts) == 0 {
			return usagef("say how many tokens with --amount, such as --amount tpm=10000")
		}
		return nil
	}
	return a.refill(cmd, check, func(ctx context.Context, l limiter, s *zael.Scope, options *zael.AdminOptions) (zael.Amounts, error) {
		return l.TopUp(ctx, s.Entity, s.Resource, zael.Amounts(amounts), *options)
	})
}

// refill completes a command that refills a bucket.
func (a *app) refill(cmd *cobra.Command, check func() error, change func(context.Context, limiter, *zael.Scope, *zael.AdminOptions) (zael.Amounts, error)) *cobra.Command {
	cmd.Args = cobra.NoArgs
	scope := addSwitchScope(cmd)
	_ = cmd.MarkFlagRequired("entity")
	_ = cmd.MarkFlagRequired("resource")
	store := addServed(cmd, storeTimeout)
	a.addPrincipal(cmd, store)
	options := addAdmin(cmd)
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		if check != nil {
			if err := check(); err != nil {
				return err
			}
		}
		return a.manage(cmd.Context(), store, func(ctx context.Context, l limiter) error {
			available, err := change(ctx, l, scope, options)
			switch {
			case err != nil:
				return err
			case *asJSON:
				return a.printJSON(refillReport{scope.Entity, scope.Resource, available})
			}
			for _, name := range slices.Sorted(maps.Keys(available)) {
				fmt.Fprintf(a.out, "%s: %d available\n", name, available[name])
			}
			return nil
		})
	})
	return cmd
}
