// Package filewatch notices that files have changed, without reading them.
package filewatch

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// defaultEvery is how often files are looked at. A change counts when they have been the same twice, as
// a writer may be at work.
const defaultEvery = time.Second

// A Fingerprint is what can be seen of files. A mounted ConfigMap changes by a link that leads
// elsewhere, so where links lead is in it.
type Fingerprint string

// Of returns the fingerprint of files.
func Of(files ...string) Fingerprint {
	var all strings.Builder
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil {
			fmt.Fprintf(&all, "%s: missing\n", name)
			continue
		}
		leads, _ := filepath.EvalSymlinks(name)
		fmt.Fprintf(&all, "%s: %s, %d bytes, %v\n", name, leads, info.Size(), info.ModTime().UnixNano())
	}
	return Fingerprint(all.String())
}

// OfFolder returns the fingerprint of the files in a folder whose names do not begin with a dot.
func OfFolder(folder string) Fingerprint {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return Fingerprint(err.Error())
	}
	var files []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			files = append(files, filepath.Join(folder, e.Name()))
		}
	}
	return Of(files...)
}

// Watch calls reload when what look sees has changed since it was as in seen, and when it is told to,
// until ctx is done. It looks as often as every says, each second if that is 0. What is seen before a
// reload is what that has read.
func Watch(ctx context.Context, every time.Duration, seen Fingerprint, look func() Fingerprint, told <-chan struct{}, reload func()) {
	tick := time.NewTicker(cmp.Or(every, defaultEvery))
	defer tick.Stop()
	last := seen
	for {
		select {
		case <-ctx.Done():
			return
		case <-told:
			seen = look()
			last = seen
			reload()
		case <-tick.C:
			now := look()
			if now != seen && now == last {
				seen = now
				reload()
			}
			last = now
		}
	}
}
