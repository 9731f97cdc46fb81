package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
)

func (a *app) namespace() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "namespace",
		Short: "Register, list, delete and recover namespaces of a store",
		Long: `A namespace keeps tenants of one store apart: each has entities, limits, buckets and
usage of its own. Redis, PostgreSQL and DynamoDB have them. The URL of the store names
the one to work in, such as redis://HOST?namespace=team-a; these commands work from any.`,
		Args: cobra.NoArgs,
		RunE: help,
	}
	cmd.AddCommand(a.namespaceRegister(), a.namespaceList(), a.namespaceShow(), a.namespaceDelete(), a.namespaceRecover(), a.namespacePurge())
	return cmd
}

// oneName checks the argument of a command about one namespace.
func oneName(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("name one namespace, not %d", len(args))
	}
	return nil
}

// namespaceCommand completes a command that changes a namespace and then says so.
func (a *app) namespaceCommand(cmd *cobra.Command, did string, change func(ctx context.Context, l limiter, name string) error) *cobra.Command {
	cmd.Args, cmd.ValidArgsFunction = oneName, cobra.NoFileCompletions
	store := addServed(cmd, storeTimeout)
	a.addPrincipal(cmd, store)
	cmd.RunE = a.run(func(cmd *cobra.Command, args []string) error {
		return a.manage(cmd.Context(), store, func(ctx context.Context, l limiter) error {
			if err := namespaceError(change(ctx, l, args[0])); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "%s namespace %s\n", did, args[0])
			return nil
		})
	})
	return cmd
}

var errNoNamespaces = errors.New("the store has no namespaces: keep a SQLite file for each tenant, such as --store sqlite:team-a.db, or use --store dynamodb://NAME, redis://HOST or postgres://HOST/DATABASE")

// namespaceError names the stores that have namespaces, if this one has none.
func namespaceError(err error) error {
	if errors.Is(err, errors.ErrUnsupported) {
		return errNoNamespaces
	}
	return err
}

func (a *app) namespaceRegister() *cobra.Command {
	return a.namespaceCommand(&cobra.Command{
		Use:     "register NAME",
		Short:   "Register a namespace",
		Long:    `Register adds a namespace to the list. One that is registered stays as it is.`,
		Example: `  zael namespace register team-a --store dynamodb://limits`,
	}, "registered", func(ctx context.Context, l limiter, name string) error { return l.RegisterNamespace(ctx, name) })
}

func (a *app) namespaceDelete() *cobra.Command {
	return a.namespaceCommand(&cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a namespace",
		Long: `Delete makes all acquires and changes in a namespace fail, within a minute in programs
that run. Everything stays, for 'zael namespace recover', until 'zael namespace purge'.`,
		Example: `  zael namespace delete team-a --store dynamodb://limits`,
	}, "deleted", func(ctx context.Context, l limiter, name string) error { return l.DeleteNamespace(ctx, name) })
}

func (a *app) namespaceRecover() *cobra.Command {
	return a.namespaceCommand(&cobra.Command{
		Use:     "recover NAME",
		Short:   "Make a deleted namespace active again",
		Long:    `Recover makes a deleted namespace active again, with all that was in it.`,
		Example: `  zael namespace recover team-a --store dynamodb://limits`,
	}, "recovered", func(ctx context.Context, l limiter, name string) error { return l.RecoverNamespace(ctx, name) })
}

func (a *app) namespacePurge() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "purge NAME --yes",
		Short: "Remove a deleted namespace with all that is in it",
		Long: `Purge removes a deleted namespace for good, and frees its name. On Redis
and DynamoDB it reads the whole database or table. If it is interrupted, run it again.`,
		Example:           `  zael namespace purge team-a --yes --store dynamodb://limits`,
		Args:              oneName,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	store := addServed(cmd, 10*time.Minute)
	a.addPrincipal(cmd, store)
	yes := cmd.Flags().BoolP("yes", "y", false, "do it: nothing brings it back")
	cmd.RunE = a.run(func(cmd *cobra.Command, args []string) error {
		if !*yes {
			return usagef("purge removes all records of %q for good: confirm with --yes", args[0])
		}
		return a.manage(cmd.Context(), store, func(ctx context.Context, l limiter) error {
			n, err := l.PurgeNamespace(ctx, args[0])
			if err != nil {
				return namespaceError(err)
			}
			fmt.Fprintf(a.out, "purged namespace %s: %d records\n", args[0], n)
			return nil
		})
	})
	return cmd
}

// A namespacesReport has namespaces as JSON.
type namespacesReport struct {
	Namespaces []zael.Namespace `json:"namespaces"`
}

func (a *app) namespaceList() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the registered namespaces",
		Long:    `List shows the registered namespaces. The default one, which has no name, is not listed.`,
		Example: `  zael namespace list --store dynamodb://limits --json`,
		Args:    cobra.NoArgs,
	}
	store := addServed(cmd, storeTimeout)
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		return a.manage(cmd.Context(), store, func(ctx context.Context, l limiter) error {
			all, err := l.Namespaces(ctx)
			switch {
			case err != nil:
				return namespaceError(err)
			case *asJSON:
				return a.printJSON(namespacesReport{all})
			case len(all) == 0:
				fmt.Fprintln(a.out, "no namespaces are registered")
				return nil
			}
			t := newTable("namespace", "state", "registered", "changed")
			for _, n := range all {
				t.add(n.Name, string(n.State), n.RegisteredAt.Format(time.RFC3339), n.ChangedAt.Format(time.RFC3339))
			}
			t.write(a.out, "")
			return nil
		})
	})
	return cmd
}

func (a *app) namespaceShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "show NAME",
		Short:             "Show a namespace",
		Example:           `  zael namespace show team-a --store dynamodb://limits`,
		Args:              oneName,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	store := addServed(cmd, storeTimeout)
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, args []string) error {
		return a.manage(cmd.Context(), store, func(ctx context.Context, l limiter) error {
			n, err := l.Namespace(ctx, args[0])
			switch {
			case err != nil:
				return namespaceError(err)
			case *asJSON:
				return a.printJSON(n)
			}
			fmt.Fprintf(a.out, "name        %s\nstate       %s\nregistered  %s\nchanged     %s\n",
				n.Name, n.State, n.RegisteredAt.Format(time.RFC3339), n.ChangedAt.Format(time.RFC3339))
			return nil
		})
	})
	return cmd
}
