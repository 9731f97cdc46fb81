package zael_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/zeroae/zael/internal/testrig/docprogram"
)

// TestPackagesBeginWithAProgram: the documentation of the packages for the edges of a
// program begins with a whole one, which compiles. tests/sdk has the same test for package
// llm, whose program needs an SDK.
func TestPackagesBeginWithAProgram(t *testing.T) {
	t.Parallel()
	var programs []string
	for _, dir := range []string{"httplimit", "grpclimit", "telemetry", "client"} {
		program, err := docprogram.Of(dir)
		if err != nil {
			t.Error(err)
			continue
		}
		programs = append(programs, program)
	}
	if err := docprogram.Vet(t.Context(), ".", t.TempDir(), programs...); err != nil {
		t.Error(err)
	}
}

// TestReadmeIsCompiled: each block of Go in the README is text of a file or of a package's
// program, which the compiler has seen; an ellipsis in it leaves lines out.
func TestReadmeIsCompiled(t *testing.T) {
	t.Parallel()
	texts := compiledTexts(t)
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```go\n(.*?)^```$").FindAllStringSubmatch(string(readme), -1)
	if len(blocks) < 6 {
		t.Errorf("%d blocks of Go, want one to begin with, one of limits, and four of edges", len(blocks))
	}
	for _, block := range blocks {
		if !anyContains(texts, block[1]) {
			t.Errorf("no file has this text:\n%s", block[1])
		}
	}
}

// anyContains reports whether a text has the pieces of a block in their order.
func anyContains(texts []string, block string) bool {
	pieces := strings.Split("\n"+flush(block), "\n…\n")
	for _, text := range texts {
		rest, found := "\n"+text, true
		for _, piece := range pieces {
			_, rest, found = strings.Cut(rest, "\n"+strings.Trim(piece, "\n")+"\n")
			if !found {
				break
			}
			rest = "\n" + rest
		}
		if found {
			return true
		}
	}
	return false
}

// flush returns lines without the space that they begin with.
func flush(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.TrimLeft(line, "\t "))
	}
	return b.String()
}

// compiledTexts returns the texts of all files, and of the programs of packages.
func compiledTexts(t *testing.T) (texts []string) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() != "." && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		text, err := os.ReadFile(path)
		texts = append(texts, flush(string(text)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"httplimit", "grpclimit", "telemetry", "llm"} {
		program, err := docprogram.Of(dir)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, flush(program))
	}
	return texts
}
