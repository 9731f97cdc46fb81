package serve

import (
	"crypto/tls"
	"fmt"
	"strings"

	"github.com/zeroae/zael/internal/serve/config"
	"github.com/zeroae/zael/internal/serve/filewatch"
)

// fingerprint returns what can be seen of the files that the configuration is from.
func (d *Daemon) fingerprint() filewatch.Fingerprint {
	return filewatch.Of(d.source.File) + filewatch.Of(d.config.Load().Files()...)
}

// reload takes over the configuration if all of it can be used, and says so.
func (d *Daemon) reload() {
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
