package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// A newFile is written under a temporary name and then renamed, so that nobody sees a
// part of it.
type newFile struct {
	*bufio.Writer
	file *os.File
	path string
	done bool // kept or discarded
}

// create creates a new file. It fails if path is something that cannot be replaced.
func create(path string) (*newFile, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	temporary := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%d.tmp", filepath.Base(path), os.Getpid()))
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, writing(path, err)
	}
	return &newFile{Writer: bufio.NewWriter(f), file: f, path: path}, nil
}

// keep gives the file its name.
func (n *newFile) keep() error {
	n.done = true
	err := errors.Join(n.Flush(), n.file.Close())
	if err == nil {
		err = os.Rename(n.file.Name(), n.path)
	}
	if err != nil {
		_ = os.Remove(n.file.Name())
		return writing(n.path, err)
	}
	return nil
}

// writing adds path to err, instead of the temporary name.
func writing(path string, err error) error {
	var p *fs.PathError
	if errors.As(err, &p) && p.Err != nil {
		err = p.Err
	}
	return fmt.Errorf("writing %s: %w", path, err)
}

// discard removes the file unless it was kept.
func (n *newFile) discard() {
	if n.done {
		return
	}
	n.done = true
	_ = n.file.Close()
	_ = os.Remove(n.file.Name())
}

// writeFile writes a file completely, or not at all.
func writeFile(path string, data []byte) error {
	f, err := create(path)
	if err != nil {
		return err
	}
	defer f.discard()
	if _, err := f.Write(data); err != nil {
		return writing(path, err)
	}
	return f.keep()
}
