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

// Vet checks that programs compile, and vets them, with the imports of the module in dir, as one
// program that calls the main of each. It writes them into temp. What they import is built with the
// flags in ZAEL_BUILD: with those of the tests, which make sets, it is built already.
func Vet(ctx context.Context, dir, temp string, programs ...string) error {
	args, calls := []string{"vet"}, ""
	write := func(name, text string) error {
		path := filepath.Join(temp, name)
		args = append(args, path)
		return os.WriteFile(path, []byte(text), 0o600)
	}
	for i, program := range programs {
		before, after, ok := strings.Cut(program, "\nfunc main() {\n")
		if !ok {
			return fmt.Errorf("no func main in\n%s", program)
		}
		name := fmt.Sprintf("program%d", i)
		if err := write(name+".go", before+"\nfunc "+name+"() {\n"+after); err != nil {
			return err
		}
		calls += "\t" + name + "()\n"
	}
	if err := write("main.go", "package main\n\nfunc main() {\n"+calls+"}\n"); err != nil {
		return err
	}
	vet := exec.CommandContext(ctx, "go", args...)
	vet.Dir = dir
	if flags := os.Getenv("ZAEL_BUILD"); flags != "" {
		vet.Env = append(os.Environ(), "GOFLAGS="+os.Getenv("GOFLAGS")+" "+flags)
	}
	if out, err := vet.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s\n%s", err, out, strings.Join(programs, "\n"))
	}
	return nil
}
