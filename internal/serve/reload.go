package serve

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/zeroae/zael/internal/serve/config"
)

// lookEvery is how often the files are looked at. A change is taken over when they have been
// the same twice, as a writer may be at work.
const lookEvery = time.Second

// A fingerprint is what can be seen of files without reading them.
type fingerprint string

func fingerprintOf(files []string) fingerprint {
	var all strings.Builder
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil {
			fmt.Fprintf(&all, "%s: missing\n", name)
			continue
		}
		fmt.Fprintf(&all, "%s: %d bytes, %v\n", name, info.Size(), info.ModTime().UnixNano())
	}
	return fingerprint(all.String())
}

func (f fingerprint) and(other fingerprint) fingerprint { return f + other }

func (d *Daemon) fingerprint() fingerprint {
	return fingerprintOf([]string{d.source.File}).and(fingerprintOf(d.config.Load().Files()))
}

// watch reloads the configuration when its files change, and when it is told to, until ctx is
// done.
func (d *Daemon) watch(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	last := d.seen
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.hangup:
			d.reload()
			last = d.seen
		case <-tick.C:
			now := d.fingerprint()
			if now != d.seen && now == last {
				d.reload()
			}
			last = now
		}
	}
}

// reload takes over the configuration if all of it can be used, and says so.
func (d *Daemon) reload() {
	d.seen = d.fingerprint()
	next, tlsConfig, err := d.loadNext()
	if err == nil {
		err = d.guard.Set(rules(next))
	}
	if err != nil {
		d.metrics.reloads.WithLabelValues("failed").Inc()
		d.metrics.configCurrent.Set(0)
		for reason := range strings.Lines(err.Error()) {
			d.log.Error("the configuration stays as it was", "error", strings.TrimRight(reason, "\n"))
		}
		return
	}
	d.tls.Store(tlsConfig)
	d.level.Set(next.Log.Level)
	d.config.Store(next)
	d.metrics.reloads.WithLabelValues("done").Inc()
	d.metrics.configCurrent.Set(1)
	d.log.Info("configuration reloaded", "tokens", len(next.Tokens), "policies", len(next.Policies))
}

// loadNext loads a configuration that can replace the one that holds.
func (d *Daemon) loadNext() (*config.Config, *tls.Config, error) {
	next, err := d.source.Load()
	if err != nil {
		return nil, nil, err
	}
	if keys := config.NeedRestart(d.config.Load(), next); len(keys) > 0 {
		return nil, nil, fmt.Errorf("%s: a change of %s needs a restart", d.source.File, strings.Join(keys, ", "))
	}
	if next.TLS == nil {
		return next, nil, nil
	}
	tlsConfig, err := next.TLS.Load()
	return next, tlsConfig, err
}
