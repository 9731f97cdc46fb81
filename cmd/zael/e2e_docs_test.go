//go:build unix

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/zeroae/zael/internal/testrig/needs"
	"github.com/zeroae/zael/internal/testrig/sdks"
)

// blocks returns the blocks of code of a language in a document.
func blocks(t *testing.T, document, language string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, document))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, block := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		all = append(all, block[1])
	}
	return all
}

// TestDocuments runs the programs of README and of docs/serve.md as they are written, on a server of
// their own: three requests are admitted, the fourth is not.
func TestDocuments(t *testing.T) {
	t.Parallel()
	server := newShop(t).serve("")
	for _, c := range []struct {
		document, language string
		command            []string
		want               string // a pattern
	}{
		{"README.md", "sh", []string{"sh", "-e"}, `(?s)^({"admitted":true.*?"available":[210],[^\n]*\n200\n){3}{"type":.*"error":"rate_limit_exceeded".*\n429\n$`},
		{"docs/serve.md", "sh", []string{"sh", "-e"}, `^(admitted\n){3}refused\n$`},
		{"docs/serve.md", "python", []string{"python3", "-"}, threeAdmitted},
	} {
		server.runs(c.document, c.language, c.want, func(text string) *exec.Cmd {
			cmd := exec.CommandContext(t.Context(), c.command[0], c.command[1:]...)
			cmd.Stdin = strings.NewReader(text)
			return cmd
		})
	}
	server.signal(syscall.SIGTERM)
	server.ended()
}

// TestDocumentsInNode is TestDocuments of the program in JavaScript.
func TestDocumentsInNode(t *testing.T) {
	t.Parallel()
	needs.Engine(t)
	server := newShop(t).serve("")
	server.runs("docs/serve.md", "js", threeAdmitted, func(text string) *exec.Cmd { return sdks.Node(t, text) })
	server.signal(syscall.SIGTERM)
	server.ended()
}

const threeAdmitted = `^(admitted\n){3}come again in 1?[0-9]{1,3}(\.[0-9]+)? s\n$`

// runs checks what the first program of a language in a document prints, with the address of the
// server in place of that which is documented.
func (d *server) runs(document, language, want string, command func(text string) *exec.Cmd) {
	d.t.Helper()
	const documented = "http://127.0.0.1:8080"
	all := blocks(d.t, document, language)
	if len(all) == 0 || !strings.Contains(all[0], documented) {
		d.t.Errorf("%s: got no %s with the address of a server", document, language)
		return
	}
	out, err := command(strings.ReplaceAll(all[0], documented, d.base)).CombinedOutput()
	if err != nil || !regexp.MustCompile(want).Match(out) {
		d.t.Errorf("the %s of %s: got %v and\n%s", language, document, err, out)
	}
}
