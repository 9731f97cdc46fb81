package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael/internal/rls/rules"
)

func (a *app) rls() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rls",
		Short: "Check rules of envoyproxy/ratelimit",
		Args:  cobra.NoArgs,
		RunE:  help,
	}
	cmd.AddCommand(a.rlsCheck())
	return cmd
}

func (a *app) rlsCheck() *cobra.Command {
	var options rules.Options
	cmd := &cobra.Command{
		Use:   "check DIR",
		Short: "Check a folder of rules",
		Long: `Check reads all files of rules in a folder, as envoyproxy/ratelimit does, and names every
mistake with its file and line. It prints what ratelimit_config_check prints, and exits as
that does: 0 if the rules can be used, 1 if not. Keys that are accepted and have no effect
where they stand are named on standard error.`,
		Example: `  zael rls check /data/ratelimit/config
  zael rls check --merge-domain-configs rules`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().BoolVar(&options.Merge, "merge-domain-configs", false, "several files may have rules for the same domain")
	cmd.RunE = a.run(func(_ *cobra.Command, args []string) error {
		fmt.Fprintf(a.out, "checking rate limit configs...\nloading config directory: %s\n", args[0])
		files, err := rules.Files(args[0])
		if err != nil {
			return err
		}
		for _, f := range files {
			fmt.Fprintf(a.out, "opening config file: %s\n", f.Name)
		}
		_, warnings, err := rules.Read(files, options)
		for _, w := range warnings {
			fmt.Fprintln(a.err, "warning:", w)
		}
		if err != nil {
			return fmt.Errorf("error loading rate limit configs: %w", err)
		}
		fmt.Fprintln(a.out, "all rate limit configs ok")
		return nil
	})
	return cmd
}
