package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael/internal/awsconf"
	"github.com/zeroae/zael/internal/dynamolocal"
)

// localTimeout is how long start may take, the download included.
const localTimeout = 5 * time.Minute

func (a *app) local() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "local",
		Short: "Run DynamoDB Local, Amazon's own engine, on this machine",
		Long: `Local runs DynamoDB Local in the background, for trying things out. It needs Java 17;
the first start downloads the engine with Maven into your cache directory.

The engine listens on all interfaces of the machine and accepts any credentials, which
cannot be changed. Keep nothing in it that others must not see.`,
	}
	cmd.AddCommand(a.localStart(), a.localStop(), a.localStatus())
	return cmd
}

func (a *app) localStart() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Start DynamoDB Local, unless it is running, and print its endpoint",
		Example: `  zael local start
  zael local start --port 8000 --data-dir "$HOME/dynamodb"`,
		Args: cobra.NoArgs,
	}
	port := cmd.Flags().Int("port", 0, "listen on this `PORT`; 0 means a free one")
	dataDir := cmd.Flags().String("data-dir", "", "keep tables in this `DIR`, created if it is missing (default: in memory, until it stops)")
	_ = cmd.MarkFlagDirname("data-dir")
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		if *port < 0 || *port > 65535 {
			return usagef("--port %d is not in 0 to 65535", *port)
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), localTimeout)
		defer cancel()
		return a.background(func(b *dynamolocal.Background) error {
			state, fresh, err := b.Start(ctx, dynamolocal.Options{Port: *port, DataDir: *dataDir, Progress: a.err})
			if err != nil {
				return err
			}
			if *asJSON {
				return a.printJSON(state)
			}
			what := "already running"
			if fresh {
				what = "started"
			}
			fmt.Fprintf(a.out, "%s at %s\nfor example: zael table create --store '%s'\n", what, state.Endpoint, localURL(state.Endpoint))
			return nil
		})
	})
	return cmd
}

// localURL is a store to try things on.
func localURL(endpoint string) string { return awsconf.Scheme + "demo?endpoint=" + endpoint }

func (a *app) localStop() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "stop",
		Short:   "Stop DynamoDB Local; tables in memory are lost",
		Example: "  zael local stop",
		Args:    cobra.NoArgs,
	}
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		return a.background(func(b *dynamolocal.Background) error {
			before, err := b.Stop(cmd.Context())
			if err != nil {
				return err
			}
			if *asJSON {
				return a.printJSON(before)
			}
			if !before.Running {
				fmt.Fprintln(a.out, "not running")
				return nil
			}
			fmt.Fprintf(a.out, "stopped; it was at %s\n", before.Endpoint)
			return nil
		})
	})
	return cmd
}

func (a *app) localStatus() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show whether DynamoDB Local is running, and where",
		Example: "  zael local status --json",
		Args:    cobra.NoArgs,
	}
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		return a.background(func(b *dynamolocal.Background) error {
			state, err := b.Status(cmd.Context())
			if err != nil {
				return err
			}
			if *asJSON {
				return a.printJSON(state)
			}
			switch {
			case !state.Running:
				fmt.Fprintln(a.out, "not running; to start it: zael local start")
				return nil
			case !state.Answers:
				fmt.Fprintf(a.out, "running at %s, but it does not answer: see %s\n", state.Endpoint, state.Log)
				return nil
			}
			kept := "in memory"
			if state.DataDir != "" {
				kept = "in " + state.DataDir
			}
			fmt.Fprintf(a.out, "running at %s since %s, version %s, tables %s\n",
				state.Endpoint, state.Since.Local().Format(time.DateTime), state.Version, kept)
			return nil
		})
	})
	return cmd
}

// background calls f with this user's DynamoDB Local.
func (a *app) background(f func(*dynamolocal.Background) error) error {
	b, err := dynamolocal.UserBackground()
	if err == nil {
		err = f(b)
	}
	if err != nil {
		return fmt.Errorf("DynamoDB Local: %w", err)
	}
	return nil
}
