package rules_test

import (
	"strings"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/rls/rules"
)

func TestEntity(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 201)
	for _, c := range []struct{ entries, want string }{
		{"user=bob", "user=bob"},
		{"user=bob, path=/a b", "user=bob|path=/a b"},
		{"user= bob ", "user=%20bob%20"},
		{"user=100%|x=y", "user=100%25%7Cx%3Dy"},
		{"user=a\tb\u0085", "user=a%09b%C2%85"},
		{"user=\xff\u2028é", "user=%FF%E2%80%A8é"},
		{"Authorization=Bearer abc", "Authorization=sha256:c355dce96c1612880d11940ffdd9014d"},
		{"x-api-key=abc", "x-api-key=sha256:ba7816bf8f01cfea414140de5dae2223"},
		{"token=", "token="},
		{"tokens=abc", "tokens=abc"},
		{"api_keys=abc", "api_keys=abc"},
		{"X-Amz-Security-Token=abc", "X-Amz-Security-Token=sha256:ba7816bf8f01cfea414140de5dae2223"},
		{"access_key=abc", "access_key=sha256:ba7816bf8f01cfea414140de5dae2223"},
		{"path=" + long, "path=sha256:84a0678c90937f5dcf9994d5866668da"},
	} {
		if got := rules.Entity(entries(c.entries)); got != c.want {
			t.Errorf("Entity(%q): got %q, want %q", c.entries, got, c.want)
		}
	}
	many := make([]rules.Entry, rules.MaxDepth)
	for i := range many {
		many[i] = rules.Entry{Key: "a key of some length", Value: "and a value"}
	}
	if got := rules.Entity(many); !strings.HasPrefix(got, "sha256:") || len(got) != 39 {
		t.Errorf("Entity of %d entries: got %q, want a hash", len(many), got)
	}
	if got := rules.Resource(zael.DefaultResource); got != "%5Fdefault_" {
		t.Errorf("Resource of the reserved name: got %q", got)
	}
}

// Whatever the entries are, their name is one of an entity, and others have another.
func FuzzEntity(f *testing.F) {
	f.Add("user", "bob", "path", "/")
	f.Add("a|b=c", "", "a", "b=c|d")
	f.Add("", " ", "\u2028", "\xff%FF")
	f.Add("%", "=", "|", "\u00a0")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		one := []rules.Entry{{Key: k1, Value: v1}, {Key: k2, Value: v2}}
		name := rules.Entity(one)
		for _, other := range [][]rules.Entry{
			{{Key: k1, Value: v2}, {Key: k2, Value: v1}},
			{{Key: k2, Value: v1}, {Key: k1, Value: v2}},
			{{Key: k1, Value: v1}},
			{{Key: k1 + "=" + v1, Value: v2}},
			{{Key: k1, Value: v1 + "|" + k2 + "=" + v2}},
		} {
			same := len(other) == 2 && other[0] == one[0] && other[1] == one[1]
			if (rules.Entity(other) == name) != same {
				t.Errorf("%q and %q: names %q and %q", one, other, name, rules.Entity(other))
			}
		}
		if _, err := zael.NewPolicy(rules.Resource(k1+v1), zael.PerSecond("requests", 1)); err != nil && k1+v1 != "" {
			t.Errorf("Resource(%q): %v", k1+v1, err)
		}
		if _, err := zael.NewPolicy(name, zael.PerSecond("requests", 1)); err != nil {
			t.Errorf("Entity(%q): %v", one, err)
		}
	})
}
