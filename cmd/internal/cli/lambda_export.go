package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael/cmd/internal/bootstrap"
	"github.com/zeroae/zael/stack"
)

// An exported is what lambda-export prints, as JSON.
type exported struct {
	File         string `json:"file,omitempty"`
	Architecture string `json:"architecture"`
	Runtime      string `json:"runtime"`
	Handler      string `json:"handler"`
	Bytes        int    `json:"bytes"`
	SHA256       string `json:"sha256"`
	Version      string `json:"version"`
}

func (a *app) lambdaExport() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lambda-export",
		Short: "Write the aggregator's code, to deploy it with other tools",
		Long: `Lambda-export writes the code of the Lambda function that counts usage: a zip with
one program, bootstrap, for the runtime provided.al2023.`,
		Example: `  zael lambda-export --info
  zael lambda-export --architecture x86_64 --output aggregator.zip`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	output := f.StringP("output", "o", "lambda.zip", "write to `FILE`")
	info := f.Bool("info", false, "print what it is, and write nothing")
	force := f.BoolP("force", "f", false, "replace an existing file")
	architecture := f.String("architecture", stack.ARM64, "for `ARCH`, arm64 or x86_64")
	_ = cmd.MarkFlagFilename("output", "zip")
	_ = cmd.RegisterFlagCompletionFunc("architecture", cobra.FixedCompletions([]string{stack.ARM64, stack.X8664}, cobra.ShellCompDirectiveNoFileComp))
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(*cobra.Command, []string) error {
		if *architecture != stack.ARM64 && *architecture != stack.X8664 {
			return usagef("--architecture %q is not arm64 or x86_64", *architecture)
		}
		if *output == "" {
			return usagef("--output is empty")
		}
		data, err := bootstrap.Zip(*architecture)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		e := exported{
			Architecture: *architecture, Runtime: "provided.al2023", Handler: "bootstrap",
			Bytes: len(data), SHA256: hex.EncodeToString(sum[:]), Version: stack.Version(),
		}
		if !*info {
			if _, err := os.Lstat(*output); err == nil && !*force {
				return fmt.Errorf("%s exists: --force replaces it", *output)
			}
			if err := writeFile(*output, data); err != nil {
				return err
			}
			e.File = *output
		}
		if *asJSON {
			return a.printJSON(e)
		}
		if e.File != "" {
			fmt.Fprintf(a.out, "wrote %s\n", e.File)
		}
		fmt.Fprintf(a.out, "zael %s for %s, %s, %s bytes, SHA-256 %s\n", e.Version, e.Architecture, e.Runtime, number(int64(e.Bytes)), e.SHA256)
		return nil
	})
	return cmd
}
