package schema_test

import (
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/schema"
)

// Only a bucket's keys are taken for a bucket's, whatever names have in them.
func TestBucket(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pk, sk            string
		namespace, entity string
		resource          string
		ok                bool
	}{
		{"E#key-1", "B#gpt-4", "", "key-1", "gpt-4", true},
		{"team/E#key-1", "B#a/b", "team/", "key-1", "a/b", true},
		{"E#team/E#key-1", "B#x#y", "", "team/E#key-1", "x#y", true},
		{"team/E#a/b", "B#B#", "team/", "a/b", "B#", true},
		{"E#key-1", "#META", "", "", "", false},
		{"U#key-1", "B#hour#2026-01-13T14Z", "", "", "", false}, // usage of a resource named B
		{"U#x/E#y", "B#hour#2026-01-13T14Z", "", "", "", false},
		{"team/U#key-1", "B#hour#2026-01-13T14Z", "", "", "", false},
		{"SYSTEM", "#VERSION", "", "", "", false},
		{"", "B#x", "", "", "", false},
	} {
		k, key, ok := schema.Bucket(c.pk, c.sk)
		if ok != c.ok {
			t.Errorf("%s %s: got a bucket %v, want %v", c.pk, c.sk, ok, c.ok)
			continue
		}
		if want := (zael.Key{Entity: c.entity, Resource: c.resource}); ok && (key != want || k.Prefix != c.namespace) {
			t.Errorf("%s %s: got %q %+v, want %q %+v", c.pk, c.sk, k.Prefix, key, c.namespace, want)
		}
		if ok && k.Entity(key.Entity) != c.pk {
			t.Errorf("%s: got %s when it is made again", c.pk, k.Entity(key.Entity))
		}
	}
}

func TestUsageKeys(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 13, 15, 30, 0, 0, time.FixedZone("CET", 3600))
	for window, want := range map[zael.Window]string{
		zael.Hourly: "gpt-4#hour#2026-01-13T14Z", zael.Daily: "gpt-4#day#2026-01-13T00Z", zael.Monthly: "gpt-4#month#2026-01-01T00Z",
	} {
		start, _ := window.Bounds(at)
		if got := schema.UsageSort("gpt-4", window, start, "b.1"); got != want+"#b.1" {
			t.Errorf("%s: got %s, want %s#b.1", window, got, want)
		}
		for _, resource := range []string{"gpt-4", "a#b", "#", "gpt-4#hour#2026-01-13T14Z"} {
			r, w, s, err := schema.ParseUsageSort(schema.UsageSort(resource, window, start, ""))
			if r != resource || w != window || !s.Equal(start) || err != nil {
				t.Errorf("%s: got %q %s %v (%v) back, want %q", window, r, w, s, err, resource)
			}
		}
		if got, want := schema.Of("team").UsageIndex("gpt-4", window, start), "team/U#"+want; got != want {
			t.Errorf("%s: got %s in the index, want %s", window, got, want)
		}
		if got := schema.WindowOf(schema.WindowWord(window)); got != window {
			t.Errorf("%s: got %q back from its word", window, got)
		}
	}
}

func TestParseUsageSort(t *testing.T) {
	t.Parallel()
	for _, sort := range []string{"", "gpt-4", "gpt-4#hour#2026-01-13T14Z", "gpt-4#week#2026-01-13T14Z#x", "gpt-4#hour#2026-01-13#x"} {
		if r, _, _, err := schema.ParseUsageSort(sort); err == nil {
			t.Errorf("%q: got the resource %q, want an error", sort, r)
		}
	}
}
