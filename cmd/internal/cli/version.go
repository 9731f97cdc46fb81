package cli

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/module"

	"github.com/zeroae/zael/cmd/internal/bootstrap"
	"github.com/zeroae/zael/internal/zoneinfo"
	"github.com/zeroae/zael/stack"
)

// A programVersion says what this program was built from, as JSON.
type programVersion struct {
	Version      string   `json:"version"`          // of the module; (devel) if the build does not tell
	Commit       string   `json:"commit,omitempty"` // its hash, with +dirty if files had been changed
	Time         string   `json:"time,omitempty"`   // of the commit, in UTC
	FunctionCode []string `json:"function_code"`    // the architectures whose Lambda function this program has inside
	Go           string   `json:"go"`               // the toolchain
	Platform     string   `json:"platform"`
	TimeZones    string   `json:"time_zones"` // the release of the IANA data that quotas go by

	Infrastructure *stack.Record `json:"infrastructure,omitempty"` // the versions in the table of --name
}

// thisVersion returns the version of the running program.
func thisVersion() programVersion {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	v := versionFrom(info)
	v.FunctionCode = bootstrap.Architectures()
	v.Go, v.Platform, v.TimeZones = runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH, zoneinfo.Version
	return v
}

// versionFrom reads version, commit and time. A build in a clone of the repository
// records its commit; go install of a commit by its hash has it in the version.
func versionFrom(info *debug.BuildInfo) programVersion {
	v := programVersion{Version: cmp.Or(info.Main.Version, "(devel)")}
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
		return v
	}
	if hash, err := module.PseudoVersionRev(v.Version); err == nil {
		v.Commit = hash
		if t, err := module.PseudoVersionTime(v.Version); err == nil {
			v.Time = t.Format(time.RFC3339)
		}
	}
	return v
}

// String returns what zael version prints.
func (v programVersion) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "zael %s\n", v.Version)
	if v.Commit != "" {
		fmt.Fprintf(&text, "commit %s of %s\n", v.Commit, v.Time)
	}
	if len(v.FunctionCode) > 0 {
		fmt.Fprintf(&text, "with the Lambda function's code for %s\n", strings.Join(v.FunctionCode, " and "))
	} else {
		text.WriteString("without the Lambda function's code\n")
	}
	fmt.Fprintf(&text, "time zones: IANA %s\n", v.TimeZones)
	fmt.Fprintf(&text, "%s %s\n", v.Go, v.Platform)
	return text.String()
}

func (a *app) version() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program and, with --name, of a limiter's stack",
		Long: `Version prints the version of this program, the commit and the Go release that it
was built from, and whether it has the code of the Lambda function that zael deploy
uploads: released programs and those of make build have it, those of go install do
not. With --name it also prints the versions that the table ZAEL-NAME records; zael
check tells whether they go together.`,
		Example: `  zael version
  zael version --name demo --json`,
		Args: cobra.NoArgs,
	}
	s := addAWS(cmd, askTimeout)
	cmd.Flags().StringVarP(&s.name, "name", "n", "", "also the versions of the limiter `NAME`")
	_ = cmd.RegisterFlagCompletionFunc("name", cobra.NoFileCompletions)
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		v := thisVersion()
		var c *stack.Compatibility
		if cmd.Flags().Changed("name") {
			err := s.withStack(cmd.Context(), func(ctx context.Context, st *stack.Stack) (err error) {
				if c, err = st.Check(ctx); c != nil {
					v.Infrastructure = c.Versions
					return nil // zael check reports what does not go together
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
		fmt.Fprint(a.out, v)
		if c != nil {
			fmt.Fprintln(a.out)
			a.printVersions(c)
		}
		return nil
	})
	return cmd
}
