package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
)

func (a *app) capacity() *cobra.Command {
	var resource, limit string
	var options zael.CapacityOptions
	cmd := &cobra.Command{
		Use:   "capacity --resource NAME --limit-name NAME",
		Short: "Add up a limit over all entities that use a resource",
		Long: `Capacity adds up a limit of a resource over all entities with a bucket in use: how many
tokens the buckets can hold, how many are available, and the share that is in use. Of a
quota it is the amounts of the periods that are on, and of slots their number. Entities
of which the limit blocks or is unlimited are counted apart. Full buckets may be
missing, as stores forget them.`,
		Example: `  zael capacity --resource gpt-4 --limit-name rpm
  zael capacity --resource gpt-4 --limit-name tpm --parents-only --json`,
		Args: cobra.NoArgs,
	}
	store := addServed(cmd, storeTimeout)
	asJSON := addJSON(cmd)
	f := cmd.Flags()
	f.StringVarP(&resource, "resource", "r", "", "`NAME` of the resource")
	f.StringVar(&limit, "limit-name", "", "`NAME` of the limit")
	f.BoolVar(&options.ParentsOnly, "parents-only", false, "only entities without a parent")
	for _, flag := range []string{"resource", "limit-name"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		switch {
		case resource == "":
			return usagef("name the resource with --resource")
		case limit == "":
			return usagef("name the limit with --limit-name")
		}
		return a.manage(cmd.Context(), store, func(ctx context.Context, l limiter) error {
			sum, err := l.ResourceCapacity(ctx, resource, limit, options)
			switch {
			case err != nil:
				return err
			case *asJSON:
				return a.printJSON(sum)
			case len(sum.Entities) == 0:
				fmt.Fprintf(a.out, "no bucket of %s with a limit %s is in use\n", resource, limit)
				return nil
			}
			t := newTable("entity", ">capacity", ">available", ">in use")
			for _, e := range sum.Entities {
				if e.Kind == zael.KindBlock || e.Kind == zael.KindUnlimited {
					t.add(e.Entity, "", map[bool]string{true: "blocked", false: "unlimited"}[e.Kind == zael.KindBlock], "")
					continue
				}
				t.add(e.Entity, number(e.Capacity), number(e.Available), percent(e.Utilization))
			}
			t.add("total", number(sum.Capacity), number(sum.Available), percent(sum.Utilization))
			t.write(a.out, "")
			if sum.Blocked+sum.Unlimited > 0 {
				fmt.Fprintf(a.out, "not in the total: %s blocked, %d unlimited\n", count(sum.Blocked, "entity", "entities"), sum.Unlimited)
			}
			return nil
		})
	})
	return cmd
}

func percent(p float64) string { return fmt.Sprintf("%.1f %%", p) }
