package cli

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// A version is what the program was built from.
type version struct {
	Version  string `json:"version"`          // of the module; (devel) if it was built from a checkout
	Commit   string `json:"commit,omitempty"` // with +dirty if files were changed
	Time     string `json:"time,omitempty"`   // of the commit
	Go       string `json:"go"`               // version
	Platform string `json:"platform"`
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
		Short: "Print the version",
		Example: `  zael version
  zael version --json`,
		Args: cobra.NoArgs,
	}
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(*cobra.Command, []string) error {
		v := readVersion()
		if *asJSON {
			return a.printJSON(v)
		}
		fmt.Fprintf(a.out, "zael %s\n", v.Version)
		if v.Commit != "" {
			fmt.Fprintf(a.out, "commit %s of %s\n", v.Commit, v.Time)
		}
		fmt.Fprintf(a.out, "%s %s\n", v.Go, v.Platform)
		return nil
	})
	return cmd
}
