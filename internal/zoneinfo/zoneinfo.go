// Package zoneinfo has the time zones of the IANA database as they are in the program,
// so that every process computes the same calendars, whatever its system has installed.
// The data are in the public domain: https://www.iana.org/time-zones.
package zoneinfo

import (
	"archive/zip"
	_ "embed" // for the data
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"
)

// Version is the release of the IANA database that data has. The file is
// lib/time/zoneinfo.zip of the Go distribution.
const Version = "2025c"

//go:embed zoneinfo.zip
var data string

// A Zone is a time zone: the offsets of its wall clock from UTC over the years 1995 to
// 2055. It never changes.
type Zone struct {
	Name  string
	spans []span
	skips []int64 // the transitions, in seconds since 1970, at which the wall clock skips most of a day
}

// A span is a time in which the offset stays the same, until the next span begins.
type span struct {
	start  int64 // seconds since 1970, UTC
	offset int64 // seconds east of UTC
}

// The seconds since 1970 between which zones have their transitions.
const (
	first = 788918400  // 1995-01-01
	last  = 2713910400 // 2056-01-01
)

// MaxOffset is more than the offset of any zone from UTC, in seconds.
const MaxOffset = 20 * 3600

// skip is what the wall clock must jump by for a date to be missing that is a day long,
// in seconds.
const skip = 20 * 3600

// Load returns the zone of a name, which is exactly as the IANA database has it, such as
// "Europe/Berlin" or "UTC".
func Load(name string) (*Zone, error) {
	if z, ok := zones.Load(name); ok {
		return z.(*Zone), nil //nolint:forcetypeassert // nothing else is stored
	}
	z, err := read(name)
	if err != nil {
		return nil, err
	}
	kept, _ := zones.LoadOrStore(name, z)
	return kept.(*Zone), nil //nolint:forcetypeassert // nothing else is stored
}

// Location returns the zone of a name for package time.
func Location(name string) (*time.Location, error) {
	if name == "" || name == "Local" {
		return nil, unknown(name)
	}
	files, err := directory()
	if err != nil {
		return nil, err
	}
	f := files[name]
	if f == nil {
		return nil, unknown(name)
	}
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("zone %s: %w", name, err)
	}
	tz, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("zone %s: %w", name, errors.Join(err, r.Close()))
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("zone %s: %w", name, err)
	}
	return time.LoadLocationFromTZData(name, tz)
}

// ErrUnknown is matched by errors about zones that the IANA database does not have.
var ErrUnknown = errors.New("no such time zone")

func unknown(name string) error {
	return fmt.Errorf("%w: %q is not a name of the IANA database, such as Europe/Berlin or UTC", ErrUnknown, name)
}

// Names returns the names of all zones, sorted.
func Names() ([]string, error) {
	files, err := directory()
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

//nolint:gochecknoglobals // what Load has read, and the index of the data; neither changes what is returned
var (
	zones sync.Map // *Zone by name

	directory = sync.OnceValues(func() (map[string]*zip.File, error) {
		r, err := zip.NewReader(strings.NewReader(data), int64(len(data)))
		if err != nil {
			return nil, fmt.Errorf("zone data: %w", err)
		}
		files := make(map[string]*zip.File, len(r.File))
		for _, f := range r.File {
			if !strings.HasSuffix(f.Name, "/") {
				files[f.Name] = f
			}
		}
		return files, nil
	})
)

// read makes a zone of its data.
func read(name string) (*Zone, error) {
	loc, err := Location(name)
	if err != nil {
		return nil, err
	}
	z := &Zone{Name: name}
	for at := time.Unix(first, 0).In(loc); ; {
		_, offset := at.Zone()
		_, end := at.ZoneBounds() // the start may be that of a year
		s := span{at.Unix(), int64(offset)}
		switch n := len(z.spans); {
		case n == 0:
			z.spans = append(z.spans, s)
		case z.spans[n-1].offset != s.offset: // a name alone may change
			if s.offset-z.spans[n-1].offset > skip {
				z.skips = append(z.skips, s.start)
			}
			z.spans = append(z.spans, s)
		}
		if end.IsZero() || end.Unix() >= last {
			return z, nil
		}
		if !end.After(at) { // package time ends a leap year a day early
			end = at.AddDate(0, 0, 1)
		}
		at = end
	}
}

// Offset returns the seconds that the wall clock is ahead of UTC at a time, in seconds
// since 1970.
func (z *Zone) Offset(unix int64) int64 { return z.spans[z.spanAt(unix)].offset }

// spanAt returns the index of the span that a time is in. Times before the first are
// in it.
func (z *Zone) spanAt(unix int64) int {
	return max(0, sort.Search(len(z.spans), func(i int) bool { return z.spans[i].start > unix })-1)
}

// First returns the first second since 1970 at which the wall clock is at or past wall,
// the seconds from 1970-01-01T00:00:00 to a date and a time as the wall clock shows them.
func (z *Zone) First(wall int64) int64 {
	for i := z.spanAt(wall - MaxOffset); ; i++ {
		t := wall - z.spans[i].offset
		if i > 0 {
			t = max(t, z.spans[i].start)
		}
		if i+1 == len(z.spans) || t < z.spans[i+1].start {
			return t
		}
	}
}

// Skips returns the times, in seconds since 1970, at which the wall clock skips most of
// a day: the date line has moved. There are none or few.
func (z *Zone) Skips() []int64 { return z.skips }

// Changes returns the first time after unix at which the offset changes, in seconds
// since 1970. If there is none, ok is false.
func (z *Zone) Changes(unix int64) (at int64, ok bool) {
	i := z.spanAt(unix) + 1
	if i >= len(z.spans) {
		return 0, false
	}
	return z.spans[i].start, true
}
