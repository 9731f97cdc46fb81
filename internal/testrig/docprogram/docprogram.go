// Package docprogram checks the programs with which the documentation of packages begins.
package docprogram

import (
	"context"
	"errors"
	"fmt"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Of returns the program with which the documentation of the package in dir begins: its
// first block of code, which must be a whole one.
func Of(dir string) (string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return "", err
	}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			return "", err
		}
		if file.Doc == nil {
			continue
		}
		for _, block := range new(comment.Parser).Parse(file.Doc.Text()).Content {
			code, ok := block.(*comment.Code)
			if !ok {
				continue
			}
			if !strings.HasPrefix(code.Text, "package main\n") {
				return "", fmt.Errorf("the documentation in %s begins with code that is no program", path)
			}
			return code.Text, nil
		}
	}
	return "", errors.New("the documentation of the package in " + dir + " has no code")
}

// Vet checks that a program compiles, and vets it, with the imports of the module in dir.
// It writes the program into temp.
func Vet(ctx context.Context, dir, temp, program string) error {
	path := filepath.Join(temp, "main.go")
	if err := os.WriteFile(path, []byte(program), 0o600); err != nil {
		return err
	}
	vet := exec.CommandContext(ctx, "go", "vet", path)
	vet.Dir = dir
	if out, err := vet.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s\n%s", err, out, program)
	}
	return nil
}
