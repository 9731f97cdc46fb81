package storetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zeroae/zael"
)

func contextChecks() []check {
	return []check{
		{name: "a done context: all or nothing", run: bucketsDone},
		{name: "callers who leave hold nothing", run: leaversHoldNothing},
	}
}

// done gives two contexts that are done, by name.
func done(ctx context.Context) map[string]context.Context {
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	late, cancel := context.WithDeadline(ctx, time.Now().Add(-time.Second))
	cancel()
	return map[string]context.Context{"cancelled": cancelled, "late": late}
}

// heeds reports whether a call with a done context was made, which a store without I/O
// may do. If it was not, its error must match that of the context.
func heeds(ctx context.Context, what string, err error) (made bool, wrong error) {
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, ctx.Err()):
		return false, nil
	}
	return false, fmt.Errorf("%s with a done context: got %w, want %w or none", what, err, ctx.Err())
}

func bucketsDone(ctx context.Context, e *env) error {
	d := never(10)
	for name, gone := range done(ctx) {
		child, parent := key("child-"+name), key("parent-"+name)
		left := map[bool]int64{true: 7, false: 10}

		taken := []zael.Debit{
			debit(child, ask("rpm", d, 3), ask("tpm", d, 3)),
			debit(parent, ask("rpm", d, 3), ask("tpm", d, 3)),
		}
		_, err := e.take(gone, e.t0, 0, taken...)
		made, err := heeds(gone, "Take", err)
		if err != nil {
			return err
		}
		s := e.script(ctx)
		for _, k := range []zael.Key{child, parent} {
			s.left(0, k, "rpm", d, left[made])
			s.left(0, k, "tpm", d, left[made])
		}

		k := key("alice-" + name)
		_, err = e.adjust(gone, e.t0, debit(k, ask("rpm", d, 3), ask("tpm", d, 3)))
		if made, err = heeds(gone, "Adjust", err); err != nil {
			return err
		}
		s.left(0, k, "rpm", d, left[made])
		s.left(0, k, "tpm", d, left[made])
		if s.err != nil {
			return s.err
		}

		_, got, err := e.read(gone, e.t0, child, k)
		if made, err = heeds(gone, "Buckets", err); err != nil {
			return err
		}
		if made && len(got) != 2 {
			return fmt.Errorf("Buckets with a done context: got %d buckets, want 2", len(got))
		}
	}
	return nil
}
