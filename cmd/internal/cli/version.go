package cli

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael/stack"
)

// A version is what the program was built from.
type version struct {
	Version  string `json:"version"`          // of the module; (devel) if it was built from a checkout
	Commit   string `json:"commit,omitempty"` // with +dirty if files were changed
	Time     string `json:"time,omitempty"`   // of the commit
	Go       string `json:"go"`               // version
	Platform string `json:"platform"`

	Infrastructure *stack.Record `json:"infrastructure,omitempty"` // of the stack that --name says
}

func readVersion() version {
	v := version{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Version = cmp.Or(info.Main.Version, v.Version)
	dirty := ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.time":
			v.Time = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "+dirty"
			}
		}
	}
	if v.Commit != "" {
		v.Commit += dirty
	}
	return v
}

func (a *app) version() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version, of this program or of a limiter's stack too",
		Long: `Version prints the version of this program. With --name it also prints those that
the table ZAEL-NAME has noted; zael check says whether they go together.`,
		Example: `  zael version
  zael version --name demo --json`,
		Args: cobra.NoArgs,
	}
	s := addAWS(cmd, askTimeout)
	cmd.Flags().StringVarP(&s.name, "name", "n", "", "also the versions of the limiter `NAME`")
	_ = cmd.RegisterFlagCompletionFunc("name", cobra.NoFileCompletions)
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		v := readVersion()
		var c *stack.Compatibility
		if cmd.Flags().Changed("name") {
			err := s.withStack(cmd.Context(), func(ctx context.Context, st *stack.Stack) (err error) {
				if c, err = st.Check(ctx); c != nil {
					v.Infrastructure = c.Versions
					return nil // check tells what does not go together
				}
				return s.ofTable(cmd.Context(), err)
			})
			if err != nil {
				return err
			}
		}
		if *asJSON {
			return a.printJSON(v)
		}
		fmt.Fprintf(a.out, "zael %s\n", v.Version)
		if v.Commit != "" {
			fmt.Fprintf(a.out, "commit %s of %s\n", v.Commit, v.Time)
		}
		fmt.Fprintf(a.out, "%s %s\n", v.Go, v.Platform)
		if c != nil {
			fmt.Fprintln(a.out)
			a.printVersions(c)
		}
		return nil
	})
	return cmd
}
