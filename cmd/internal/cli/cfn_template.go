package cli

import (
	"github.com/spf13/cobra"

	"github.com/zeroae/zael/stack"
)

func (a *app) cfnTemplate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cfn-template",
		Short: "Write the CloudFormation template, to deploy it with other tools",
		Example: `  zael cfn-template > zael.yaml
  zael cfn-template --output zael.yaml`,
		Args: cobra.NoArgs,
	}
	output := cmd.Flags().StringP("output", "o", "", "write to `FILE` (default: standard output)")
	_ = cmd.MarkFlagFilename("output", "yaml", "yml")
	cmd.RunE = a.run(func(*cobra.Command, []string) error {
		if cmd.Flags().Changed("output") && *output == "" {
			return usagef("--output is empty: name a file, or leave it out for standard output")
		}
		if *output == "" {
			_, err := a.out.WriteString(stack.Template())
			return err
		}
		return writeFile(*output, []byte(stack.Template()))
	})
	return cmd
}
