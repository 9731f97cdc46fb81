package redisstore_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/zeroae/zael/redisstore"
)

// FuzzRecord reads hashes that somebody else may have written: nothing panics, and what can be read
// is written as it can be read again.
func FuzzRecord(f *testing.F) {
	for _, fields := range []string{
		"o abcdefghijkl x 37000 drpm 1:100/60s^100@0.abc mrpm 12345",
		"o abc s 5 f 7 dq 2:q100/month.31.360.Europe/Berlin!d@7.1 mq -1 uq 3",
		"dw 2:w100/18000s@0.0 mw -9223372036854775808 uw 9223372036854775807",
		"Dp 2:s20/60s@0.0 Mp 1 Up 2 hholder 10;a;p=2&q=1 h ;;",
		"drpm x mrpm y", "mrpm 1", "d 1:100/60s^100@0.0", "x", "o", "z 1", "D 1:1/1s^1@0.0 d 2:s1/10s@0.0",
		"dr 2:r100/60s^100|127,540,1080,500,0,0,0,Europe/Berlin@0.0 mr 1",
	} {
		f.Add(fields)
	}
	f.Fuzz(func(t *testing.T, text string) {
		fields := strings.Split(text, " ")
		again, ok := redisstore.Readable(fields)
		if !ok {
			return
		}
		third, ok := redisstore.Readable(again)
		if !ok {
			t.Fatalf("%q is written as %q, which cannot be read", fields, again)
		}
		if slices.Sort(again); !slices.Equal(again, sorted(third)) {
			t.Errorf("%q is written as %q, and that as %q", fields, again, third)
		}
	})
}

func sorted(all []string) []string {
	all = slices.Clone(all)
	slices.Sort(all)
	return all
}
