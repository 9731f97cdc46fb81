package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
)

func (a *app) entity() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "entity",
		Short: "Create, show, move and delete entities",
		Long: `An entity is what is limited: a user, a key, a project. It need not be created to be
limited; creating it gives it a name, a parent and metadata.`,
		Args: cobra.NoArgs,
		RunE: help,
	}
	cmd.AddCommand(a.entityCreate(), a.entityShow(), a.entityList(), a.entityChildren(), a.entitySetParent(), a.entityDelete())
	return cmd
}

// help runs a command that only has subcommands.
func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// oneID checks the argument of a command about one entity.
func oneID(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("name one entity, not %d", len(args))
	}
	return nil
}

func (a *app) entityCreate() *cobra.Command {
	var e zael.Entity
	cmd := &cobra.Command{
		Use:   "create ID",
		Short: "Create an entity",
		Long: `Create adds an entity with a name, a parent and metadata. Entities can be limited
without being created. With --cascade, acquires under stored limits also take from
the parent, which need not exist.`,
		Example: `  zael entity create project-1 --name "Project one" --metadata team=search
  zael entity create key-1 --parent project-1 --cascade`,
		Args:              oneID,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	store := addServed(cmd, storeTimeout)
	a.addPrincipal(cmd, store)
	asJSON := addJSON(cmd)
	metadata := pairsValue{}
	f := cmd.Flags()
	f.StringVar(&e.Name, "name", "", "display `NAME` (default: the ID)")
	f.StringVar(&e.ParentID, "parent", "", "entity `ID` of the parent")
	f.BoolVar(&e.Cascade, "cascade", false, "also take from the parent in acquires under stored limits")
	f.Var(metadata, "metadata", "metadata to store; may be repeated")
	for _, flag := range []string{"name", "parent", "metadata"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	cmd.RunE = a.run(func(cmd *cobra.Command, args []string) error {
		return a.manage(cmd.Context(), store, func(ctx context.Context, l limiter) error {
			e.ID = args[0]
			if len(metadata) > 0 {
				e.Metadata = metadata
			}
			created, err := l.CreateEntity(ctx, e)
			switch {
			case errors.Is(err, zael.ErrEntityExists):
				return fmt.Errorf("entity %s already exists", e.ID)
			case err != nil:
				return err
			case *asJSON:
				return a.printJSON(created)
			}
			fmt.Fprintf(a.out, "created entity %s\n", created.ID)
			return nil
		})
	})
	return cmd
}

func (a *app) entityShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show an entity",
		Example: `  zael entity show key-1
  zael entity show key-1 --json`,
		Args:              oneID,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	store := addServed(cmd, storeTimeout)
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, args []string) error {
		return a.manage(cmd.Context(), store, func(ctx context.Context, l limiter) error {
			e, err := l.Entity(ctx, args[0])
			switch {
			case err != nil:
				return err
			case *asJSON:
				return a.printJSON(e)
			}
			fmt.Fprintf(a.out, "id        %s\nname      %s\n", e.ID, printable(e.Name))
			if e.ParentID != "" {
				fmt.Fprintf(a.out, "parent    %s\n", e.ParentID)
			}
			fmt.Fprintf(a.out, "cascade   %s\ncreated   %s\n", yesNo(e.Cascade), e.CreatedAt.Format(time.RFC3339))
			for _, key := range slices.Sorted(maps.Keys(e.Metadata)) {
				fmt.Fprintf(a.out, "metadata  %s\n", printable(key+"="+e.Metadata[key]))
			}
			return nil
		})
	})
	return cmd
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// A childrenReport has the children of an entity as JSON.
type childrenReport struct {
	Parent   string        `json:"parent_id"`
	Children []zael.Entity `json:"children"`
}

func (a *app) entityChildren() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "children ID",
		Short: "List the children of an entity",
		Example: `  zael entity children project-1
  zael entity children project-1 --json`,
		Args:              oneID,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	store := addServed(cmd, storeTimeout)
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, args []string) error {
		return a.manage(cmd.Context(), store, func(ctx context.Context, l limiter) error {
			children, err := l.Children(ctx, args[0])
			switch {
			case err != nil:
				return err
			case *asJSON:
				return a.printJSON(childrenReport{args[0], children})
			case len(children) == 0:
				fmt.Fprintf(a.out, "%s has no children\n", args[0])
				return nil
			}
			t := newTable("entity", "name", "cascade", "created")
			for _, e := range children {
				t.add(e.ID, printable(e.Name), yesNo(e.Cascade), e.CreatedAt.Format(time.RFC3339))
			}
			t.write(a.out, "")
			return nil
		})
	})
	return cmd
}

// A parentReport is an entity with its new parent as JSON.
type parentReport struct {
	Entity string `json:"entity_id"`
	Parent string `json:"parent_id"` // empty: none
}

func (a *app) entitySetParent() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set-parent ID {--parent ID | --none}",
		Short: "Give an entity another parent",
		Long: `Set-parent gives an entity another parent, or none. Both have to exist, and the
entity must not be an ancestor of the parent. Acquires that cascade take from the new
parent within a minute. What was charged to the old one stays there.`,
		Example: `  zael entity set-parent key-1 --parent project-2
  zael entity set-parent key-1 --none`,
		Args:              oneID,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	store := addServed(cmd, storeTimeout)
	a.addPrincipal(cmd, store)
	options := addAdmin(cmd)
	asJSON := addJSON(cmd)
	parent := cmd.Flags().String("parent", "", "entity `ID` of the new parent")
	none := cmd.Flags().Bool("none", false, "remove the parent")
	_ = cmd.RegisterFlagCompletionFunc("parent", cobra.NoFileCompletions)
	cmd.RunE = a.run(func(cmd *cobra.Command, args []string) error {
		switch {
		case *parent == "" && !*none:
			return usagef("name the new parent with --parent, or use --none")
		case *parent != "" && *none:
			return usagef("--parent does not go with --none")
		}
		return a.manage(cmd.Context(), store, func(ctx context.Context, l limiter) error {
			switch err := l.SetParent(ctx, args[0], *parent, *options); {
			case err != nil:
				return err
			case *asJSON:
				return a.printJSON(parentReport{args[0], *parent})
			case *none:
				fmt.Fprintf(a.out, "entity %s has no parent\n", args[0])
			default:
				fmt.Fprintf(a.out, "parent of entity %s is %s\n", args[0], *parent)
			}
			return nil
		})
	})
	return cmd
}

// A deletedReport is a deletion as JSON.
type deletedReport struct {
	Entity  string `json:"entity_id"`
	Deleted bool   `json:"deleted"`
}

func (a *app) entityDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete ID",
		Short: "Delete an entity with its buckets, limits and usage",
		Long: `Delete removes an entity with its buckets, stored limits and usage. Its audit events
and its children stay.`,
		Example:           `  zael entity delete key-1`,
		Args:              oneID,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	store := addServed(cmd, storeTimeout)
	a.addPrincipal(cmd, store)
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, args []string) error {
		return a.manage(cmd.Context(), store, func(ctx context.Context, l limiter) error {
			switch err := l.DeleteEntity(ctx, args[0]); {
			case err != nil:
				return err
			case *asJSON:
				return a.printJSON(deletedReport{args[0], true})
			}
			fmt.Fprintf(a.out, "deleted entity %s\n", args[0])
			return nil
		})
	})
	return cmd
}
