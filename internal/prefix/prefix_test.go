package prefix_test

import (
	"strings"
	"testing"

	"github.com/zeroae/zael/internal/prefix"
)

func TestEnd(t *testing.T) {
	t.Parallel()
	const last = "\U0010ffff"
	for p, want := range map[string]string{
		"": "", "a": "b", "team-a/": "team-a0", "key\x7f": "key\u0080", "\ud7ff": "\ue000", "a" + last: "b", last + last: "", "ü": "ý", "\x00": "\x01",
	} {
		got := prefix.End(p)
		if got != want {
			t.Errorf("%q: got %q, want %q", p, got, want)
		}
		for _, rest := range []string{"", "\x00", "z", last, last + last} {
			if name := p + rest; got != "" && (name >= got || strings.HasPrefix(got, p)) {
				t.Errorf("%q: got the end %q, which is not above %q", p, got, name)
			}
		}
	}
}
