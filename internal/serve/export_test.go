package serve

import (
	"context"
	"net"
	"sync/atomic"
	"time"
)

// Announce says that the daemon is about to end, as it does before ShutdownDelay.
func (d *Daemon) Announce() { d.announce() }

// NewHealth returns the check of a health that asks by ping.
func NewHealth(ping func(context.Context) error) func(context.Context) (time.Time, error) {
	return (&health{ping: ping}).check
}

// NewConn returns a connection of a boundedListener.
func NewConn(c net.Conn) net.Conn { return newConn(c, new(atomic.Int64)) }
