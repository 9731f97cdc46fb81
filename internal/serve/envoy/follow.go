package envoy

import (
	"context"

	"github.com/zeroae/zael/internal/serve/filewatch"
)

// followFiles reads the rules again when their files change, until ctx is done. Rules with mistakes
// change nothing.
func (s *Server) followFiles(ctx context.Context) {
	look := func() filewatch.Fingerprint { return filewatch.OfFolder(s.config.Folder) }
	filewatch.Watch(ctx, s.every, s.seen, look, nil, s.reload)
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
