package rules

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/yamlfile"
)

// Bounds of what is read.
const (
	MaxBytes = 4 << 20 // of a file
	MaxRules = 100_000 // descriptors of all files
	MaxDepth = 32      // entries of a descriptor
)

// A File is the text of one file of rules.
type File struct {
	Name string
	Text []byte
}

// Options say how files are read.
type Options struct {
	Merge bool // files may have rules for the same domain
}

// Read reads and checks the rules of all files, in their order. An error names every mistake
// in a line of its own: FILE:LINE: REASON. Warnings name, in the same form, keys that have no
// effect where they stand: envoyproxy/ratelimit accepts them.
func Read(files []File, options Options) (r *Rules, warnings []string, err error) {
	r = &Rules{domains: map[string]*level{}}
	var errs []error
	for _, f := range files {
		read := reader{rules: r, options: options}
		if err := read.file(f.Text); err != nil {
			errs = append(errs, yamlfile.Named(f.Name, "\n", err))
		}
		for _, w := range read.misplaced {
			warnings = append(warnings, f.Name+":"+w)
		}
	}
	if len(errs) > 0 {
		return nil, warnings, errors.Join(errs...)
	}
	return r, warnings, nil
}

// A reader reads a file.
type reader struct {
	rules     *Rules
	options   Options
	resource  string // that the domain is
	misplaced []string
}

func (r *reader) file(text []byte) error {
	document, err := yamlfile.Document(bytes.NewReader(text), "domain: NAME and a list of descriptors are needed")
	if err != nil {
		return err
	}
	var name, list *yaml.Node
	err = r.mapping(document, "the file", yamlfile.Fields{"domain": keep(&name), "descriptors": keep(&list)})
	if err != nil {
		return err
	}
	domain, line, err := optional("domain", name, document)
	switch {
	case err != nil:
		return err
	case domain == "":
		return yamlfile.Errorf(line, "config file cannot have empty domain")
	}
	root := r.rules.domains[domain]
	switch {
	case root == nil:
		root = newLevel(domain)
		r.rules.domains[domain] = root
	case !r.options.Merge:
		return yamlfile.Errorf(line, "duplicate domain '%s' in config file", domain)
	}
	r.resource = Resource(domain)
	return r.descriptors(list, root, domain+".", 1)
}

// descriptors reads a list of descriptors into a level. path is what leads to it.
func (r *reader) descriptors(n *yaml.Node, into *level, path string, depth int) error {
	if absent(n) {
		return nil
	}
	n = yamlfile.Resolve(n)
	if n.Kind != yaml.SequenceNode {
		return yamlfile.Errorf(n.Line, "descriptors: not a list")
	}
	if depth > MaxDepth {
		return yamlfile.Errorf(n.Line, "descriptors: more than %d levels: no request has so many entries", MaxDepth)
	}
	var errs []error
	for _, each := range n.Content {
		if r.rules.count++; r.rules.count > MaxRules {
			return errors.Join(append(errs, yamlfile.Errorf(each.Line, "descriptors: more than %d", MaxRules))...)
		}
		errs = append(errs, r.descriptor(each, into, path, depth))
	}
	return errors.Join(errs...)
}

func (r *reader) descriptor(n *yaml.Node, into *level, path string, depth int) error {
	var key, value, limit, list *yaml.Node
	rule, l := &Rule{}, newLevel("")
	err := r.mapping(n, "a descriptor", yamlfile.Fields{
		"key": keep(&key), "value": keep(&value), "rate_limit": keep(&limit), "descriptors": keep(&list),
		"shadow_mode": flag(&rule.Shadow), "quota_mode": flag(&rule.Quota), "detailed_metric": flag(&rule.detailed),
		"value_to_metric": flag(&l.valueToMetric), "share_threshold": flag(&l.share),
		"metadata": func(string, *yaml.Node, *yaml.Node) error { return nil }, // notes of the operator
	})
	if err != nil {
		return err
	}
	name, line, err := optional("key", key, n)
	if err != nil {
		return err
	}
	if name == "" {
		return yamlfile.Errorf(line, "descriptor has empty key")
	}
	of, _, err := optional("value", value, n)
	if err != nil {
		return err
	}
	if l.key = name; of != "" {
		l.key += "_" + of
	}
	pattern := strings.HasSuffix(l.key, "*")
	switch {
	case into.next[l.key] != nil:
		return yamlfile.Errorf(line, "duplicate descriptor composite key '%s'", path+l.key)
	case l.share && !pattern:
		return yamlfile.Errorf(line, "share_threshold can only be used with wildcard values (ending with '*'), but found key '%s'", l.key)
	}
	if !absent(limit) {
		if err := r.rateLimit(limit, rule); err != nil {
			return err
		}
		l.rule = rule
	}
	into.next[l.key] = l
	if pattern {
		into.patterns = append(into.patterns, l)
	}
	return r.descriptors(list, l, path+l.key+".", depth+1)
}

// rateLimit reads the limit of a rule, whose modes are known.
func (r *reader) rateLimit(n *yaml.Node, rule *Rule) error {
	var requests, unit, name, replaces *yaml.Node
	fixed := false
	err := r.mapping(n, "rate_limit", yamlfile.Fields{
		"requests_per_unit": keep(&requests), "unit": keep(&unit), "name": keep(&name), "replaces": keep(&replaces),
		"unlimited": flag(&rule.Unlimited),
		"window": func(key string, _, n *yaml.Node) error {
			_, err := yamlfile.Word(key, n, "fixed")
			fixed = err == nil
			return err
		},
	})
	if err != nil {
		return err
	}
	if !absent(requests) {
		count, err := strconv.ParseUint(yamlfile.Resolve(requests).Value, 0, 32)
		if err != nil {
			return yamlfile.Errorf(requests.Line, "requests_per_unit: %q is not a number from 0 to 4294967295", yamlfile.Resolve(requests).Value)
		}
		rule.Requests = uint32(count)
	}
	word, line, err := optional("unit", unit, n)
	if err != nil {
		return err
	}
	known, valid := units()[strings.ToLower(word)]
	switch {
	case rule.Unlimited && valid:
		return yamlfile.Errorf(line, "should not specify rate limit unit when unlimited")
	case !rule.Unlimited && !valid:
		return yamlfile.Errorf(line, "invalid rate limit unit '%s': write second, minute, hour, day, week, month or year", word)
	}
	rule.Unit = known.unit
	if rule.Name, _, err = optional("name", name, n); err != nil {
		return err
	}
	if rule.Replaces, err = r.replaces(replaces, rule.Name); err != nil || rule.Unlimited || rule.Requests == 0 {
		return err
	}
	rule.Limit = known.limit(LimitName, int64(rule.Requests))
	if fixed {
		rule.Limit = zael.Each(LimitName, int64(rule.Requests), known.window)
	}
	if rule.Policy, err = zael.NewPolicy(r.resource, rule.Limit); err != nil {
		return yamlfile.Errorf(n.Line, "rate_limit: %w", err)
	}
	return nil
}

// replaces reads the names of the rules that a rule of a name replaces.
func (r *reader) replaces(n *yaml.Node, own string) (names []string, err error) {
	if absent(n) {
		return nil, nil
	}
	if n = yamlfile.Resolve(n); n.Kind != yaml.SequenceNode {
		return nil, yamlfile.Errorf(n.Line, "replaces: not a list")
	}
	for _, each := range n.Content {
		var node *yaml.Node
		if err := r.mapping(each, "replaces", yamlfile.Fields{"name": keep(&node)}); err != nil {
			return nil, err
		}
		name, line, err := optional("name", node, each)
		switch {
		case err != nil:
			return nil, err
		case name == "":
			return nil, yamlfile.Errorf(line, "should not have an empty replaces entry")
		case name == own:
			return nil, yamlfile.Errorf(line, "replaces should not contain name of same descriptor")
		}
		names = append(names, name)
	}
	return names, nil
}

// A window is what a unit stands for.
type window struct {
	unit   Unit
	window string                                       // as [zael.Each] has it, aligned to the Unix epoch
	limit  func(name string, requests int64) zael.Limit // without window: fixed
}

// units returns the units by name. Up to an hour a rule is a token bucket, which has no double
// burst where two windows meet; from a day upward people mean the calendar.
func units() map[string]window {
	return map[string]window{
		"second": {Second, "second", zael.PerSecond},
		"minute": {Minute, "minute", zael.PerMinute},
		"hour":   {Hour, "hour", zael.PerHour},
		"day":    {Day, "day", zael.EachDay},
		"week":   {Week, "7d", zael.EachWeek},
		"month":  {Month, "30d", zael.EachMonth},
		"year":   {Year, "365d", zael.EachYear},
	}
}

// mapping is yamlfile.Mapping, to which keys that belong elsewhere are no mistakes.
func (r *reader) mapping(n *yaml.Node, what string, known yamlfile.Fields) error {
	known[yamlfile.AnyKey] = func(name string, key, _ *yaml.Node) error {
		if !slices.Contains(anywhere(), name) {
			delete(known, yamlfile.AnyKey)
			keys := strings.Join(slices.Sorted(maps.Keys(known)), ", ")
			return yamlfile.Errorf(key.Line, "%s: unknown key %q; its keys are %s", what, name, keys)
		}
		r.misplaced = append(r.misplaced, fmt.Sprintf("%d: %s: the key %s has no effect here", key.Line, what, name))
		return nil
	}
	return yamlfile.Mapping(n, what, known)
}

// anywhere returns the keys that envoyproxy/ratelimit accepts in every mapping.
func anywhere() []string {
	return []string{
		"domain", "key", "value", "descriptors", "rate_limit", "unit", "requests_per_unit", "unlimited", "shadow_mode",
		"quota_mode", "name", "replaces", "detailed_metric", "value_to_metric", "share_threshold",
	}
}

// keep returns a reader that keeps the node of a value.
func keep(node **yaml.Node) yamlfile.Reader {
	return func(_ string, _, n *yaml.Node) error { *node = n; return nil }
}

// flag returns a reader of true or false.
func flag(to *bool) yamlfile.Reader {
	return func(name string, _, n *yaml.Node) (err error) {
		*to, err = yamlfile.Bool(name, n)
		return err
	}
}

// Override returns the rule that a request brings along for a descriptor of a domain. Its limit
// has a name of its own, so that it and the rules of files do not replace each other.
func Override(domain string, requests uint32, unit Unit) (*Rule, error) {
	for _, w := range units() {
		if w.unit != unit {
			continue
		}
		r := &Rule{Requests: requests, Unit: unit}
		if requests == 0 {
			return r, nil
		}
		var err error
		r.Limit = w.limit(OverrideName, int64(requests))
		r.Policy, err = zael.NewPolicy(Resource(domain), r.Limit)
		return r, err
	}
	return nil, fmt.Errorf("the unit %d is not one of 1 to %d", unit, Week)
}

// absent reports whether there is no value.
func absent(n *yaml.Node) bool {
	return n == nil || yamlfile.Resolve(n).Tag == "!!null"
}

// optional returns the text of a value and its line; those of within if there is none.
func optional(name string, n, within *yaml.Node) (text string, line int, err error) {
	if absent(n) {
		return "", within.Line, nil
	}
	text, err = yamlfile.Text(name, n)
	return text, n.Line, err
}
