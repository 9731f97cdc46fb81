package zael_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestGlossary: each identifier in docs/glossary.md is there, as package.Name or
// package.Type.Member. If one was renamed, rename it in the glossary.
func TestGlossary(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/glossary.md")
	if err != nil {
		t.Fatal(err)
	}
	quoted := regexp.MustCompile("`([^`]+)`")
	dirs, declared := packageDirs(t), map[string]map[string]bool{} // by package
	entries := strings.Split(string(text), "\n- **")[1:]
	for _, entry := range entries {
		word, rest, _ := strings.Cut(entry, "**")
		identifiers := quoted.FindAllStringSubmatch(rest, -1)
		if len(identifiers) == 0 {
			t.Errorf("%s: no identifier", word)
		}
		for _, match := range identifiers {
			pkg, name, _ := strings.Cut(match[1], ".")
			if declared[pkg] == nil {
				dir, ok := dirs[pkg]
				if !ok {
					t.Fatalf("no directory of package %s", pkg)
				}
				declared[pkg] = declarations(t, dir)
			}
			if !declared[pkg][name] {
				t.Errorf("%s: package %s has no %s", word, pkg, name)
			}
		}
	}
	if len(entries) < 40 {
		t.Errorf("got %d words in docs/glossary.md, want 40 or more: has its form changed?", len(entries))
	}
}

// packageDirs returns the directories of this module's packages by their names.
func packageDirs(t *testing.T) map[string]string {
	t.Helper()
	dirs := map[string]string{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case d.IsDir() && path != ".":
			dirs[d.Name()] = path
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	dirs["zael"] = "."
	return dirs
}

// declarations returns what the files of a directory declare, tests left out: names of
// the package, and Type.Member.
func declarations(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				names[receiver(d)+d.Name.Name] = true
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch s := spec.(type) {
					case *ast.TypeSpec:
						names[s.Name.Name] = true
						addMembers(names, s)
					case *ast.ValueSpec:
						for _, name := range s.Names {
							names[name.Name] = true
						}
					}
				}
			}
		}
	}
	return names
}

// receiver returns the type of a method followed by a dot, or "" for a function.
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	expr := d.Recv.List[0].Type
	for {
		switch e := expr.(type) {
		case *ast.StarExpr:
			expr = e.X
		case *ast.IndexExpr:
			expr = e.X
		case *ast.Ident:
			return e.Name + "."
		default:
			return ""
		}
	}
}

// addMembers adds the fields of a struct and the methods of an interface.
func addMembers(names map[string]bool, s *ast.TypeSpec) {
	var members *ast.FieldList
	switch e := s.Type.(type) {
	case *ast.StructType:
		members = e.Fields
	case *ast.InterfaceType:
		members = e.Methods
	default:
		return
	}
	for _, m := range members.List {
		for _, name := range m.Names {
			names[s.Name.Name+"."+name.Name] = true
		}
	}
}
