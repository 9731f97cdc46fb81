package zael_test

import (
	"context"
	"errors"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

// A closing is a store that notes its end.
type closing struct {
	*memstore.Store

	closed int
	err    error
}

func (c *closing) Close(context.Context) error {
	c.closed++
	return c.err
}

func TestCloseStore(t *testing.T) {
	t.Parallel()
	failed := errors.New("on purpose")
	for _, c := range []struct {
		closeStore bool
		err, want  error
		closed     int
	}{{false, failed, nil, 0}, {true, nil, nil, 1}, {true, failed, failed, 1}} {
		s := &closing{Store: memstore.New(nil), err: c.err}
		l, err := zael.New(s, &zael.Config{CloseStore: c.closeStore})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(t.Context()); !errors.Is(err, c.want) {
			t.Errorf("Close with CloseStore %v: got %v, want %v", c.closeStore, err, c.want)
		}
		if err := l.Close(t.Context()); !errors.Is(err, zael.ErrClosed) {
			t.Errorf("Close again: got %v, want ErrClosed", err)
		}
		if s.closed != c.closed {
			t.Errorf("with CloseStore %v: got the store closed %d times, want %d", c.closeStore, s.closed, c.closed)
		}
	}
}
