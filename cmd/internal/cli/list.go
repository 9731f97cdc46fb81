package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael/stack"
)

func (a *app) list() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the limiters' stacks in an account and region",
		Example: `  zael list --region eu-central-1
  zael list --json`,
		Args: cobra.NoArgs,
	}
	s := addAWS(cmd, askTimeout)
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		if err := s.load(cmd.Context()); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), s.timeout)
		defer cancel()
		all, err := stack.List(ctx, s.loaded)
		if err != nil {
			return s.ofStack(cmd.Context(), err)
		}
		if *asJSON {
			return a.printJSON(all)
		}
		if len(all) == 0 {
			fmt.Fprintf(a.out, "no stack of zael in %s\n", s.loaded.Region)
			return nil
		}
		t := newTable("stack", "status", "created", "updated")
		for i := range all {
			updated := ""
			if !all[i].Updated.IsZero() {
				updated = all[i].Updated.Local().Format(time.DateTime)
			}
			t.add(all[i].Stack, all[i].Status, all[i].Created.Local().Format(time.DateTime), updated)
		}
		t.write(a.out, "")
		return nil
	})
	return cmd
}
