package stack_test

import (
	"archive/zip"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/zeroae/zael/internal/testrig/dynamotest"
	"github.com/zeroae/zael/internal/testrig/ministack"
	"github.com/zeroae/zael/stack"
)

var (
	table    dynamotest.Engine // DynamoDB Local
	emulator ministack.Engine
)

func TestMain(m *testing.M) { table.Main(emulator.Tests(m)) }

// configOf is for the services at an endpoint of this machine.
func configOf(tb testing.TB, endpoint string) aws.Config {
	tb.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	tb.Cleanup(transport.CloseIdleConnections)
	return aws.Config{
		Region: ministack.Region, BaseEndpoint: aws.String(endpoint), HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider("zael", "zael", ""),
	}
}

var names atomic.Int64

// newName is one that no other test has.
func newName() string { return fmt.Sprintf("test-%d-%d", time.Now().UnixNano()%1e9, names.Add(1)) }

// emulated is a stack on the emulator, which no other test has.
func emulated(tb testing.TB, name string) *stack.Stack {
	tb.Helper()
	s, err := stack.New(configOf(tb, emulator.Endpoint(tb)), name)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("the emulator says of it:\n%s", linesAbout(s.Name(), emulator.Log()))
		}
	})
	return s.Quick()
}

// linesAbout returns the lines of a log that name a stack, at most 20: other tests have theirs in
// it too, and their failures on purpose, and would hide what this one says.
func linesAbout(name, log string) string {
	var lines []string
	for line := range strings.Lines(log) {
		if strings.Contains(line, name) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-20):], "")
}

// program is the least that is one, for a machine, with a note to make it another.
func program(machine elf.Machine, note string) []byte {
	var b bytes.Buffer
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Ehsize: 64, Phentsize: 56, Shentsize: 64}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	if err := binary.Write(&b, binary.LittleEndian, h); err != nil {
		panic(err)
	}
	b.WriteString(note)
	return b.Bytes()
}

// zipOf is a zip with one file.
func zipOf(name string, mode uint32, content []byte) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	h := &zip.FileHeader{Name: name}
	h.SetMode(fs.FileMode(mode))
	f, err := w.CreateHeader(h)
	if err == nil {
		_, err = f.Write(content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err)
	}
	return b.Bytes()
}

// codeOf is code for arm64.
func codeOf(version, note string) stack.Code {
	return stack.Code{Zip: zipOf("bootstrap", 0o755, program(elf.EM_AARCH64, note)), Version: version}
}

// progress collects events; safe for concurrent use.
type progress struct {
	mu     sync.Mutex
	events []stack.Event
}

func (p *progress) note(e stack.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, e)
}

// texts are "resource status", in order.
func (p *progress) texts() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, e := range p.events {
		all = append(all, e.Resource+" "+e.Status)
	}
	return all
}

func contains(t *testing.T, what, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%s: got %q, want it to contain %q", what, got, w)
		}
	}
}
