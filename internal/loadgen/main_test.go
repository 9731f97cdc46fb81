package loadgen_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"go.uber.org/goleak"

	"github.com/zeroae/zael/internal/loadgen"
	"github.com/zeroae/zael/memstore"
)

// role is the environment variable with what a process of this test program does.
const role = "ZAEL_LOADGEN_TEST"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		goleak.VerifyTestMain(m)
	case "work":
		if err := loadgen.Work(context.Background(), memstore.New(nil), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "fail": // when it should begin
		in, out := io.Pipe()
		go func() { _, _ = io.Copy(out, os.Stdin) }()
		fmt.Println(`{"ready":true}`)
		_, _ = io.ReadFull(in, make([]byte, 10))
		fmt.Fprintln(os.Stderr, "out of luck")
		os.Exit(7)
	case "babble":
		fmt.Println("hello")
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
}

// processes returns commands that run this program in each of the roles in turn.
func processes(roles ...string) func(context.Context) *exec.Cmd {
	next := 0
	return func(ctx context.Context) *exec.Cmd {
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), role+"="+roles[min(next, len(roles)-1)])
		next++
		return cmd
	}
}
