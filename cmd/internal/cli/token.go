package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael/internal/serve/access"
)

func (a *app) token() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make tokens for zael serve",
		Args:  cobra.NoArgs,
		RunE:  help,
	}
	cmd.AddCommand(a.tokenNew())
	return cmd
}

func (a *app) tokenNew() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "new",
		Short: "Print a new token and its hash",
		Long: `New prints a random token and its hash. Give the token to its user; nobody can print it
again. The hash goes into the configuration of zael serve, under tokens. To replace a
token, add a new one under another name, and remove the old one when nobody sends it.`,
		Example: `  zael token new
  zael token new --json`,
		Args: cobra.NoArgs,
	}
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(*cobra.Command, []string) error {
		token := access.NewToken()
		hash := access.HashOf(token).String()
		if *asJSON {
			return a.printJSON(map[string]string{"token": token, "hash": hash})
		}
		fmt.Fprintf(a.out, "token: %s\nhash:  %s\n", token, hash)
		return nil
	})
	return cmd
}
