package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/limitsfile"
)

func (a *app) limits() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "limits",
		Short: "Set, get and delete stored limits, one by one or from a file",
		Long: `Stored limits apply to acquires with --stored. Limits are stored for a scope, and the
first scope of these that has any decides, as a whole:

  --entity E --resource R    the entity E on the resource R
  --entity E                 the entity E on all other resources
  --resource R               all other entities on the resource R
  --system                   everything else

A LIMIT is NAME= and one of

  100/min, 10000/min burst 20000    tokens that refill evenly; the period is s, min, h,
                                    d or a multiple such as 15min; then, if need be,
                                    "when mon-fri 09:00-18:00 Europe/Berlin times 0.5"
  100 each day Europe/Berlin        a quota by the calendar: second, minute, hour, day,
                                    week, month, year, 7d, 30d or 365d, then "on DAY",
                                    "at HH:MM", a time zone or "carry debt" as needed
  100 per 5h from first use         a quota whose period begins with its first use
  20 at once                        slots, held until they are released
  0/min                             refuses everything
  unlimited                         admits everything, and counts it

"soft" at the end makes a limit count and never refuse.`,
		Args: cobra.NoArgs,
		RunE: help,
	}
	cmd.AddCommand(a.limitsSet(), a.limitsGet(), a.limitsList(), a.limitsDelete(), a.limitsPlan(), a.limitsApply())
	return cmd
}

// A scopeFlags has the scope of stored limits.
type scopeFlags struct {
	zael.Scope
	system bool
}

// addScope gives cmd the flags of a scope.
func addScope(cmd *cobra.Command) *scopeFlags {
	s := new(scopeFlags)
	f := cmd.Flags()
	f.StringVarP(&s.Entity, "entity", "e", "", "the entity `ID`")
	f.StringVarP(&s.Resource, "resource", "r", "", "the resource `NAME`")
	f.BoolVar(&s.system, "system", false, "the system: where nothing else is stored")
	for _, flag := range []string{"entity", "resource"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	return s
}

// scope validates the flags. The system's limits have a flag of their own, so that a
// forgotten --entity does not change the limits of all.
func (s *scopeFlags) scope() (zael.Scope, error) {
	named := s.Entity != "" || s.Resource != ""
	switch {
	case s.system && named:
		return s.Scope, usagef("--system does not go with --entity or --resource")
	case !s.system && !named:
		return s.Scope, usagef("name the scope with --entity, --resource or both, or with --system")
	}
	return s.Scope, nil
}

// limitReports returns limits as a list of JSON, which is empty if there are none.
func limitReports(limits []zael.Limit) []zael.Limit { return append([]zael.Limit{}, limits...) }

// A scopeReport is the limits of a scope as JSON.
type scopeReport struct {
	Entity   string       `json:"entity_id,omitempty"`
	Resource string       `json:"resource,omitempty"`
	Limits   []zael.Limit `json:"limits"`
}

func scopeReportOf(scope zael.Scope, limits []zael.Limit) scopeReport {
	return scopeReport{scope.Entity, scope.Resource, limitReports(limits)}
}

func (a *app) limitsSet() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set {--entity ID | --resource NAME | --system} --limit LIMIT...",
		Short: "Replace the limits of a scope",
		Long: `Set replaces all limits of a scope. Buckets in use change at once, in every process,
if their limits are those of an entity, and within a minute if they are those of a
resource or the system. Tokens that were taken stay taken.

What is stored for a scope stands alone: limits of other scopes that do not bind any
more are named on standard error. To put nothing but unlimited in the place of other limits
is an error without --replace.`,
		Example: `  zael limits set --resource gpt-4 --limit rpm=100/min --limit "tpm=10000/min burst 20000"
  zael limits set --entity key-1 --resource gpt-4 --limit rpm=200/min
  zael limits set --system --limit rpm=60/min`,
		Args: cobra.NoArgs,
	}
	flags := addScope(cmd)
	limits := addLimits(cmd)
	store := addServed(cmd, storeTimeout)
	a.addPrincipal(cmd, store)
	asJSON := addJSON(cmd)
	replace := addReplace(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		scope, err := flags.scope()
		if err != nil {
			return err
		}
		if len(*limits) == 0 {
			return usagef("name at least one limit, such as --limit rpm=100/min; 'zael limits delete' removes them")
		}
		return a.manage(cmd.Context(), store, func(ctx context.Context, l limiter) error {
			overrides, err := l.Overridden(ctx, []zael.Change{{Scope: scope, Limits: *limits}})
			if err != nil {
				return err
			}
			if !*replace {
				before, err := l.Limits(ctx, scope)
				if err != nil {
					return err
				}
				if lost := limitsfile.LostTo(scope, *limits, before, overrides); lost != "" {
					return fmt.Errorf("limits of %s: %s", scope, lost)
				}
			}
			if err := l.SetLimits(ctx, scope, *limits); err != nil {
				return err
			}
			a.warnOverrides(overrides)
			if *asJSON {
				return a.printJSON(scopeReportOf(scope, *limits))
			}
			fmt.Fprintf(a.out, "set limits of %s: %s\n", scope, limits)
			return nil
		})
	})
	return cmd
}

func (a *app) limitsGet() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get {--entity ID | --resource NAME | --system}",
		Short: "Show the limits of a scope",
		Long: `Get shows the limits stored for exactly this scope, not those of another scope that
apply to it.`,
		Example: `  zael limits get --resource gpt-4
  zael limits get --entity key-1 --resource gpt-4 --json`,
		Args: cobra.NoArgs,
	}
	flags := addScope(cmd)
	store := addServed(cmd, storeTimeout)
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		scope, err := flags.scope()
		if err != nil {
			return err
		}
		return a.manage(cmd.Context(), store, func(ctx context.Context, l limiter) error {
			limits, err := l.Limits(ctx, scope)
			switch {
			case err != nil:
				return err
			case *asJSON:
				return a.printJSON(scopeReportOf(scope, limits))
			case len(limits) == 0:
				fmt.Fprintf(a.out, "no limits of %s are stored\n", scope)
				return nil
			}
			for _, l := range limits {
				fmt.Fprintln(a.out, l)
			}
			return nil
		})
	})
	return cmd
}

func (a *app) limitsDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete {--entity ID | --resource NAME | --system}",
		Short: "Delete the limits of a scope",
		Long:  `Delete removes all limits of a scope. The next scope that has any then decides.`,
		Example: `  zael limits delete --entity key-1 --resource gpt-4
  zael limits delete --system`,
		Args: cobra.NoArgs,
	}
	flags := addScope(cmd)
	store := addServed(cmd, storeTimeout)
	a.addPrincipal(cmd, store)
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		scope, err := flags.scope()
		if err != nil {
			return err
		}
		return a.manage(cmd.Context(), store, func(ctx context.Context, l limiter) error {
			before, err := l.Limits(ctx, scope)
			if err != nil {
				return err
			}
			if err := l.DeleteLimits(ctx, scope); err != nil {
				return err
			}
			switch {
			case *asJSON:
				return a.printJSON(scopeReportOf(scope, nil))
			case len(before) == 0:
				fmt.Fprintf(a.out, "no limits of %s were stored\n", scope)
			default:
				fmt.Fprintf(a.out, "deleted limits of %s\n", scope)
			}
			return nil
		})
	})
	return cmd
}
