// Command pack builds cmd/zael-aggregator and zips it as Lambda wants it. The
// same source, toolchain and architecture give the same bytes.
package main

import (
	"archive/zip"
	"compress/flate"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

func main() {
	arch := flag.String("arch", runtime.GOARCH, "arm64 or amd64")
	out := flag.String("o", "", "the zip to write")
	flag.Parse()
	if err := pack(*arch, *out); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

// pack builds and zips. The zip appears whole or not at all.
func pack(arch, out string) error {
	if out == "" {
		return fmt.Errorf("name the zip to write with -o")
	}
	dir, err := os.MkdirTemp(filepath.Dir(out), ".pack-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program, zipped := filepath.Join(dir, "bootstrap"), filepath.Join(dir, "zip")
	if err := build(arch, program); err != nil {
		return err
	}
	code, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	f, err := os.Create(zipped)
	if err != nil {
		return err
	}
	if err := write(f, code); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(zipped, out)
}

func build(arch, program string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags", "lambda.norpc", //nolint:noctx // ends with us
		"-ldflags", "-s -w -buildid=", "-o", program, "github.com/zeroae/zael/cmd/zael-aggregator")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building for %s: %w", arch, err)
	}
	return nil
}

// write zips a program under the name that Lambda looks for.
func write(w io.Writer, code []byte) error {
	z := zip.NewWriter(w)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	h := &zip.FileHeader{Name: "bootstrap", Method: zip.Deflate, Modified: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)}
	h.SetMode(0o755)
	f, err := z.CreateHeader(h)
	if err != nil {
		return err
	}
	if _, err := f.Write(code); err != nil {
		return err
	}
	return z.Close()
}
