package wheels

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/zeroae/zael/internal/tail"
)

// Apt installs a package of Debian that has a program, if the program is not on PATH and this
// process may. Otherwise it does nothing: the caller looks for the program.
func Apt(ctx context.Context, progress io.Writer, program, pkg string, env ...string) error {
	missing := func() bool {
		_, err := exec.LookPath(program)
		return err != nil
	}
	apt, err := exec.LookPath("apt-get")
	if !missing() || os.Getuid() != 0 || err != nil {
		return nil
	}
	lockFile, err := InCache("apt.lock")
	if err != nil {
		return err
	}
	unlock, err := Lock(ctx, lockFile)
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
		cmd := exec.CommandContext(ctx, apt, append([]string{"-qq", "-o", "DPkg::Lock::Timeout=600"}, args...)...)
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
		return fmt.Errorf("%w: apt could not install %s: %w: %s", ErrMissing, pkg, err, said)
	}
	return nil
}
