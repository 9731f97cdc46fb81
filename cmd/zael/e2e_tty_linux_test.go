package main_test

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal opens a terminal: what is typed into its keyboard, and what programs
// have as /dev/tty.
func terminal(t *testing.T) (keyboard, tty *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("there are no terminals here")
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	fd := int(keyboard.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	return keyboard, tty
}

// TestCtrlC: the terminal sends it to the command, and zael not once more.
func TestCtrlC(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	keyboard, tty := terminal(t)
	cmd := s.command("acquire", "--entity", "e", "--resource", "r", "--limit", "n=10/d", "--", os.Args[0])
	cmd.Env = append(cmd.Env, countInterrupts+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	screen := bufio.NewScanner(keyboard)
	var said []string
	for screen.Scan() {
		line := strings.TrimSpace(screen.Text())
		said = append(said, line)
		if line == "ready" {
			if _, err := keyboard.WriteString("\x03"); err != nil {
				t.Fatal(err)
			}
		}
		if strings.Contains(line, "got ") {
			break
		}
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 4 || !strings.HasSuffix(strings.Join(said, " "), "got 1") {
		t.Errorf("got exit code %d and %q, want 4 and one signal", code, said)
	}
	s.left("10")
}
