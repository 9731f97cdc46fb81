// Package apt installs packages of Debian for tests.
package apt

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/zeroae/zael/internal/background"
	"github.com/zeroae/zael/internal/tail"
	"github.com/zeroae/zael/internal/wheels"
)

// Install installs a package of Debian that has a program, if the program is not on PATH and this
// process may. Otherwise it does nothing: the caller looks for the program.
func Install(ctx context.Context, progress io.Writer, program, pkg string, env ...string) error {
	missing := func() bool {
		_, err := exec.LookPath(program)
		return err != nil
	}
	tool, err := exec.LookPath("apt-get")
	if !missing() || os.Getuid() != 0 || err != nil {
		return nil
	}
	lockFile, err := wheels.InCache("apt.lock")
	if err != nil {
		return err
	}
	unlock, err := background.Lock(ctx, lockFile)
	if err != nil {
		return fmt.Errorf("installing %s: %w", pkg, err)
	}
	defer unlock()
	if !missing() {
		return nil
	}
	fmt.Fprintf(progress, "installing %s by apt, once\n", pkg)
	said := new(tail.Tail)
	run := func(args ...string) error {
		cmd := exec.CommandContext(ctx, tool, append([]string{"-qq", "-o", "DPkg::Lock::Timeout=600"}, args...)...)
		cmd.Env = append(append(os.Environ(), "DEBIAN_FRONTEND=noninteractive"), env...)
		cmd.Stdout, cmd.Stderr = said, said
		return cmd.Run()
	}
	install := []string{"install", "-y", "--no-install-recommends", pkg}
	if run(install...) == nil {
		return nil
	}
	if err = run("update"); err == nil {
		err = run(install...)
	}
	if err != nil {
		return fmt.Errorf("%w: apt could not install %s: %w: %s", wheels.ErrMissing, pkg, err, said)
	}
	return nil
}
