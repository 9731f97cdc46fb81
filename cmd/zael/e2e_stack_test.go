//go:build unix

package main_test

import (
	"archive/zip"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/zeroae/zael/internal/testrig/ministack"
)

var emulator ministack.Engine

// A cloud is the program with an emulator of AWS.
type cloud struct {
	shop
	flags []string
}

func newCloud(t *testing.T) cloud {
	t.Helper()
	return cloud{shop{t: t, store: "memory:"}, []string{"--endpoint-url", emulator.Endpoint(t)}}
}

// says runs the program with the emulator's flags and wants an exit code and a text.
func (c cloud) says(code int, want string, args ...string) string {
	c.t.Helper()
	out, errs := c.run(code, append(args, c.flags...)...)
	if !strings.Contains(out+errs, want) {
		c.t.Errorf("zael %s: got %q and %q, want %q", strings.Join(args, " "), out, errs, want)
	}
	return out
}

// codeZip is a zip that could be the function's, by its looks; notes make it another one.
func codeZip(t *testing.T, notes ...string) (path, architecture string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "code.zip")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := zip.NewWriter(f)
	h := &zip.FileHeader{Name: "bootstrap", Method: zip.Deflate}
	h.SetMode(0o755)
	entry, err := w.CreateHeader(h)
	if err != nil {
		t.Fatal(err)
	}
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[runtime.GOARCH]
	head := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Ehsize: 64, Phentsize: 56, Shentsize: 64}
	copy(head.Ident[:], elf.ELFMAG)
	head.Ident[elf.EI_CLASS], head.Ident[elf.EI_DATA], head.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	if err := binary.Write(entry, binary.LittleEndian, head); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(entry, strings.Join(notes, "")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path, map[string]string{"amd64": "x86_64", "arm64": "arm64"}[runtime.GOARCH]
}

// TestStack: the life of a stack, as a user leads it.
func TestStack(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the function is a program for Linux")
	}
	c := newCloud(t)
	code, architecture := codeZip(t)
	deploy := func(more ...string) []string {
		return append([]string{"deploy", "--name", "cli", "--code", code, "--architecture", architecture}, more...)
	}
	c.says(1, "there is no stack ZAEL-cli in us-east-1", "status", "--name", "cli")
	c.says(1, "there is no table ZAEL-cli in us-east-1", "check", "--name", "cli")
	c.says(1, "there is no stack ZAEL-cli", "upgrade", "--name", "cli")
	c.says(0, "CREATE_COMPLETE              Table ", "deploy", "--name", "cli", "--code", code) // for this machine, as the emulator runs on it
	c.says(0, "function on "+architecture, "status", "-n", "cli")
	c.says(0, "ZAEL-cli: up to date", deploy()...)
	c.says(0, "modify  ", deploy("--retention-days", "30", "--tag", "team=a")...)
	c.says(0, "kept 30 days", "status", "-n", "cli")
	c.says(0, "compatible\n", "check", "-n", "cli")
	c.says(0, "aggregator", "version", "-n", "cli")
	c.says(0, "up to date", "upgrade", "-n", "cli", "--code", code)
	c.says(0, "up to date", "upgrade", "-n", "cli", "--lambda-only", "--code", code)
	c.says(0, "ZAEL-cli: ", "upgrade", "-n", "cli") // also by a program that was built without the code
	other, _ := codeZip(t, "other")
	line, _ := c.run(0, "version")
	version := strings.Fields(line)[1] // of the commit, or (devel) where the build does not tell
	c.says(0, fmt.Sprintf("ZAEL-cli: not changed\n  the aggregator's code stays: it is %s and this program's %s, so neither is known to be newer; zael upgrade --force replaces it\n", version, version), "upgrade", "-n", "cli", "--code", other)
	c.says(0, "ZAEL-cli: updated", "upgrade", "-n", "cli", "--code", other, "--force")
	c.says(0, "ZAEL-cli: updated", "upgrade", "-n", "cli", "--code", code, "--force")
	c.says(0, "ZAEL-cli  ", "list")
	var status struct {
		Options struct {
			Retention int               `json:"retention_days"`
			Tags      map[string]string `json:"tags"`
		} `json:"options"`
		Drift []any `json:"drift"`
	}
	out := c.says(0, "", "status", "-n", "cli", "--json")
	if err := json.Unmarshal([]byte(out), &status); err != nil || status.Options.Retention != 30 || status.Options.Tags["team"] != "a" || len(status.Drift) != 0 {
		t.Errorf("got %+v (%v), want what was deployed, and no drift", status, err)
	}

	out = c.says(0, "", deploy("--retention-days", "30", "--tag", "team=a", "--json")...)
	var result struct {
		Store string `json:"store"`
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil || !strings.HasPrefix(result.Store, "dynamodb://cli?") || !strings.Contains(result.Store, "usage=true") {
		t.Fatalf("got %s (%v), want the store", out, err)
	}
	onTable := shop{t: t, store: result.Store}
	onTable.run(0, under("true")...)
	onTable.left("9")

	for _, yes := range []string{"", "=true", "=TRUE", "=1", "=t"} {
		want := "up to date"
		if yes == "" {
			want = "ZAEL-cli: updated"
		}
		c.says(0, want, deploy("--deletion-protection"+yes)...)
	}
	c.says(0, "protected  yes", "status", "-n", "cli")
	c.says(1, "it is protected from deletion", "delete", "-n", "cli", "--yes")
	c.says(0, "ZAEL-cli: updated", deploy("--deletion-protection=False")...)
	c.says(0, "protected  no", "status", "-n", "cli")
	c.says(2, "say --yes if you mean it", "delete", "-n", "cli")
	c.says(0, "ZAEL-cli: deleted", "delete", "-n", "cli", "--yes")
	c.says(0, "ZAEL-cli: there is none", "delete", "-n", "cli", "--yes")
	c.says(0, "ZAEL-bare: created", "deploy", "-n", "bare", "--no-aggregator", "--no-alarms")
	c.says(1, "ZAEL-bare has no aggregator", "upgrade", "-n", "bare", "--code", code)
	c.says(0, "ZAEL-bare: up to date", "upgrade", "-n", "bare")
	c.says(0, "", "delete", "-n", "bare", "--yes")
	c.says(0, "ZAEL-later: begun", "deploy", "-n", "later", "--no-aggregator", "--no-alarms", "--no-wait")
	c.says(0, "ZAEL-later: begun", "delete", "-n", "later", "--no-wait", "--yes")
}

func TestStackUsage(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	for args, want := range map[string]string{
		"deploy --retention-days 4000":                "--retention-days 4000 is not 1 to 3650 days",
		"deploy --snapshot-windows yearly":            `--snapshot-windows "yearly" is not one of`,
		"deploy --snapshot-windows=":                  "--snapshot-windows is empty: give a value, or leave the flag out",
		"deploy --snapshot-windows hourly,":           `--snapshot-windows "" is not one of hourly, daily and monthly, each once: leave it out`,
		"deploy --retention-days=":                    `"" for "--retention-days" flag: it is a whole number`,
		"deploy --tag=":                               `"" is not KEY=VALUE`,
		"deploy --alarm-sns-topic=":                   "--alarm-sns-topic is empty",
		"deploy --architecture=":                      "--architecture is empty",
		"deploy --region=":                            "--region is empty",
		"deploy --code main.go --code-bucket B":       `--code-bucket "B" is not the name of a bucket`,
		"deploy --no-aggregator --lambda-memory 1024": "--lambda-memory says nothing beside --no-aggregator",
		"deploy --enable-aggregator=false --code x":   "--code says nothing beside --no-aggregator",
		"deploy --no-alarms --alarm-sns-topic arn:aws:sns:us-east-1:123456789012:alarms":     "--alarm-sns-topic says nothing beside --no-alarms",
		"deploy --no-aggregator --alarm-sns-topic arn:aws:sns:eu-west-1:123456789012:alarms": "is in eu-west-1 and the stack in us-east-1",
		"deploy --architecture arm --code x":                                                 `--architecture "arm" is not arm64 or x86_64`,
		"deploy --tag a=1 --tag a=2":                                                         "a is given twice",
		"deploy --deletion-protection=yes":                                                   `"yes" for "--deletion-protection" flag: it is true or false`,
		"deploy --deletion-protection false":                                                 "has its value behind =, as --deletion-protection=false",
		"deploy --no-aggregator --timeout 5":                                                 `"5" for "--timeout" flag: it is a time such as 30s or 5m`,
		"upgrade demo":                                                                       "--name demo",
		"check demo":                                                                         "--name demo",
		"upgrade --code=":                                                                    "--code is empty",
		"upgrade --code-bucket=":                                                             "--code-bucket is empty",
		"version --name=":                                                                    "--name is empty",
		"cfn-template --output=":                                                             "--output is empty",
		"deploy --role-name-format x":                                                        "--role-name-format",
		"deploy --tag aws:x=1":                                                               "--tag",
		"deploy --name 9":                                                                    `--name "9" is not a letter`,
		"deploy --no-alarms --enable-alarms":                                                 "none of the others can be",
		"deploy --timeout 0s":                                                                "--timeout 0s is not above 0",
		"delete":                                                                             `required flag(s) "name" not set`,
		"status":                                                                             `required flag(s) "name" not set`,
		"list --endpoint-url ftp://127.0.0.1":                                                "--endpoint-url",
		"lambda-export --architecture sparc":                                                 "--architecture",
		"lambda-export --output=":                                                            "--output is empty",
		"aggregate --store memory:":                                                          "is not in DynamoDB",
		"redrive --store memory:":                                                            "Limiter.Usage",
		"redrive --store sqlite:x.db":                                                        "zael usage shows that of a SQLite file",
		"redrive --store dynamodb://x --max -1":                                              "--max -1 is negative",
		"aggregate --store dynamodb://x --lease 0":                                           "--lease",
	} {
		words := strings.Fields(args)
		if strings.HasPrefix(args, "deploy") || args == "delete" || args == "status" {
			words = append(words, c.flags...)
		}
		if out, errs := c.run(2, words...); !strings.Contains(errs, want) || out != "" {
			t.Errorf("zael %s: got %q and %q, want %q", args, out, errs, want)
		}
	}
	other := map[string]string{"amd64": "arm64", "arm64": "x86_64"}[runtime.GOARCH]
	if _, errs := c.run(1, append([]string{"deploy", "--architecture", other, "--code", "none.zip"}, c.flags...)...); !strings.Contains(errs, "one for "+other+" will count no usage") {
		t.Errorf("deploy for another machine: got %q, want a warning", errs)
	}
	c.run(4, "list", "--endpoint-url", "http://127.0.0.1:1")
}

// TestExport: what others deploy by.
func TestExport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := shop{t: t, store: "memory:"}
	template, _ := s.run(0, "cfn-template")
	file := filepath.Join(dir, "zael.yaml")
	s.run(0, "cfn-template", "--output", file)
	if written, err := os.ReadFile(file); err != nil || string(written) != template || !strings.Contains(template, "AWS::DynamoDB::Table") {
		t.Errorf("got %d bytes and %d (%v), want the template", len(template), len(written), err)
	}
	zipped := filepath.Join(dir, "lambda.zip")
	cmd := s.command("lambda-export", "--output", zipped, "--json")
	out, err := cmd.CombinedOutput()
	if err != nil { // this program was built without it, as go install builds it
		if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(string(out), "make build") {
			t.Errorf("got exit code %d and %s, want what to do", code, out)
		}
		if _, err := os.Stat(zipped); err == nil {
			t.Error("got a file, want none")
		}
		return
	}
	var e struct {
		Bytes int64 `json:"bytes"`
	}
	info, err := os.Stat(zipped)
	if err != nil || json.Unmarshal(out, &e) != nil || info.Size() != e.Bytes {
		t.Errorf("got %s (%v), want a file of that size", out, err)
	}
	if out, errs := s.run(1, "lambda-export", "-o", zipped); !strings.Contains(errs, "--force") {
		t.Errorf("again: got %q and %q, want that it is there", out, errs)
	}
	if out, _ := s.run(0, "lambda-export", "-o", zipped, "-f"); !strings.Contains(out, fmt.Sprint("wrote ", zipped)) {
		t.Errorf("with force: got %q", out)
	}
}
