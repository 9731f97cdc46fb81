package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/zeroae/zael/internal/serve/ratelimit"
	"github.com/zeroae/zael/stores"
)

// StandsIn reports whether the program was started under the name of envoyproxy/ratelimit's:
// then it is that, see RateLimit.
func StandsIn(program string) bool {
	return strings.TrimSuffix(filepath.Base(program), ".exe") == "ratelimit"
}

// RateLimit is the program ratelimit, which reads the variables of envoyproxy/ratelimit and
// serves until ctx is done. It returns the exit code.
func RateLimit(ctx context.Context, environ []string, log io.Writer) int {
	settings, err := ratelimit.Read(environ)
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(log, "ratelimit: %s\n", strings.TrimRight(line, "\n"))
		}
		return exitUsage
	}
	p, err := ratelimit.New(ctx, &ratelimit.Options{
		Settings: settings, Log: log,
		Open: func(ctx context.Context, url string) (ratelimit.Store, error) { return stores.Open(ctx, url) },
	})
	if err == nil {
		err = p.Run(ctx)
	}
	if err != nil {
		fmt.Fprintf(log, "ratelimit: %v\n", err)
		return exitCode(ctx, err)
	}
	return exitDone
}
