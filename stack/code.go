package stack

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"io"
)

// Code is the function's code: a zip with an executable file bootstrap for Amazon Linux
// 2023.
type Code struct {
	Zip     []byte
	Version string // of zael that it was built from; empty is the program's own
}

// codePrefix begins the keys of code in a bucket.
const codePrefix = "zael/aggregator/"

func (c Code) missing() bool { return len(c.Zip) == 0 }

func (c Code) sum() [sha256.Size]byte { return sha256.Sum256(c.Zip) }

// key returns the key of the code in a bucket: the same code has the same one.
func (c Code) key() string {
	sum := c.sum()
	return codePrefix + hex.EncodeToString(sum[:]) + ".zip"
}

// remedy says what to do without code.
const remedy = "build the program with `make build`, which puts the function's code into it, or give a zip that `zael lambda-export` wrote, or do without the function (NoAggregator)"

// check returns an error for code that cannot run on an architecture.
func (c Code) check(architecture string) error {
	bad := func(reason string) error { return invalid("Code.Zip", nil, reason) }
	archive, err := zip.NewReader(bytes.NewReader(c.Zip), int64(len(c.Zip)))
	if err != nil {
		return bad("is not a zip (" + err.Error() + "): " + remedy)
	}
	for _, f := range archive.File {
		if f.Name != "bootstrap" {
			continue
		}
		if f.Mode()&0o111 == 0 {
			return bad("has a bootstrap that is not executable: give it the mode 0755")
		}
		machine, err := machineOf(f)
		if err != nil {
			return bad("has a bootstrap that is no program for Linux (" + err.Error() + ")")
		}
		want := map[string]elf.Machine{ARM64: elf.EM_AARCH64, X8664: elf.EM_X86_64}[architecture]
		if machine != want {
			return bad(fmt.Sprintf("is built for %s and the function is to run on %s: give the code for it, or set Options.Architecture", machine, architecture))
		}
		return nil
	}
	return bad("has no bootstrap: " + remedy)
}

func machineOf(f *zip.File) (elf.Machine, error) {
	r, err := f.Open()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	program, err := io.ReadAll(r)
	if err != nil {
		return 0, err
	}
	e, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return 0, err
	}
	defer e.Close()
	return e.Machine, nil
}
