package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael/internal/localengine"
)

// dynamoEngine is the engine of zael local that is no localengine.Kind.
const dynamoEngine = "dynamodb"

// addEngine adds the flag that says which engine, and has the command refuse others.
func addEngine(cmd *cobra.Command) *string {
	engines := []string{dynamoEngine, string(localengine.Valkey), string(localengine.Postgres)}
	engine := cmd.Flags().String("engine", dynamoEngine, "the engine: `NAME` is dynamodb, valkey or postgres")
	_ = cmd.RegisterFlagCompletionFunc("engine", cobra.FixedCompletions(engines, cobra.ShellCompDirectiveNoFileComp))
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if slices.Contains(engines, *engine) {
			return nil
		}
		return usagef("--engine %q is not dynamodb, valkey or postgres", *engine)
	}
	return engine
}

// startEngine starts an engine and prints where it is.
func (a *app) startEngine(ctx context.Context, engine string, o localengine.Options, asJSON bool) error {
	return a.onEngine(engine, func(b *localengine.Background) error {
		state, fresh, err := b.Start(ctx, o)
		if err != nil {
			return err
		}
		if asJSON {
			return a.printJSON(state)
		}
		what := "already running"
		if fresh {
			what = "started"
		}
		try := "zael acquire --store '%s' --entity me --resource test --limit n=10/min"
		if b.Kind == localengine.Postgres {
			try = "zael table create --store '%s'"
		}
		fmt.Fprintf(a.out, "%s at %s\nfor example: "+try+"\n", what, state.URL, state.URL)
		return nil
	})
}

// stopEngine stops an engine.
func (a *app) stopEngine(ctx context.Context, engine string, asJSON bool) error {
	return a.onEngine(engine, func(b *localengine.Background) error {
		before, err := b.Stop(ctx)
		switch {
		case err != nil:
			return err
		case asJSON:
			return a.printJSON(before)
		case !before.Running:
			fmt.Fprintln(a.out, "not running")
		default:
			fmt.Fprintf(a.out, "stopped; it was at %s\n", before.URL)
		}
		return nil
	})
}

// engineStatus prints whether an engine runs, and where.
func (a *app) engineStatus(ctx context.Context, engine string, asJSON bool) error {
	return a.onEngine(engine, func(b *localengine.Background) error {
		state, err := b.Status(ctx)
		switch {
		case err != nil:
			return err
		case asJSON:
			return a.printJSON(state)
		case !state.Running:
			fmt.Fprintf(a.out, "not running; to start it: zael local start --engine %s\n", engine)
		case !state.Answers:
			fmt.Fprintf(a.out, "running at %s, but it does not answer: see %s\n", state.URL, state.Log)
		default:
			kept := "nothing kept"
			if state.DataDir != "" {
				kept = "data in " + state.DataDir
			}
			fmt.Fprintf(a.out, "running at %s since %s, version %s of %s, %s\n",
				state.URL, state.Since.Local().Format(time.DateTime), state.Version, state.Program, kept)
		}
		return nil
	})
}

// onEngine calls f with this user's engine of a name.
func (a *app) onEngine(engine string, f func(*localengine.Background) error) error {
	b, err := localengine.UserBackground(localengine.Kind(engine))
	if err == nil {
		err = f(b)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", b.Kind.Name(), err)
	}
	return nil
}
