package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
)

const switchHelp = `A switch is stored for an entity on a resource, an entity, or a resource; the first of
these that has one decides. It binds every acquire, also one with --limit: from the next
acquire on in a SQLite file, and in an entity's buckets in use; elsewhere within a minute.`

func (a *app) disable() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "disable {--entity ID | --resource NAME}",
		Short: "Refuse all acquires of an entity, or on a resource",
		Long: `Disable makes every acquire fail with exit code 3, whatever its limits and failure
mode. Limits and buckets stay as they are; 'zael enable' lifts it.

` + switchHelp,
		Example: `  zael disable --entity key-1
  zael disable --entity key-1 --resource gpt-4
  zael disable --resource gpt-4`,
	}
	return a.switchTo(cmd, func() zael.Switch { return zael.Disabled })
}

func (a *app) enable() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "enable {--entity ID | --resource NAME} [--inherit]",
		Short: "Lift disable and bypass",
		Long: `Enable makes limits bind again. It is stored, so that one entity can be enabled on a
resource that is disabled. With --inherit, nothing stays stored, and the next scope
decides.

` + switchHelp,
		Example: `  zael enable --entity key-1
  zael enable --entity key-1 --inherit`,
	}
	inherit := cmd.Flags().Bool("inherit", false, "remove the switch, so that the next scope decides")
	return a.switchTo(cmd, func() zael.Switch {
		if *inherit {
			return zael.Inherit
		}
		return zael.Enabled
	})
}

func (a *app) bypass() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bypass {--entity ID | --resource NAME}",
		Short: "Admit all acquires of an entity, or on a resource, and count them",
		Long: `Bypass admits every acquire and charges nothing; usage is counted. A parent binds
acquires that cascade, unless it is bypassed too. 'zael enable' lifts it.

` + switchHelp,
		Example: `  zael bypass --entity batch-import --resource gpt-4`,
	}
	return a.switchTo(cmd, func() zael.Switch { return zael.Bypass })
}

// A settingsReport is the settings of a scope as JSON.
type settingsReport struct {
	Entity      string `json:"entity_id,omitempty"`
	Resource    string `json:"resource,omitempty"`
	Switch      string `json:"switch"`
	FailureMode string `json:"failure_mode"`
}

// switchTo completes a command that sets a switch.
func (a *app) switchTo(cmd *cobra.Command, to func() zael.Switch) *cobra.Command {
	cmd.Args = cobra.NoArgs
	flags := addSwitchScope(cmd)
	store := addServed(cmd, storeTimeout)
	a.addPrincipal(cmd, store)
	options := addAdmin(cmd)
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		if *flags == (zael.Scope{}) {
			return usagef("name an entity with --entity, a resource with --resource, or both")
		}
		return a.manage(cmd.Context(), store, func(ctx context.Context, l limiter) error {
			if err := l.SetSwitch(ctx, *flags, to(), *options); err != nil {
				return err
			}
			if *asJSON {
				return a.printSettings(ctx, l, *flags)
			}
			fmt.Fprintf(a.out, "switch of %s: %s\n", *flags, to())
			return nil
		})
	})
	return cmd
}

// addSwitchScope gives cmd the flags of a scope that can have a switch.
func addSwitchScope(cmd *cobra.Command) *zael.Scope {
	s := new(zael.Scope)
	cmd.Flags().StringVarP(&s.Entity, "entity", "e", "", "the entity `ID`")
	cmd.Flags().StringVarP(&s.Resource, "resource", "r", "", "the resource `NAME`")
	for _, flag := range []string{"entity", "resource"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	return s
}

func (a *app) printSettings(ctx context.Context, l limiter, scope zael.Scope) error {
	s, err := l.Settings(ctx, scope)
	if err != nil {
		return err
	}
	return a.printJSON(settingsReport{scope.Entity, scope.Resource, s.Switch.String(), s.FailureMode.String()})
}

func (a *app) failureMode() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "failure-mode {closed | open | inherit} {--entity ID | --resource NAME | --system}",
		Short: "Store what acquires do when the store is unavailable",
		Long: `Failure-mode stores what acquires of a scope do when the store cannot answer: closed
refuses them, open admits them without a charge, inherit removes what is stored. The
first of these that has one decides, unless the acquire has one itself: the entity on
the resource, the entity, the resource, the system. Programs learn it within a minute,
and remember it while the store is unavailable.`,
		Example: `  zael failure-mode open --resource search
  zael failure-mode closed --system`,
		Args:      cobra.ExactArgs(1),
		ValidArgs: []string{"closed", "open", "inherit"},
	}
	flags := addScope(cmd)
	store := addServed(cmd, storeTimeout)
	a.addPrincipal(cmd, store)
	options := addAdmin(cmd)
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, args []string) error {
		scope, err := flags.scope()
		if err != nil {
			return err
		}
		mode, ok := map[string]zael.FailureMode{"closed": zael.FailClosed, "open": zael.FailOpen, "inherit": 0}[args[0]]
		if !ok {
			return usagef("%q is not closed, open or inherit", args[0])
		}
		return a.manage(cmd.Context(), store, func(ctx context.Context, l limiter) error {
			if err := l.SetFailureMode(ctx, scope, mode, *options); err != nil {
				return err
			}
			if *asJSON {
				return a.printSettings(ctx, l, scope)
			}
			fmt.Fprintf(a.out, "failure mode of %s: %s\n", scope, mode)
			return nil
		})
	})
	return cmd
}

func (a *app) settings() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "settings {--entity ID | --resource NAME | --system}",
		Short: "Show the switch and the failure mode of a scope",
		Long: `Settings shows the switch and the failure mode that are stored for exactly this scope;
"inherit" means that none is stored, so that the next scope decides.`,
		Example: `  zael settings --entity key-1
  zael settings --resource gpt-4 --json`,
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
			if *asJSON {
				return a.printSettings(ctx, l, scope)
			}
			s, err := l.Settings(ctx, scope)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "switch        %s\nfailure mode  %s\n", s.Switch, s.FailureMode)
			return nil
		})
	})
	return cmd
}

func (a *app) ping() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ping",
		Short:   "Check that the store answers",
		Long:    `Ping reads a little from the store. The exit code is 0 if it answers, and 4 if not.`,
		Example: `  zael ping --timeout 1s`,
		Args:    cobra.NoArgs,
	}
	store := addServed(cmd, storeTimeout)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		return a.manage(cmd.Context(), store, func(ctx context.Context, l limiter) error {
			if err := l.Ping(ctx); err != nil {
				return err
			}
			fmt.Fprintln(a.out, "the store answers")
			return nil
		})
	})
	return cmd
}
