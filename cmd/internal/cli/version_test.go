package cli_test

import (
	"runtime/debug"
	"testing"

	"github.com/zeroae/zael/cmd/internal/cli"
)

// TestVersionText has a case for each way to build zael. What the settings say in each was
// read off such a program with go version -m.
func TestVersionText(t *testing.T) {
	t.Parallel()
	const hash = "2bb6fec8aa71f6ba4f1bb2d4d2f5c0d7e95fbf64"
	vcs := func(modified string) []debug.BuildSetting {
		return []debug.BuildSetting{
			{Key: "vcs", Value: "git"},
			{Key: "vcs.revision", Value: hash},
			{Key: "vcs.time", Value: "2026-11-20T10:11:12Z"},
			{Key: "vcs.modified", Value: modified},
		}
	}
	both := []string{"arm64", "x86_64"}
	for _, c := range []struct {
		how, version string
		settings     []debug.BuildSetting
		functionCode []string
		want         string
	}{
		{
			how: "a release", version: "v1.2.3", settings: vcs("false"), functionCode: both,
			want: "zael v1.2.3\ncommit " + hash + " of 2026-11-20T10:11:12Z\nwith the Lambda function's code for arm64 and x86_64\n",
		},
		{
			how: "a changed clone", version: "v1.2.4-0.20261120101112-2bb6fec8aa71+dirty", settings: vcs("true"),
			want: "zael v1.2.4-0.20261120101112-2bb6fec8aa71+dirty\ncommit " + hash + "+dirty of 2026-11-20T10:11:12Z\nwithout the Lambda function's code\n",
		},
		{
			how: "go install of a version", version: "v1.2.3",
			want: "zael v1.2.3\nwithout the Lambda function's code\n",
		},
		{
			how: "go install of a commit", version: "v1.2.4-0.20261120101112-2bb6fec8aa71",
			want: "zael v1.2.4-0.20261120101112-2bb6fec8aa71\ncommit 2bb6fec8aa71 of 2026-11-20T10:11:12Z\nwithout the Lambda function's code\n",
		},
		{
			how: "without git", version: "(devel)", functionCode: []string{"arm64"},
			want: "zael (devel)\nwith the Lambda function's code for arm64\n",
		},
		{
			how:  "without any build information",
			want: "zael (devel)\nwithout the Lambda function's code\n",
		},
	} {
		got := cli.VersionText(&debug.BuildInfo{Main: debug.Module{Version: c.version}, Settings: c.settings}, c.functionCode...)
		if want := c.want + "time zones: IANA 2025c\ngo1.26.8 linux/arm64\n"; got != want {
			t.Errorf("%s:\ngot  %q\nwant %q", c.how, got, want)
		}
	}
}
