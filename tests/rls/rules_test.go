// Package rls_test holds zael's rate limit service against envoyproxy/ratelimit.
package rls_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	gostats "github.com/lyft/gostats"

	common "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	"github.com/envoyproxy/ratelimit/src/config"
	"github.com/envoyproxy/ratelimit/src/settings"
	"github.com/envoyproxy/ratelimit/src/stats"

	"github.com/zeroae/zael/internal/rls/rules"
	"github.com/zeroae/zael/internal/testrig/schedules"
)

// seed is that of the random files. It is printed, and settable, so that a difference can
// be seen again.
func seed(t *testing.T) uint64 {
	t.Helper()
	s := uint64(1)
	if text := os.Getenv("ZAEL_RLS_SEED"); text != "" {
		var err error
		if s, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("ZAEL_RLS_SEED=%d", s)
	return s
}

// words are few, so that descriptors meet rules, and some are made of others.
func words() []string { return []string{"a", "b", "ab", "a_b", "/x", "/x/y", "b*"} }

// A writer makes random rules.
type writer struct {
	*rand.Rand
	b strings.Builder
}

func (w *writer) pick(of ...string) string { return of[w.IntN(len(of))] }

// descriptors writes a list of descriptors, with mistakes now and then.
func (w *writer) descriptors(indent string, depth int) {
	w.b.WriteString(indent + "descriptors:\n")
	for range 1 + w.IntN(4) {
		w.b.WriteString(indent + "- key: " + w.pick("a", "b", "a_b") + "\n")
		line := func(format string, args ...any) { fmt.Fprintf(&w.b, indent+"  "+format+"\n", args...) }
		if w.IntN(3) > 0 {
			line("value: %q", w.pick(append(words(), "*", "a*", "/x*", "/x/*")...))
		}
		for _, mode := range []string{"shadow_mode", "quota_mode", "detailed_metric", "value_to_metric", "share_threshold"} {
			if w.IntN(5) == 0 {
				line("%s: %t", mode, w.IntN(3) > 0)
			}
		}
		switch w.IntN(10) {
		case 0:
			line("rate_limit: {unlimited: true}")
		case 1, 2, 3, 4, 5, 6:
			line("rate_limit: {unit: %s, requests_per_unit: %d, name: %q}", w.pick("second", "Minute", "HOUR", "day", "month", "year"), w.IntN(5), w.pick("", "n"))
		case 7:
			if w.IntN(20) == 0 {
				line("%s", w.pick("rate_limit: {unit: second, unlimited: true}", "rate_limit: {unit: x}", "limit: {}", "rate_limit: {requests_per_unit: 1}"))
			}
		}
		if depth < 3 && w.IntN(2) == 0 {
			w.descriptors(indent+"  ", depth+1)
		}
	}
}

// The original and package rules accept the same files, and find the same rules in them.
func TestRules(t *testing.T) {
	t.Parallel()
	w := &writer{Rand: rand.New(rand.NewPCG(seed(t), 0))}
	manager := stats.NewStatManager(gostats.NewStore(gostats.NewNullSink(), false), settings.NewSettings())
	accepted, matched := 0, 0
	files, each := schedules.Count(t, 1500), 40
	for range files {
		w.b.Reset()
		w.b.WriteString("domain: d\n")
		w.descriptors("", 1)
		text := w.b.String()
		theirs, theirErr := original(manager, text)
		ours, _, ourErr := rules.Read([]rules.File{{Name: "f", Text: []byte(text)}}, rules.Options{})
		if (theirErr == nil) != (ourErr == nil) {
			t.Fatalf("the original: %v\nzael: %v\n%s", theirErr, ourErr, text)
		}
		if theirErr != nil {
			continue
		}
		accepted++
		for range each {
			var entries []rules.Entry
			d := &common.RateLimitDescriptor{}
			for range 1 + w.IntN(3) {
				e := rules.Entry{Key: w.pick("a", "b", "a_b"), Value: w.pick(append(words(), "/x/z", "c")...)}
				entries = append(entries, e)
				d.Entries = append(d.Entries, &common.RateLimitDescriptor_Entry{Key: e.Key, Value: e.Value})
			}
			if difference := compare(ours, theirs.GetLimit(context.Background(), "d", d), entries); difference != "" {
				t.Fatalf("%v: %s\n%s", entries, difference, text)
			}
			if _, ok := ours.Match("d", entries); ok {
				matched++
			}
		}
	}
	t.Logf("%d of %d files accepted, %d of %d descriptors matched", accepted, files, matched, accepted*each)
	if accepted < files/4 || matched < accepted*each/20 {
		t.Error("too few to mean something")
	}
}

// original reads rules with the original.
func original(manager stats.Manager, text string) (c config.RateLimitConfig, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	yaml := config.ConfigFileContentToYaml("f", text)
	return config.NewRateLimitConfigImpl([]config.RateLimitConfigToLoad{{Name: "f", ConfigYaml: yaml}}, manager, false), nil
}

// compare returns what differs between the rules that a descriptor goes by.
func compare(ours *rules.Rules, theirs *config.RateLimit, entries []rules.Entry) string {
	m, ok := ours.Match("d", entries)
	if ok != (theirs != nil) {
		return fmt.Sprintf("matches: %t, the original %t", ok, theirs != nil)
	}
	if !ok {
		return ""
	}
	shared := append([]rules.Entry(nil), entries...)
	for i, pattern := range theirs.ShareThresholdKeyPattern {
		if pattern != "" {
			shared[i].Value = pattern
		}
	}
	got := fmt.Sprint(m.Requests, m.Unit, m.Name, m.Unlimited, m.Shadow, m.Quota, m.Entity, m.MetricName())
	want := fmt.Sprint(theirs.Limit.RequestsPerUnit, rules.Unit(theirs.Limit.Unit), theirs.Name, theirs.Unlimited, theirs.ShadowMode, theirs.QuotaMode,
		rules.Entity(shared), theirs.FullKey)
	if got != want {
		return fmt.Sprintf("got %s, the original %s", got, want)
	}
	return ""
}
