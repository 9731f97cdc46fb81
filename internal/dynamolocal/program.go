package dynamolocal

import (
	"crypto/rand"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// A program is one way to run the engine.
type program struct {
	Options
	port int
	mark string
}

// newMark is a web origin that nobody has. A server allows this one alone
// (without the option -cors it allows none), so its answers, and the command line of its process, tell
// it from all others.
func newMark() string { return "http://" + strings.ToLower(rand.Text()) + ".invalid" }

func (p *program) endpoint() string { return fmt.Sprintf("http://127.0.0.1:%d", p.port) }

// command runs it. It unpacks a library of its own into temp.
func (p *program) command(temp string) []string {
	args := []string{
		p.Java,
		"-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
		"-Djava.io.tmpdir=" + temp,
		"-cp", filepath.Join(p.Dir, "*"),
		"com.amazonaws.services.dynamodbv2.local.main.ServerRunner",
		"-sharedDb", "-disableTelemetry",
		"-port", strconv.Itoa(p.port),
		"-cors", p.mark,
	}
	if p.DataDir == "" {
		return append(args, "-inMemory")
	}
	return append(args, "-dbPath", p.DataDir)
}
