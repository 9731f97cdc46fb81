package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael/cmd/internal/bootstrap"
	"github.com/zeroae/zael/stack"
)

// A codeFlag is the flag --code.
type codeFlag struct{ path string }

func (c *codeFlag) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.path, "code", "", "`FILE` with the function's code, a zip as zael lambda-export writes it (default: what this program has)")
	_ = cmd.MarkFlagFilename("code", "zip")
}

// read is the code for an architecture.
func (c *codeFlag) read(architecture string) (stack.Code, error) {
	if c.path != "" {
		data, err := os.ReadFile(c.path)
		return stack.Code{Zip: data}, err
	}
	data, err := bootstrap.Zip(architecture)
	if errors.Is(err, bootstrap.ErrMissing) {
		err = fmt.Errorf("%w, or give a zip with --code", err)
	}
	return stack.Code{Zip: data}, err
}
