package rules

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Files reads the files of a folder, in the order of their names. Those whose name begins
// with a dot are left out: a mounted ConfigMap keeps its versions in such folders, and
// links to the files of the newest.
func Files(folder string) (files []File, err error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		f, err := readFile(filepath.Join(folder, e.Name()))
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// readFile reads a file of at most MaxBytes.
func readFile(name string) (f File, err error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return f, err
	case !info.Mode().IsRegular():
		return f, fmt.Errorf("%s: not a file: a folder of rules has files of rules alone", name)
	}
	open, err := os.Open(name)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, open.Close()) }()
	text, err := io.ReadAll(io.LimitReader(open, MaxBytes+1))
	if err != nil {
		return f, err
	}
	if len(text) > MaxBytes {
		return f, fmt.Errorf("%s: more than %d MiB", name, MaxBytes>>20)
	}
	return File{name, text}, nil
}
