package cli

import (
	"context"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael/internal/limitsfile"
	"github.com/zeroae/zael/internal/yamlfile"
)

const fileHelp = `The file is YAML:

  system:
    limits: [rpm=1000/min]
  resources:
    gpt-4:
      limits:
        - rpm=100/min
        - tpm=10000/min burst 20000
      switch: disabled          # or enabled, bypass, inherit: as 'zael disable'
      failure_mode: open        # or closed, inherit: as 'zael failure-mode'
  namespaces: [team-a]          # to register
  entities:
    project-1:
      name: Project one
      metadata: {team: search}
      limits: [rpm=500/min]     # on resources without limits of their own
    key-1:
      parent: project-1
      cascade: true
      resources:
        gpt-4:
          limits: []            # deletes the stored ones: the next scope decides

It affects what it names and nothing else. Missing entities are created; none is
deleted. The limits of a scope are replaced as a whole, and deleted if the file says
[]. It is an error if an entity exists with other values than those in the file: apply
does not change entities. Use 'zael entity set-parent' for the parent; for the rest,
delete the entity and create it again.`

// addFile gives cmd the flag --file.
func addFile(cmd *cobra.Command) *string {
	file := cmd.Flags().StringP("file", "f", "", "`FILE` of limits; - reads standard input")
	_ = cmd.MarkFlagFilename("file", "yaml", "yml")
	return file
}

// readLimits reads a file of limits.
func (a *app) readLimits(ctx context.Context, file string) (*limitsfile.File, error) {
	var r io.Reader
	switch file {
	case "":
		return nil, usagef("name the file with -f FILE")
	case "-":
		r = newInput(ctx, a.in)
	default:
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	parsed, err := limitsfile.Parse(r)
	return parsed, fileError(file, err)
}

// fileError adds the name of the file to each error about a line.
func fileError(file string, err error) error { return yamlfile.Named(name(file), "\nzael: ", err) }
