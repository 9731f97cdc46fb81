package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Output and exit codes are those of ratelimit_config_check.
func TestRLSCheck(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	file := filepath.Join(folder, "a.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// As a ConfigMap is mounted: links into a folder that a point hides.
	if err := os.Mkdir(filepath.Join(folder, "..data"), 0o700); err != nil {
		t.Fatal(err)
	}
	opened := "checking rate limit configs...\nloading config directory: " + folder + "\nopening config file: " + file + "\n"

	write("domain: d\ndescriptors: [{key: a, unlimited: true, rate_limit: {unit: day, requests_per_unit: 1}}]")
	r := zaelIn("", "rls", "check", folder)
	if r.code != 0 || r.out != opened+"all rate limit configs ok\n" || r.err != "warning: "+file+":2: a descriptor: the key unlimited has no effect here\n" {
		t.Errorf("good rules: got %+v", r)
	}

	write("domain: d\ndescriptors: [{kye: a}]")
	r = zaelIn("", "rls", "check", folder)
	if r.code != 1 || r.out != opened || !strings.HasPrefix(r.err, "zael: error loading rate limit configs: "+file+`:2: a descriptor: unknown key "kye"`) {
		t.Errorf("a mistake: got %+v", r)
	}

	write("domain: d")
	if err := os.WriteFile(filepath.Join(folder, "b.yaml"), []byte("domain: d"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r = zaelIn("", "rls", "check", folder); r.code != 1 || !strings.Contains(r.err, "b.yaml:1: duplicate domain 'd'") {
		t.Errorf("a domain twice: got %+v", r)
	}
	if r = zaelIn("", "rls", "check", "--merge-domain-configs", folder); r.code != 0 {
		t.Errorf("a domain twice, merged: got %+v", r)
	}

	if err := os.Mkdir(filepath.Join(folder, "c"), 0o700); err != nil {
		t.Fatal(err)
	}
	if r = zaelIn("", "rls", "check", folder); r.code != 1 || !strings.Contains(r.err, "c: not a file") {
		t.Errorf("a folder within: got %+v", r)
	}
	if r = zaelIn("", "rls", "check", filepath.Join(folder, "none")); r.code != 1 {
		t.Errorf("no folder: got %+v", r)
	}
	if r = zaelIn("", "rls", "check"); r.code != 2 {
		t.Errorf("no argument: got %+v", r)
	}
}
