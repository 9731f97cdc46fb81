package cli

import (
	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
)

// addAdmin gives cmd the flags of a change of administration.
func addAdmin(cmd *cobra.Command) *zael.AdminOptions {
	options := new(zael.AdminOptions)
	cmd.Flags().StringVar(&options.IdempotencyKey, "idempotency-key", "",
		"make the change once for this `KEY`, however often it is asked for in three days")
	_ = cmd.RegisterFlagCompletionFunc("idempotency-key", cobra.NoFileCompletions)
	return options
}
