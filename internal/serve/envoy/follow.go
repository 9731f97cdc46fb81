package envoy

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// lookEvery is how often the files are looked at. A change is taken over when they have been
// the same twice, as a writer may be at work.
const lookEvery = time.Second

// A fingerprint is what can be seen of a folder without reading its files. A mounted ConfigMap
// changes by a link that leads elsewhere, so where links lead is in it.
type fingerprint string

func fingerprintOf(folder string) fingerprint {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return fingerprint(err.Error())
	}
	var all strings.Builder
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		path := filepath.Join(folder, e.Name())
		info, err := os.Stat(path)
		if err != nil {
			fmt.Fprintf(&all, "%s: missing\n", path)
			continue
		}
		leads, _ := filepath.EvalSymlinks(path)
		fmt.Fprintf(&all, "%s: %s, %d bytes, %v\n", path, leads, info.Size(), info.ModTime().UnixNano())
	}
	return fingerprint(all.String())
}

// followFiles reads the rules again when their files change, until ctx is done. Rules with mistakes
// change nothing.
func (s *Server) followFiles(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	last := s.seen
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := fingerprintOf(s.config.Folder)
		if now != s.seen && now == last {
			s.seen = now
			s.reload()
		}
		last = now
	}
}

func (s *Server) reload() {
	read, err := s.read()
	if err != nil {
		s.metrics.load(err)
		s.logLines("the rules stay as they were", err)
		return
	}
	s.accept(read)
	s.log.Info("rules reloaded", "rules", read.Len())
}
