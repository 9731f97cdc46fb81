package rules_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/zeroae/zael/internal/rls/rules"
)

// Every mistake is named with its line.
func TestMistakes(t *testing.T) {
	t.Parallel()
	descriptor := func(lines string) string {
		return "domain: d\ndescriptors:\n- key: k\n  " + strings.ReplaceAll(lines, "\n", "\n  ")
	}
	limit := func(rest string) string {
		return descriptor("rate_limit: {unit: second, requests_per_unit: 1" + rest + "}")
	}
	for name, c := range map[string]struct{ text, want string }{
		"an empty file":              {"", "a.yaml: the file is empty"},
		"a list":                     {"- a", "a.yaml:1: the file: not a mapping"},
		"no YAML":                    {"domain: d\n\tx", "a.yaml:2: found a tab"},
		"two documents":              {"domain: d\n---\ndomain: e", "a.yaml:2: a second document"},
		"no domain":                  {"descriptors: []", "a.yaml:1: config file cannot have empty domain"},
		"an empty domain":            {"domain: ''", "a.yaml:1: config file cannot have empty domain"},
		"an unknown key":             {"domain: d\ndescriptor: []", `a.yaml:2: the file: unknown key "descriptor"`},
		"no list":                    {"domain: d\ndescriptors: {key: a}", "a.yaml:2: descriptors: not a list"},
		"a list of text":             {"domain: d\ndescriptors: [a]", "a.yaml:2: a descriptor: not a mapping"},
		"an empty key":               {"domain: d\ndescriptors:\n- value: a", "a.yaml:3: descriptor has empty key"},
		"an unknown key, deep":       {descriptor("descriptors:\n- key: a\n  limit: 1"), `a.yaml:6: a descriptor: unknown key "limit"`},
		"a key twice":                {descriptor("key: l"), `a.yaml:4: a descriptor: key "key" is already in line 3`},
		"a descriptor twice":         {descriptor("value: v\n") + "\n- key: k_v", "a.yaml:6: duplicate descriptor composite key 'd.k_v'"},
		"no unit":                    {descriptor("rate_limit: {requests_per_unit: 1}"), "a.yaml:4: invalid rate limit unit ''"},
		"a bad unit":                 {descriptor("rate_limit:\n  unit: fortnight"), "a.yaml:5: invalid rate limit unit 'fortnight'"},
		"unknown as a unit":          {descriptor("rate_limit: {unit: unknown}"), "a.yaml:4: invalid rate limit unit 'unknown'"},
		"unlimited with a unit":      {limit(", unlimited: true"), "a.yaml:4: should not specify rate limit unit when unlimited"},
		"less than none":             {descriptor("rate_limit: {unit: day, requests_per_unit: -1}"), `a.yaml:4: requests_per_unit: "-1" is not a number`},
		"too many":                   {descriptor("rate_limit: {unit: day, requests_per_unit: 4294967296}"), `a.yaml:4: requests_per_unit: "4294967296" is not a number`},
		"a half":                     {descriptor("rate_limit: {unit: day, requests_per_unit: 1.5}"), `a.yaml:4: requests_per_unit: "1.5" is not a number`},
		"another window":             {limit(", window: sliding"), `a.yaml:4: window: "sliding" is not fixed`},
		"a mode that is no truth":    {descriptor("shadow_mode: 1"), `a.yaml:4: shadow_mode: "1" is not true or false`},
		"a threshold of one value":   {descriptor("share_threshold: true"), "a.yaml:3: share_threshold can only be used with wildcard values (ending with '*'), but found key 'k'"},
		"replaces without a name":    {limit(", replaces: [{name: ''}]"), "a.yaml:4: should not have an empty replaces entry"},
		"replaces itself":            {limit(", name: a, replaces: [{name: a}]"), "a.yaml:4: replaces should not contain name of same descriptor"},
		"replaces text":              {limit(", replaces: [a]"), "a.yaml:4: replaces: not a mapping"},
		"a level that has no end":    {"domain: d\ndescriptors: &a\n- key: k\n  descriptors: *a", "descriptors: more than 32 levels"},
		"more than can be held":      {bomb(), "descriptors: more than 100000"},
		"two mistakes in two levels": {"domain: d\ndescriptors:\n- key: ''\n- key: a\n  rate_limit: {unit: x}", "a.yaml:3: descriptor has empty key\na.yaml:5: invalid rate limit unit 'x'"},
	} {
		_, _, err := rules.Read([]rules.File{{Name: "a.yaml", Text: []byte(c.text)}}, rules.Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// bomb is a small file with more descriptors than there may be.
func bomb() string {
	text := "domain: d\ndescriptors:\n- {key: z, descriptors: &la [{key: a}, {key: b}, {key: c}, {key: d}]}\n"
	for i := range 10 {
		at := string(rune('a' + i))
		text += "- {key: l" + at + ", descriptors: &l" + string(rune('b'+i)) + " ["
		for _, key := range []string{"a", "b", "c", "d"} {
			text += "{key: " + key + ", descriptors: *l" + at + "}, "
		}
		text += "]}\n"
	}
	return text
}

// Of several files each has a domain of its own, unless they are to be merged.
func TestSeveralFiles(t *testing.T) {
	t.Parallel()
	file := func(name, key string) rules.File {
		return rules.File{Name: name, Text: []byte("domain: d\ndescriptors: [{key: " + key + ", rate_limit: {unit: day, requests_per_unit: 1}}]")}
	}
	if _, _, err := rules.Read([]rules.File{file("a.yaml", "a"), file("b.yaml", "b")}, rules.Options{}); err == nil || err.Error() != "b.yaml:1: duplicate domain 'd' in config file" {
		t.Errorf("the same domain twice: got %v", err)
	}
	r, _, err := rules.Read([]rules.File{file("a.yaml", "a"), file("b.yaml", "b")}, rules.Options{Merge: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "b"} {
		if _, ok := r.Match("d", []rules.Entry{{Key: key, Value: "x"}}); !ok {
			t.Errorf("merged: nothing limits %s", key)
		}
	}
	if _, _, err := rules.Read([]rules.File{file("a.yaml", "a"), file("b.yaml", "a")}, rules.Options{Merge: true}); err == nil || err.Error() != "b.yaml:2: duplicate descriptor composite key 'd.a'" {
		t.Errorf("merged, the same key twice: got %v", err)
	}
	if r, _, err := rules.Read(nil, rules.Options{}); err != nil || r.Len() != 0 {
		t.Errorf("no files: got %v", err)
	}
}

// Keys that the original accepts anywhere are warned of where they have no effect: who wrote
// them believes that they have one.
func TestMisplacedKeys(t *testing.T) {
	t.Parallel()
	_, warnings, err := rules.Read([]rules.File{{Name: "a.yaml", Text: []byte(`
domain: d
descriptors:
  - key: k
    unlimited: true
    rate_limit:
      unit: day
      requests_per_unit: 1
      shadow_mode: true
`)}}, rules.Options{})
	want := []string{"a.yaml:5: a descriptor: the key unlimited has no effect here", "a.yaml:9: rate_limit: the key shadow_mode has no effect here"}
	if err != nil || !slices.Equal(warnings, want) {
		t.Errorf("got %q (%v), want %q", warnings, err, want)
	}
}

// Values are text, however YAML reads them.
func TestValuesAreText(t *testing.T) {
	t.Parallel()
	r := read(t, "domain: 1\ndescriptors:\n- {key: port, value: 0080, rate_limit: {unit: day, requests_per_unit: 1}}\n- {key: on, value: yes, rate_limit: {unit: day, requests_per_unit: 0x10}}\n- {key: v, value: null, rate_limit: null}")
	for _, e := range []string{"port=0080", "on=yes"} {
		if _, ok := r.Match("1", entries(e)); !ok {
			t.Errorf("nothing limits %s", e)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(gateway)
	f.Add("domain: d\ndescriptors: &a\n- key: k\n  descriptors: *a")
	f.Add("domain: [d]\ndescriptors: {? [a] : b}")
	f.Fuzz(func(t *testing.T, text string) {
		r, _, err := rules.Read([]rules.File{{Name: "f", Text: []byte(text)}}, rules.Options{})
		if (r == nil) != (err != nil) {
			t.Fatalf("got %v and %v", r, err)
		}
		if err == nil {
			r.Match("d", []rules.Entry{{Key: "k", Value: "v"}, {Key: "l", Value: ""}})
			return
		}
		for line := range strings.Lines(err.Error()) {
			if !strings.HasPrefix(line, "f:") {
				t.Errorf("a mistake without its file: %q", line)
			}
		}
	})
}
