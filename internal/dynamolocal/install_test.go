package dynamolocal_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/zeroae/zael/internal/dynamolocal"
)

func TestPomVersion(t *testing.T) {
	t.Parallel()
	var pom struct {
		Dependencies []struct {
			Artifact string `xml:"artifactId"`
			Version  string `xml:"version"`
		} `xml:"dependencies>dependency"`
	}
	if err := xml.Unmarshal(dynamolocal.Pom(), &pom); err != nil {
		t.Fatal(err)
	}
	if len(pom.Dependencies) != 1 || pom.Dependencies[0].Artifact != "DynamoDBLocal" || pom.Dependencies[0].Version != dynamolocal.Version {
		t.Errorf("pom.xml: got %+v, want DynamoDBLocal %s", pom.Dependencies, dynamolocal.Version)
	}
	if want := fmt.Sprintf("  DynamoDBLocal-%s.jar\n", dynamolocal.Version); !bytes.Contains(dynamolocal.Sums(), []byte(want)) {
		t.Errorf("jars.sha256: got no %q", want)
	}
}

// A machine is one as the script sees it.
type machine struct {
	bin    string // PATH
	home   string
	engine string // the script's directory, with a list of two small jars
}

// small is what a fake mvn does: it writes the jars of the list. It notes that
// it was called in home/calls.
const small = `echo call >>"$HOME/calls"
for word; do case $word in -DoutputDirectory=*) dir=${word#*=};; esac; done
echo a >"$dir/a.jar"; echo b >"$dir/b.jar"`

// newMachine has no more programs than these and the script's own.
func newMachine(t *testing.T, programs ...string) machine {
	t.Helper()
	m := machine{bin: t.TempDir(), home: t.TempDir(), engine: t.TempDir()}
	m.write(t, filepath.Join(m.engine, "pom.xml"), dynamolocal.Pom())
	m.write(t, filepath.Join(m.engine, "jars.sha256"), fmt.Appendf(nil, "%x  a.jar\n%x  b.jar\n", sha256.Sum256([]byte("a\n")), sha256.Sum256([]byte("b\n"))))
	text, err := os.ReadFile("engine/fetch")
	if err != nil {
		t.Fatal(err)
	}
	m.write(t, filepath.Join(m.engine, "fetch"), text)
	for _, name := range append(programs, "bash", "awk", "cat", "cmp", "cp", "dirname", "grep", "mkdir", "mv", "rm", "sed", "sha256sum", "shasum", "tr", "uname") {
		if name == "mvn" {
			writeProgram(t, filepath.Join(m.bin, name), small)
			continue
		}
		if name == "java" {
			writeProgram(t, filepath.Join(m.bin, name), `echo 'openjdk version "17.0.15" 2025-04-15' >&2`)
			continue
		}
		path, err := exec.LookPath(name)
		if err != nil {
			continue // one of sha256sum and shasum will do
		}
		if err := os.Symlink(path, filepath.Join(m.bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func look(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func (m machine) write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// fetch runs the script there, without a directory.
func (m machine) fetch(ctx context.Context, more ...string) (out, complaint string, err error) {
	cmd := exec.CommandContext(ctx, "bash", filepath.Join(m.engine, "fetch"))
	cmd.Env = append([]string{"PATH=" + m.bin, "HOME=" + m.home}, more...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	return stdout.String(), stderr.String(), err
}

func (m machine) calls() int {
	text, err := os.ReadFile(filepath.Join(m.home, "calls"))
	if err != nil {
		return 0
	}
	return strings.Count(string(text), "\n")
}

// mustFetch wants it to work; calls is how often Maven has been called in all.
func (m machine) mustFetch(t *testing.T, calls int, more ...string) string {
	t.Helper()
	out, complaint, err := m.fetch(t.Context(), more...)
	if err != nil {
		t.Fatalf("fetch: %v: %s", err, complaint)
	}
	if got := m.calls(); got != calls {
		t.Errorf("calls of Maven: got %d, want %d", got, calls)
	}
	dir := strings.TrimSuffix(out, "\n")
	for name, want := range map[string]string{"a.jar": "a\n", "b.jar": "b\n"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
		}
	}
	return dir
}

func TestFetch(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "java", "mvn", "flock")
	name := "dynamodb-local-" + dynamolocal.Version

	dir := m.mustFetch(t, 1)
	if want := filepath.Join(m.home, ".cache", "zael", name); dir != want && !strings.HasSuffix(dir, "/Library/Caches/zael/"+name) {
		t.Errorf("directory: got %s, want %s", dir, want)
	}
	m.mustFetch(t, 1)

	// It notices what is missing, changed, or of another list.
	jar := filepath.Join(dir, "b.jar")
	if err := os.Remove(jar); err != nil {
		t.Fatal(err)
	}
	m.mustFetch(t, 2)
	m.write(t, jar, []byte("no jar"))
	m.mustFetch(t, 3)
	m.write(t, filepath.Join(dir, "jars.sha256"), nil)
	m.mustFetch(t, 4)

	// One that was killed in the middle leaves a directory.
	part := dir + ".part.1"
	if err := os.Mkdir(part, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(jar); err != nil {
		t.Fatal(err)
	}
	m.mustFetch(t, 5)
	if _, err := os.Stat(part); !os.IsNotExist(err) {
		t.Errorf("%s: got %v, want it gone", part, err)
	}

	cache := t.TempDir()
	if got, want := m.mustFetch(t, 6, "XDG_CACHE_HOME="+cache), filepath.Join(cache, "zael", name); got != want && !strings.Contains(got, "/Library/") {
		t.Errorf("directory by XDG_CACHE_HOME: got %s, want %s", got, want)
	}
}

// Several at once call Maven once where there is flock, and get the same anyway.
func TestFetchAtOnce(t *testing.T) {
	t.Parallel()
	for _, locks := range []bool{true, false} {
		t.Run(fmt.Sprintf("flock %v", locks), func(t *testing.T) {
			t.Parallel()
			programs := []string{"java", "mvn"}
			if locks {
				if _, err := exec.LookPath("flock"); err != nil {
					t.Skip("there is no flock")
				}
				programs = append(programs, "flock")
			}
			m := newMachine(t, programs...)
			// They meet in Maven, or, where one waits for another, could have.
			wait := "\nuntil [ $(grep -c . \"$HOME/calls\") -ge 3 ]; do :; done"
			if locks {
				wait = "\nsleep 0.2"
			}
			writeProgram(t, filepath.Join(m.bin, "mvn"), small+wait)
			writeProgram(t, filepath.Join(m.bin, "sleep"), "exec "+look(t, "sleep")+` "$@"`)
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					if _, complaint, err := m.fetch(t.Context()); err != nil {
						t.Errorf("fetch: %v: %s", err, complaint)
					}
				})
			}
			wg.Wait()
			calls := m.calls()
			if locks && calls != 1 {
				t.Errorf("calls of Maven: got %d, want 1", calls)
			}
			dir := m.mustFetch(t, calls)
			left, err := filepath.Glob(filepath.Join(filepath.Dir(dir), "*.part.*"))
			if err != nil || len(left) > 0 {
				t.Errorf("left: got %v, %v, want none", left, err)
			}
			if left, err := filepath.Glob(filepath.Join(dir, "*.part.*")); err != nil || len(left) > 0 {
				t.Errorf("left inside: got %v, %v, want none", left, err)
			}
		})
	}
}

func TestFetchFails(t *testing.T) {
	t.Parallel()
	old := func(t *testing.T, m machine) {
		t.Helper()
		writeProgram(t, filepath.Join(m.bin, "java"), `echo 'openjdk version "11.0.2" 2019-01-15' >&2`)
	}
	for name, test := range map[string]struct {
		programs []string
		change   func(*testing.T, machine)
		env      string
		lines    int // of the complaint
		want     []string
	}{
		"no Java":  {[]string{"mvn"}, nil, "", 1, []string{"no java", "Java 17", "install openjdk-17-jre-headless", "zael local"}},
		"old Java": {[]string{"mvn"}, old, "", 1, []string{"too old", "Java 17", "install openjdk-17-jre-headless"}},
		"no Maven": {[]string{"java"}, nil, "", 1, []string{"no mvn", "install maven", "zael local"}},
		"no such JAVA_HOME": {
			[]string{"java", "mvn"}, nil, "JAVA_HOME=/nowhere", 1, []string{"no /nowhere/bin/java", "openjdk-17-jre-headless"},
		},
		"no network": {[]string{"java"}, func(t *testing.T, m machine) {
			t.Helper()
			writeProgram(t, filepath.Join(m.bin, "mvn"), `echo "[ERROR] no route to host"; exit 1`)
		}, "", 3, []string{"[ERROR] no route to host", "could not fetch"}},
		"another jar": {[]string{"java"}, func(t *testing.T, m machine) {
			t.Helper()
			writeProgram(t, filepath.Join(m.bin, "mvn"), small+`; echo c >"$dir/c.jar"`)
		}, "", 2, []string{"c.jar, which jars.sha256 does not list"}},
		"a jar less": {[]string{"java"}, func(t *testing.T, m machine) {
			t.Helper()
			writeProgram(t, filepath.Join(m.bin, "mvn"), small+`; rm "$dir/b.jar"`)
		}, "", 2, []string{"differs from jars.sha256", "b.jar: FAILED open or read"}},
		"another content": {[]string{"java"}, func(t *testing.T, m machine) {
			t.Helper()
			writeProgram(t, filepath.Join(m.bin, "mvn"), small+`; echo c >"$dir/b.jar"`)
		}, "", 2, []string{"differs from jars.sha256", "b.jar: FAILED"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, test.programs...)
			if test.change != nil {
				test.change(t, m)
			}
			out, complaint, err := m.fetch(t.Context(), test.env)
			if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 1 || out != "" {
				t.Errorf("got %v and %q, want exit status 1 and nothing", err, out)
			}
			contains(t, "complaint", complaint, test.want...)
			if got := strings.Count(complaint, "\n"); got != test.lines {
				t.Errorf("lines of the complaint: got %d (%s), want %d", got, complaint, test.lines)
			}
			left, err := filepath.Glob(filepath.Join(m.home, ".cache", "zael", "*[^k]"))
			if err != nil || len(left) > 0 {
				t.Errorf("left: got %v, %v, want at most a lock", left, err)
			}
		})
	}
}

// The program carries the script, its pom and its list.
func TestFetchFromProgram(t *testing.T) {
	jars := need(t)
	m := newMachine(t, "java")
	writeProgram(t, filepath.Join(m.bin, "mvn"), small+`; rm "$dir"/*; cp `+jars+`/*.jar "$dir"`)
	t.Setenv("PATH", m.bin)
	t.Setenv("HOME", m.home)
	t.Setenv("JAVA_HOME", "")
	dir := filepath.Join(m.home, "jars")
	for calls, damage := range []func() error{
		func() error { return nil },
		func() error { return os.Remove(filepath.Join(dir, "DynamoDBLocal-"+dynamolocal.Version+".jar")) },
		func() error { return os.WriteFile(filepath.Join(dir, "jars.sha256"), nil, 0o600) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"fetching DynamoDB Local " + dynamolocal.Version, ""} {
			var progress bytes.Buffer
			if got, err := dynamolocal.Fetch(t.Context(), dir, &progress); err != nil || got != dir {
				t.Fatalf("Fetch: got %q, %v, want %q", got, err, dir)
			}
			if got := progress.String(); !strings.HasPrefix(got, text) || text == "" && got != "" {
				t.Errorf("progress: got %q, want %q", got, text)
			}
			if got, want := m.calls(), calls+1; got != want {
				t.Errorf("calls of Maven: got %d, want %d", got, want)
			}
		}
	}

	if err := os.Remove(filepath.Join(m.bin, "mvn")); err != nil {
		t.Fatal(err)
	}
	_, err := dynamolocal.Fetch(t.Context(), dir+"2", nil)
	if !errors.Is(err, dynamolocal.ErrMissing) {
		t.Errorf("without Maven: got %v, want %v", err, dynamolocal.ErrMissing)
	}
	contains(t, "error without Maven", fmt.Sprint(err), "install maven")

	writeProgram(t, filepath.Join(m.bin, "mvn"), "exec sleep 1000")
	ctx, cancel := context.WithCancel(t.Context())
	started := writerFunc(func(p []byte) (int, error) {
		cancel() // it says that it fetches
		return len(p), nil
	})
	if _, err := dynamolocal.Fetch(ctx, dir+"3", started); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v, want %v", err, context.Canceled)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
