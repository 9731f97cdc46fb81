// Package child runs this program once more, as a server in a process of its own that says its
// address first and then answers lines.
package child

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
)

// A Child is such a process.
type Child struct {
	Address string

	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// Start runs this program with arguments. It serves until Stop closes its standard input.
func Start(args ...string) (*Child, error) {
	c := &Child{cmd: exec.Command(os.Args[0], args...)} //nolint:noctx,gosec // this program, ended by Stop
	c.cmd.Stderr = os.Stderr
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := c.out.ReadString('\n')
	c.Address = strings.TrimSpace(line)
	return c, err
}

// Ask sends a line and returns the one that answers it.
func (c *Child) Ask(line string) (string, error) {
	if _, err := io.WriteString(c.in, line+"\n"); err != nil {
		return "", err
	}
	return c.out.ReadString('\n')
}

// Stop ends the process and waits for it.
func (c *Child) Stop() error { return errors.Join(c.in.Close(), c.cmd.Wait()) }
