package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael/internal/serve"
	"github.com/zeroae/zael/internal/serve/api"
	"github.com/zeroae/zael/internal/serve/config"
	"github.com/zeroae/zael/internal/serve/dashboard"
	"github.com/zeroae/zael/internal/serve/envoy"
	"github.com/zeroae/zael/internal/serve/gateway"
)

func (a *app) serve() *cobra.Command {
	var source config.Source
	var check bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve limits over HTTP, to programs in any language",
		Long: `Serve answers requests of programs in any language over HTTP. Any number of servers
may run on one store: they share its limits, and each may end at any time.

Without a configuration it serves the default store on 127.0.0.1:8080, to whoever is on
this machine. Other machines need a token: 'zael token new' makes one. The configuration
is a YAML file, which docs/serve.md describes. It is loaded again when it changes and on
SIGHUP; a file with mistakes changes nothing, and is named in the log.

SIGTERM and Ctrl-C end the server when requests that are under way have been answered,
within shutdown_timeout.`,
		Example: `  zael serve
  zael serve --config zael.yaml
  zael serve --config zael.yaml --check && systemctl reload zael`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.StringVar(&source.File, "config", "", "`FILE` of the configuration, in YAML")
	f.StringVar(&source.Listen, "listen", "", "`ADDRESS` and port of the API (default: the configuration's, else 127.0.0.1:8080)")
	f.StringVar(&source.Store, "store", "", "`URL` of the store (default: the configuration's, else $ZAEL_STORE, else a SQLite file in your data directory)")
	f.BoolVar(&source.Insecure, "insecure", false, "without tokens, let other machines in too: whoever reaches the address can do everything")
	f.StringVar(&source.RLSListen, "rls-listen", "", "`ADDRESS` and port of Envoy's rate limit service, which is gRPC (default: the configuration's, else none)")
	f.StringVar(&source.RLSFolder, "rls-config", "", "`DIR` with the rules of the rate limit service, in the YAML of envoyproxy/ratelimit")
	f.BoolVar(&check, "check", false, "only check the configuration: exit with 0, or with 2 and all mistakes")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	_ = cmd.MarkFlagDirname("rls-config")
	_ = cmd.RegisterFlagCompletionFunc("listen", cobra.NoFileCompletions)
	completeStore(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		source.LookupEnv = func(name string) (string, bool) {
			value := a.getenv(name)
			return value, value != ""
		}
		if check {
			return a.checkConfig(&source)
		}
		page, err := dashboard.New()
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		d, err := serve.New(ctx, &serve.Options{
			Source: source, Hangup: hangups(ctx), Log: a.err, Handlers: serve.Handlers{API: api.New, Gateway: gateway.New, RateLimits: envoy.New, Page: page},
			Open: func(ctx context.Context, url string) (serve.Store, error) {
				return a.open(ctx, &storeFlags{url: url, timeout: storeTimeout})
			},
		})
		if err != nil {
			return configError(err)
		}
		return d.Run(ctx)
	})
	return cmd
}

// checkConfig says whether a configuration can be used.
func (a *app) checkConfig(source *config.Source) error {
	c, err := source.Load()
	if err != nil {
		return configError(err)
	}
	if c.RLS != nil && c.RLS.XDS == nil {
		read, warnings, err := envoy.Check(c.RLS)
		for _, w := range warnings {
			fmt.Fprintln(a.err, "warning:", w)
		}
		if err != nil {
			return configError(config.NewError(err))
		}
		defer fmt.Fprintf(a.out, "the rules are valid: %s\n", count(read.Len(), "descriptor", "descriptors"))
	}
	fmt.Fprintf(a.out, "the configuration is valid: %s, %s, %s\n", count(len(c.Tokens), "token", "tokens"), count(len(c.Policies), "policy", "policies"),
		count(len(c.Gateway), "route", "routes"))
	return nil
}

// configError returns a wrong configuration's error, with exit code 2 and a line for each
// mistake.
func configError(err error) error {
	var wrong *config.Error
	if !errors.As(err, &wrong) {
		return err
	}
	return usagef("%s", strings.ReplaceAll(wrong.Error(), "\n", "\nzael: "))
}
