package rules_test

import (
	"strings"
	"testing"

	"github.com/zeroae/zael/internal/rls/rules"
)

// read reads one file, without mistakes.
func read(t *testing.T, text string) *rules.Rules {
	t.Helper()
	r, warnings, err := rules.Read([]rules.File{{Name: "a.yaml", Text: []byte(text)}}, rules.Options{})
	if err != nil || len(warnings) > 0 {
		t.Fatalf("Read: %v, warnings %q", err, warnings)
	}
	return r
}

// entries makes the entries of key=value, key=value.
func entries(text string) (list []rules.Entry) {
	for each := range strings.SplitSeq(text, ", ") {
		key, value, _ := strings.Cut(each, "=")
		list = append(list, rules.Entry{Key: key, Value: value})
	}
	return list
}

const gateway = `
domain: gateway
descriptors:
  - key: user
    rate_limit: {unit: second, requests_per_unit: 1}
  - key: user
    value: alice
    rate_limit: {unit: minute, requests_per_unit: 2}
  - key: path
    value: /files/*
    share_threshold: true
    rate_limit: {unit: hour, requests_per_unit: 3}
  - key: path
    value: /files/big/*
    rate_limit: {unit: hour, requests_per_unit: 4}
  - key: path
    value: /f*
    value_to_metric: true
    rate_limit: {unit: day, requests_per_unit: 5}
  - key: tenant
    value_to_metric: true
    descriptors:
      - key: model
        rate_limit: {unit: week, requests_per_unit: 6}
        detailed_metric: true
      - key: model
        value: free
        rate_limit: {unlimited: true}
      - key: model
        value: none
        rate_limit: {unit: year, requests_per_unit: 0}
  - key: tenant
    value: odd
`

func TestMatch(t *testing.T) {
	t.Parallel()
	r := read(t, gateway)
	if r.Len() != 10 {
		t.Errorf("Len: got %d, want 10", r.Len())
	}
	for _, c := range []struct {
		domain, entries string
		limit           string // of the policy; empty: there is none
		entity, counted string // empty: nothing matches
	}{
		{"gateway", "user=bob", "requests=1/s", "user=bob", "gateway.user"},
		{"gateway", "user=", "requests=1/s", "user=", "gateway.user"},
		{"gateway", "user=alice", "requests=2/min", "user=alice", "gateway.user_alice"},
		{"gateway", "path=/files/a", "requests=3/h", "path=/files/*", "gateway.path_/files/*"},
		{"gateway", "path=/files/big/a", "requests=3/h", "path=/files/*", "gateway.path_/files/*"}, // the first that matches
		{"gateway", "path=/foo", "requests=5 each day", "path=/foo", "gateway.path_/foo"},
		{"gateway", "tenant=t, model=m", "requests=6 each week", "tenant=t|model=m", "gateway.tenant_t.model_m"},
		{"gateway", "tenant=t, model=free", "", "tenant=t|model=free", "gateway.tenant_t.model_free"},
		{"gateway", "tenant=t, model=none", "", "tenant=t|model=none", "gateway.tenant_t.model_none"},
		// What nothing matches is not limited: another domain, key, depth, and a level without a rule.
		{"other", "user=bob", "", "", ""},
		{"gateway", "host=a", "", "", ""},
		{"gateway", "user=bob, path=/a", "", "", ""},
		{"gateway", "tenant=t", "", "", ""},
		{"gateway", "tenant=odd, model=m", "", "", ""}, // the value's own rules replace those of the key
		{"gateway", "model=m, tenant=t", "", "", ""},
	} {
		m, ok := r.Match(c.domain, entries(c.entries))
		if !ok || c.entity == "" {
			if ok || c.entity != "" {
				t.Errorf("Match(%s, %s): got %t, want %t", c.domain, c.entries, ok, c.entity != "")
			}
			continue
		}
		limit := ""
		if m.Policy != nil {
			limit = m.Limit.String()
		}
		if limit != c.limit || m.Entity != c.entity || m.MetricName() != c.counted {
			t.Errorf("Match(%s, %s): got %s of %s, counted as %s, want %s of %s, %s", c.domain, c.entries, limit, m.Entity, m.MetricName(), c.limit, c.entity, c.counted)
		}
	}
	if _, ok := r.Match("gateway", nil); ok {
		t.Error("a descriptor without entries matches")
	}
}

// Where several levels share their values, the bucket is that of all.
func TestSharedThresholds(t *testing.T) {
	t.Parallel()
	r := read(t, `
domain: d
descriptors:
  - key: path
    value: /a*
    share_threshold: true
    descriptors:
      - key: host
        value: h*
        rate_limit: {unit: second, requests_per_unit: 1}
        detailed_metric: true
`)
	one, _ := r.Match("d", entries("path=/a1, host=h1"))
	two, _ := r.Match("d", entries("path=/a2, host=h1"))
	other, _ := r.Match("d", entries("path=/a2, host=h2"))
	if one.Entity != "path=/a*|host=h1" || one.Entity != two.Entity || one.Entity == other.Entity || one.MetricName() != "d.path_/a*.host_h1" {
		t.Errorf("got %q, %q and %q, counted as %q", one.Entity, two.Entity, other.Entity, one.MetricName())
	}
}

// A window of the original is a period of the epoch; modes do not change the limit.
func TestLimits(t *testing.T) {
	t.Parallel()
	for unit, want := range map[string][2]string{
		"second": {"requests=7/s", "requests=7 each second"},
		"minute": {"requests=7/min", "requests=7 each minute"},
		"HOUR":   {"requests=7/h", "requests=7 each hour"},
		"day":    {"requests=7 each day", "requests=7 each day"},
		"week":   {"requests=7 each week", "requests=7 each 7d"},
		"month":  {"requests=7 each month", "requests=7 each 30d"},
		"year":   {"requests=7 each year", "requests=7 each 365d"},
	} {
		for i, window := range []string{"", ", window: fixed"} {
			for _, mode := range []string{"", "shadow_mode: true", "quota_mode: true"} {
				r := read(t, "domain: d\ndescriptors:\n- key: k\n  rate_limit: {unit: "+unit+", requests_per_unit: 7"+window+"}\n  "+mode)
				m, _ := r.Match("d", entries("k=v"))
				if got := m.Limit.String(); got != want[i] || m.Policy.Resource() != "d" {
					t.Errorf("%s%s %s: got %s on %s, want %s on d", unit, window, mode, got, m.Policy.Resource(), want[i])
				}
				if m.Shadow != strings.HasPrefix(mode, "shadow") || m.Quota != strings.HasPrefix(mode, "quota") {
					t.Errorf("%s: got shadow %t, quota %t", mode, m.Shadow, m.Quota)
				}
			}
		}
	}
}
