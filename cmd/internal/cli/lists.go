package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
)

// addList gives cmd the flags of a list.
func addList(cmd *cobra.Command, of string) *zael.ListQuery {
	var q zael.ListQuery
	f := cmd.Flags()
	f.StringVar(&q.Prefix, "prefix", "", "only "+of+" whose names begin with `TEXT`")
	f.StringVar(&q.After, "after", "", "only "+of+" whose names come after `NAME`")
	f.IntVar(&q.Max, "max", 100, "show at most `N`")
	cmd.Args = cobra.NoArgs
	for _, flag := range []string{"prefix", "after", "max"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	return &q
}

// checkList returns an error unless a list can be had.
func checkList(q *zael.ListQuery) error {
	if q.Max < 1 {
		return usagef("--max %d is not at least 1", q.Max)
	}
	return nil
}

// printMore says that a list may go on, on standard error.
func (a *app) printMore(n int, q *zael.ListQuery, last string) {
	if n == q.Max {
		fmt.Fprintf(a.err, "zael: there may be more: --after %q shows those that follow, or raise --max\n", last)
	}
}

type entitiesReport struct {
	Entities []zael.Entity `json:"entities"`
}

func (a *app) entityList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the entities that were created",
		Long: `List shows the entities that were created, in the order of their IDs. Whoever was
only limited is not among them: see 'zael usage' and 'zael capacity'.`,
		Example: `  zael entity list
  zael entity list --prefix team-a/ --max 1000 --json`,
	}
	q := addList(cmd, "entities")
	store := addServed(cmd, storeTimeout)
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		if err := checkList(q); err != nil {
			return err
		}
		return a.manage(cmd.Context(), store, func(ctx context.Context, l limiter) error {
			all, err := l.Entities(ctx, *q)
			switch {
			case err != nil:
				return err
			case *asJSON:
				return a.printJSON(entitiesReport{all})
			case len(all) == 0:
				fmt.Fprintln(a.out, "no entities")
				return nil
			}
			t := newTable("entity", "name", "parent", "cascade", "created")
			for _, e := range all {
				t.add(e.ID, printable(e.Name), e.ParentID, yesNo(e.Cascade), e.CreatedAt.Format(time.RFC3339))
			}
			t.write(a.out, "")
			a.printMore(len(all), q, all[len(all)-1].ID)
			return nil
		})
	})
	return cmd
}

type resourcesReport struct {
	Resources []string `json:"resources"`
}

func (a *app) resources() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resources",
		Short: "List the resources that are in use or have limits",
		Long: `Resources shows the resources of which a bucket is in use, or for which limits are stored,
by name. It may show others that once were.`,
		Example: `  zael resources
  zael resources --prefix gpt- --json`,
	}
	q := addList(cmd, "resources")
	store := addServed(cmd, storeTimeout)
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		if err := checkList(q); err != nil {
			return err
		}
		return a.manage(cmd.Context(), store, func(ctx context.Context, l limiter) error {
			all, err := l.Resources(ctx, *q)
			switch {
			case err != nil:
				return err
			case *asJSON:
				return a.printJSON(resourcesReport{all})
			case len(all) == 0:
				fmt.Fprintln(a.out, "no resources")
				return nil
			}
			for _, name := range all {
				fmt.Fprintln(a.out, name)
			}
			a.printMore(len(all), q, all[len(all)-1])
			return nil
		})
	})
	return cmd
}

type scopesReport struct {
	Scopes []scopeReport `json:"scopes"`
}

func (a *app) limitsList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List all limits that are stored",
		Long: `List shows the limits of all scopes: those of the system and of resources, then those
of entities, in the order of their IDs.`,
		Example: `  zael limits list
  zael limits list --prefix team-a/ --json`,
		Args: cobra.NoArgs,
	}
	var q zael.ScopeQuery
	f := cmd.Flags()
	f.StringVar(&q.Prefix, "prefix", "", "only limits of entities whose IDs begin with `TEXT`")
	f.IntVar(&q.Max, "max", 1000, "show the limits of at most `N` scopes")
	for _, flag := range []string{"prefix", "max"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	store := addServed(cmd, storeTimeout)
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		if q.Max < 1 {
			return usagef("--max %d is not at least 1", q.Max)
		}
		return a.manage(cmd.Context(), store, func(ctx context.Context, l limiter) error {
			all, err := l.Scopes(ctx, q)
			if err != nil {
				return err
			}
			if *asJSON {
				report := scopesReport{[]scopeReport{}}
				for _, s := range all {
					report.Scopes = append(report.Scopes, scopeReportOf(s.Scope, s.Limits))
				}
				return a.printJSON(report)
			}
			if len(all) == 0 {
				fmt.Fprintln(a.out, "no limits are stored")
				return nil
			}
			t := newTable("scope", "limits")
			for _, s := range all {
				var texts []string
				for _, limit := range s.Limits {
					texts = append(texts, limit.String())
				}
				t.add(s.Scope.String(), strings.Join(texts, ", "))
			}
			t.write(a.out, "")
			if len(all) == q.Max {
				fmt.Fprintln(a.err, "zael: there may be more: raise --max")
			}
			return nil
		})
	})
	return cmd
}
