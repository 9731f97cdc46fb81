package cli

import (
	"bufio"
	"context"
	"io"
	"runtime/debug"
	"time"

	"github.com/zeroae/zael"
)

// PrintUsageChart prints usage as bars.
func PrintUsageChart(w io.Writer, u *zael.Usage, window zael.Window) {
	a := &app{out: bufio.NewWriter(w)}
	a.printUsageChart(u, window)
	_ = a.out.Flush()
}

// ExitCode is exitCode.
func ExitCode(ctx context.Context, err error) int { return exitCode(ctx, err) }

// Message is message.
func Message(err error) string { return message(err) }

// NewProgress returns the methods of a progress on a terminal.
func NewProgress(terminal io.Writer, size int64, now func() time.Time) (rows func(int64), done func(), reader func(io.Reader) io.Reader) {
	p := newProgress(terminal, size)
	p.out, p.now, p.start = terminal, now, now()
	p.next = p.start.Add(time.Second)
	return p.rows, p.done, p.reader
}

// NewInput is newInput.
func NewInput(ctx context.Context, r io.Reader) io.Reader { return newInput(ctx, r) }

// VersionText is what zael version prints of a program that was built like this, with the
// function's code for some architectures.
func VersionText(info *debug.BuildInfo, functionCode ...string) string {
	v := versionFrom(info)
	v.FunctionCode, v.Go, v.Platform, v.TimeZones = functionCode, "go1.26.8", "linux/arm64", "2025c"
	return v.String()
}
