package dynamolocal

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/zeroae/zael/internal/background"
	"github.com/zeroae/zael/internal/tail"
)

// Version is that of DynamoDB Local; engine/pom.xml has it too.
const Version = "2.6.1"

// sumsName lists the jars; a copy of it in their directory is written last.
const sumsName = "jars.sha256"

// ErrMissing says that DynamoDB Local cannot run here: Java or Maven is not
// installed, its jars could not be fetched, or the system is no Unix. The
// error's text has the remedy.
var ErrMissing = errors.New("DynamoDB Local is missing")

//go:embed engine/fetch engine/pom.xml engine/jars.sha256
var engine embed.FS

// CacheDir is where the jars are, in the user's cache directory.
func CacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache directory: %w", err)
	}
	return filepath.Join(dir, "zael", "dynamodb-local-"+Version), nil
}

// check fails where the engine cannot be started.
func check() error {
	if background.Supported {
		return nil
	}
	return fmt.Errorf("%w: starting it on this system: %w: start it by hand", ErrMissing, errors.ErrUnsupported)
}

// Fetch makes sure that dir holds the jars; "" is CacheDir. Where they are missing
// it has Maven fetch them, which takes up to a minute, and tells progress; nil:
// nobody. Any number of processes may do so at once. Fails with ErrMissing.
func Fetch(ctx context.Context, dir string, progress io.Writer) (string, error) {
	if dir == "" {
		var err error
		if dir, err = CacheDir(); err != nil {
			return "", err
		}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("fetching DynamoDB Local: %w", err)
	}
	if installed(dir) {
		return dir, nil
	}
	files, err := os.MkdirTemp("", "zael-fetch-*")
	if err != nil {
		return "", fmt.Errorf("fetching DynamoDB Local: %w", err)
	}
	defer os.RemoveAll(files)
	if err := os.CopyFS(files, engine); err != nil {
		return "", fmt.Errorf("fetching DynamoDB Local: %w", err)
	}
	if err := runFetch(ctx, filepath.Join(files, "engine", "fetch"), dir, progress); err != nil {
		return "", err
	}
	return dir, nil
}

func runFetch(ctx context.Context, script, dir string, progress io.Writer) error {
	if progress == nil {
		progress = io.Discard
	}
	said := new(tail.Tail)
	cmd := exec.CommandContext(ctx, "bash", script, dir)
	cmd.Stderr = io.MultiWriter(progress, said)
	killGroup(cmd)
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("fetching DynamoDB Local: %w", ctx.Err())
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("%w: no bash, which runs the script that fetches it", ErrMissing)
	case err != nil:
		return fmt.Errorf("%w: %s", ErrMissing, lastLines(said.String()))
	}
	return nil
}

// installed tells whether the jars are in dir.
func installed(dir string) bool {
	want, err := engine.ReadFile("engine/" + sumsName)
	if err != nil {
		return false
	}
	have, err := os.ReadFile(filepath.Join(dir, sumsName))
	if err != nil || !bytes.Equal(want, have) {
		return false
	}
	for line := range strings.Lines(string(want)) {
		_, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}

// findJava is the program to run.
func findJava() (string, error) {
	name := "java"
	if home := os.Getenv("JAVA_HOME"); home != "" {
		name = filepath.Join(home, "bin", "java")
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w: no %s: it runs on Java 17 or newer; on Debian install openjdk-17-jre-headless", ErrMissing, name)
	}
	return path, nil
}
