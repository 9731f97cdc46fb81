// Package rules has the rules of a rate limit service: the YAML of envoyproxy/ratelimit, and
// which rule a descriptor of a request goes by.
//
// Rules form a tree for each domain. A descriptor is a list of entries, and each entry leads
// one level down: by its key and value, else by the first pattern of the level that its key
// and value begin with, else by its key alone. The rule is that of the last entry; if there
// is none, or a level is missing, nothing limits the descriptor.
package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/zeroae/zael"
)

// A Unit is the time in which a rule allows its requests, numbered as in the protocol's
// RateLimitResponse.RateLimit.Unit.
type Unit int32

// The units.
const (
	Second Unit = iota + 1
	Minute
	Hour
	Day
	Month
	Year
	Week
)

// String returns the unit's name in the protocol.
func (u Unit) String() string {
	for name, w := range units() {
		if w.unit == u {
			return strings.ToUpper(name)
		}
	}
	return "UNKNOWN"
}

// An Entry is a key of a descriptor and its value, which may be empty.
type Entry struct{ Key, Value string }

// A Rule limits the descriptors that it matches.
type Rule struct {
	Name     string   // by which other rules replace it; may be empty
	Replaces []string // names of rules that do not hold where this one does
	Requests uint32   // in each Unit
	Unit     Unit     // 0 if Unlimited

	Unlimited bool // nothing limits the descriptor
	Shadow    bool // what it would refuse passes, and is counted
	Quota     bool // a request is refused only when all its quotas are used up

	// Policy has the one Limit that the rule is, on the domain. It is nil where nothing is
	// counted: if Unlimited, and if Requests is 0, which refuses everything.
	Policy *zael.Policy
	Limit  zael.Limit

	detailed bool // statistics are kept by the values of requests
}

// The names of the limits that rules are.
const (
	LimitName    = "requests"
	OverrideName = "override" // of a rule that a request brings along
)

// A Match is a rule that a descriptor goes by.
type Match struct {
	*Rule
	Entity string // whose bucket is charged: see [Entity]

	domain  string
	by      []step
	entries []Entry
}

// MetricName returns what statistics call the descriptor: domain.key_value.key.
func (m *Match) MetricName() string {
	if m.detailed {
		return detailedMetricName(m.domain, m.by, m.entries)
	}
	return metricName(m.domain, m.by, m.entries)
}

// Rules are the rules of all domains. They do not change, and any number of goroutines may
// use them.
type Rules struct {
	domains map[string]*level
	count   int
}

// Len returns the number of descriptors in the rules.
func (r *Rules) Len() int { return r.count }

// Has reports whether there are rules for a domain.
func (r *Rules) Has(domain string) bool { return r.domains[domain] != nil }

// Dump returns the rules that limit something, a line each, in order.
func (r *Rules) Dump() (lines []string) {
	for domain, top := range r.domains {
		top.dump(domain, &lines)
	}
	slices.Sort(lines)
	return lines
}

func (l *level) dump(path string, lines *[]string) {
	if r := l.rule; r != nil {
		*lines = append(*lines, fmt.Sprintf("%s: unit=%s requests_per_unit=%d, unlimited: %t, shadow_mode: %t, quota_mode: %t", path, r.Unit, r.Requests, r.Unlimited, r.Shadow, r.Quota))
	}
	for key, next := range l.next {
		next.dump(path+"."+key, lines)
	}
}

// A level is what an entry leads to.
type level struct {
	key      string            // "key", or "key_value"
	next     map[string]*level // by key
	patterns []*level          // those of next whose key ends with *, in the order of the file
	rule     *Rule             // nil if none ends here

	share         bool // a pattern whose values share one bucket
	valueToMetric bool // statistics are kept by the value of the request
}

func newLevel(key string) *level { return &level{key: key, next: map[string]*level{}} }

// Match returns the rule that a descriptor goes by. ok is false if there is none.
func (r *Rules) Match(domain string, entries []Entry) (m Match, ok bool) {
	at := r.domains[domain]
	if at == nil || len(entries) == 0 {
		return Match{}, false
	}
	var by []step
	for _, e := range entries {
		s, ok := at.step(e)
		if !ok {
			return Match{}, false
		}
		by = append(by, s)
		at = s.to
	}
	if at.rule == nil {
		return Match{}, false
	}
	shared := make([]Entry, len(entries))
	for i, s := range by {
		shared[i] = s.shared(entries[i])
	}
	return Match{Rule: at.rule, Entity: Entity(shared), domain: domain, by: by, entries: entries}, true
}

// A step is the way from one level to the next.
type step struct {
	to      *level
	pattern string // value of the pattern that matched, such as files*; empty: none did
	exact   bool   // key and value are those of the rule
}

// step goes one level down. ok is false if no rule is there.
func (l *level) step(e Entry) (s step, ok bool) {
	whole := e.Key + "_" + e.Value
	if to := l.next[whole]; to != nil {
		return step{to: to, exact: true}, true
	}
	for _, p := range l.patterns {
		if strings.HasPrefix(whole, strings.TrimSuffix(p.key, "*")) {
			return step{to: p, pattern: strings.TrimPrefix(p.key, e.Key+"_")}, true
		}
	}
	to := l.next[e.Key]
	return step{to: to}, to != nil
}

// shared returns an entry as the name of its bucket has it: the values of a pattern that
// shares its threshold have one name.
func (s step) shared(e Entry) Entry {
	if s.pattern != "" && s.to.share {
		e.Value = s.pattern
	}
	return e
}

// metricName returns the name for statistics, with the values that the rules name, and those
// that they ask for.
func metricName(domain string, by []step, entries []Entry) string {
	var b strings.Builder
	b.WriteString(domain)
	for i, s := range by {
		value := ""
		switch {
		case s.pattern != "" && (s.to.share || !s.to.valueToMetric):
			value = s.pattern
		case s.exact || s.to.valueToMetric:
			value = entries[i].Value
		}
		write(&b, entries[i].Key, value)
	}
	return b.String()
}

// detailedMetricName returns the name for statistics with the values of the request.
func detailedMetricName(domain string, by []step, entries []Entry) string {
	var b strings.Builder
	b.WriteString(domain)
	for i, s := range by {
		e := s.shared(entries[i])
		write(&b, e.Key, e.Value)
	}
	return b.String()
}

// OverrideMetricName returns the name for statistics of a descriptor that brings its limit along.
func OverrideMetricName(domain string, entries []Entry) string {
	return detailedMetricName(domain, make([]step, len(entries)), entries)
}

func write(b *strings.Builder, key, value string) {
	b.WriteByte('.')
	b.WriteString(key)
	if value != "" {
		b.WriteByte('_')
		b.WriteString(value)
	}
}
