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

// TestCtrlCAtAQuestion: it ends the question of delete, and nothing is deleted.
func TestCtrlCAtAQuestion(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]struct {
		code int
		says string
	}{"\x03": {130, "interrupted"}, "n\n": {1, "not deleted"}, "\n": {1, "not deleted"}} {
		flags := formation{
			"DescribeStacks": fmt.Sprintf(describedAs, "CREATE_COMPLETE", ""), "ListStackResources": "<a/>", "GetTemplate": "!AccessDenied",
		}.serve(t, func(action string) {
			if action == "DeleteStack" {
				t.Errorf("typed %q: got a call of %s", typed, action)
			}
		})
		keyboard, tty := terminal(t)
		cmd := shop{t: t, store: "memory:"}.command(append([]string{"delete", "-n", "demo"}, flags...)...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		screen, said := bufio.NewReader(keyboard), ""
		for asked := false; ; {
			b, err := screen.ReadByte()
			if err != nil {
				t.Fatalf("typed %q: got %q and %v", typed, said, err)
			}
			said += string(b)
			if !asked && strings.HasSuffix(said, "[y/N] ") {
				asked = true
				if _, err := keyboard.WriteString(typed); err != nil {
					t.Fatal(err)
				}
			}
			if asked && strings.HasSuffix(said, want.says) {
				break
			}
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != want.code || strings.Count(said, "zael: ") != 1 {
			t.Errorf("typed %q: got exit code %d and %q, want %d", typed, code, said, want.code)
		}
	}
}
