package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/zeroae/zael"
)

func nameChecks() []check {
	return []check{
		{name: "keys that differ are different buckets", run: keysApart},
		{name: "limits that differ in name are different limits", run: limitNamesApart},
	}
}

// A name is a text that a store could mix up with another one.
type name struct {
	text  string
	plain bool // a Limiter lets it pass for a limit, so that a store has to take it
}

// passes reports whether a Limiter lets a text pass for an entity or a resource, so
// that a store has to take it.
func passes(text string) bool {
	return text != "" && len(text) <= 256 && utf8.ValidString(text) && strings.TrimSpace(text) == text &&
		!strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' })
}

// names are texts that differ in case, in characters that engines treat
// specially, in what a terminal or a normalization hides, or only at the end.
func names() []name {
	long := strings.Repeat("x", 2047)
	return []name{
		{"alice", true},
		{"Alice", true},
		{"ALICE", true},
		{"alicE", true},
		{"al-ice", true},
		{"al.ice", true},
		{"al_ice", true},
		{"al--ice", true},
		{"alXice", true},
		{"a", true},
		{"META", true},
		{"SYSTEM", true},
		{"default", true},
		{"null", true},
		{"size", true},
		{"", false},
		{" ", false},
		{"alice ", false},
		{" alice", false},
		{"alice\x00", false},
		{"alice\n", false},
		{"#META", false},
		{"al#ice", false},
		{"al%ice", false},
		{"al*ice", false},
		{"al?ice", false},
		{"al'ice", false},
		{`al"ice`, false},
		{`al\ice`, false},
		{"al\x00ice", false},
		{"al\x1fice", false},
		{"al,ice", false},
		{"al=ice", false},
		{"_default_", false},
		{"al%23ice", false},
		{"al+ice", false},
		{"al ice", false},
		{"--", false},
		{".", false},
		{"..", false},
		{"ali\u00e9", false},
		{"alie\u0301", false},
		{"ALI\u00c9", false},
		{"stra\u00dfe", false},
		{"strasse", true},
		{"\u0130", false},
		{"\u0131", false},
		{"\u65e5\u672c", false},
		{"\U0001f600", false},
		{"alice\xff", false},
		{"alice\xfe", false},
		{"\ufeffalice", false},
		{long + "a", false},
		{long + "b", false},
	}
}

// separators are what encodings put between the parts of a key.
func separators() []string {
	list := strings.Split("_-.#/:@|,;=+~!$%&*()[]{}<>?^'`\"\\ \t\n\x00\x01\x1e\x1f\x7f", "")
	return append(list, "##", "::", "%23", "/#")
}

// A keyed is a key whose parts a Limiter lets pass, or not.
type keyed struct {
	zael.Key
	plain bool
}

// partsOfKeys are names that look like what the keys of engines are made of.
func partsOfKeys() []string {
	return []string{
		"a", "a#", "a#hour#b", "a#hour#2026-01-13T14Z", "a#hour#2026-01-13T14Z#1", "a#0", "a#15", "a/", "E#a", "ns/E#a", "ns/", "#META", "B#a", "l_", "%", "%23", "a%23hour%23b",
	}
}

// likelySeparators are those that the keys of an engine have, if any.
func likelySeparators() []string { return strings.Split("_-.#/:@|", "") }

// hostileKeys are pairwise different. Those with separators that are not likely are a part of long
// runs: there are many, and that buckets are kept apart by them is checked in any case.
func (e *env) hostileKeys() []keyed {
	if e.long > 1 {
		return hostileKeys(separators())
	}
	return hostileKeys(append(likelySeparators(), "##", "%23"))
}

// hostileKeys are pairwise different, some of them by a separator.
func hostileKeys(separators []string) []keyed {
	var keys []keyed
	for _, n := range names() {
		keys = append(keys, keyed{zael.Key{Entity: n.text, Resource: "gpt-4"}, passes(n.text)})
		keys = append(keys, keyed{zael.Key{Entity: "robin", Resource: n.text}, passes(n.text)})
	}
	for _, sep := range separators {
		keys = append(keys,
			keyed{zael.Key{Entity: "b", Resource: "c" + sep + "d"}, passes("c" + sep + "d")},
			keyed{zael.Key{Entity: "b" + sep + "c", Resource: "d"}, passes("b" + sep + "c")})
	}
	for _, text := range partsOfKeys() {
		keys = append(keys, keyed{zael.Key{Entity: text, Resource: "of"}, true}, keyed{zael.Key{Entity: "of", Resource: text}, true})
	}
	return append(keys,
		keyed{zael.Key{Entity: "b", Resource: "cd"}, true}, keyed{zael.Key{Entity: "bc", Resource: "d"}, true},
		keyed{zael.Key{Entity: "bcd", Resource: ""}, false}, keyed{zael.Key{Entity: "", Resource: "bcd"}, false},
		keyed{zael.Key{Entity: "gpt-4", Resource: "robin"}, true}, keyed{zael.Key{}, false},
		keyed{zael.Key{Entity: "1:b", Resource: "c"}, true}, keyed{zael.Key{Entity: "1", Resource: "b:c"}, true},
		keyed{zael.Key{Entity: "3.cde", Resource: "f"}, true}, keyed{zael.Key{Entity: "3", Resource: "cde.f"}, true})
}

// hostileEntities are the entities of hostileKeys, each once.
func (e *env) hostileEntities() []name {
	var list []name
	for _, k := range e.hostileKeys() {
		n := name{k.Entity, passes(k.Entity)}
		if !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	return list
}

// refuses reports whether a store refuses a name. It must not refuse a plain one, and
// others only with a *zael.ValidationError.
func refuses(what string, plain bool, err error) (bool, error) {
	if err == nil {
		return false, nil
	}
	if _, ok := errors.AsType[*zael.ValidationError](err); !ok {
		return true, fmt.Errorf("%s: got %w, want it done or a *zael.ValidationError", what, err)
	}
	if plain {
		return true, fmt.Errorf("%s: got %w, though a Limiter lets these names pass", what, err)
	}
	return true, nil
}

// keysApart takes another amount from each of the keys and then reads them.
func keysApart(ctx context.Context, e *env) error {
	d := never(1000)
	var kept []zael.Key
	var amounts []int64
	for i, k := range hostileKeys(separators()) {
		n := int64(i) + 1
		_, err := e.take(ctx, e.t0, 0, debit(k.Key, ask("rpm", d, n)))
		refused, err := refuses("Take of "+keyText(k.Key), k.plain, err)
		if err != nil {
			return err
		}
		if !refused {
			kept, amounts = append(kept, k.Key), append(amounts, n)
		}
	}
	s := e.script(ctx)
	s.leftOf(kept, "rpm", d, func(i int) int64 { return 1000 - amounts[i] })
	return s.err
}

// limitNamesApart takes another amount from each limit of one bucket, a few
// limits at a time, and reads them.
func limitNamesApart(ctx context.Context, e *env) error {
	d := never(1000)
	k := key("alice")
	list := append(names(), name{"al/ice", true}, name{"m_alice", true}, name{"d_alice", true}, name{"m_", true}, name{"e", true},
		name{"o", true}, name{"b", true}, name{"ttl", true}, name{"rev", true}, name{"al:ice", false}, name{"al@ice", false})
	slices.SortFunc(list, func(a, b name) int { return strings.Compare(b.text, a.text) })
	var kept []string
	var amounts []int64
	for i, n := range list {
		amount := int64(i) + 1
		_, err := e.take(ctx, e.t0, 0, debit(k, ask(n.text, d, amount)))
		refused, err := refuses("Take of a limit "+quote(n.text), n.plain, err)
		if err != nil {
			return err
		}
		if !refused {
			kept, amounts = append(kept, n.text), append(amounts, amount)
		}
	}
	at, got, err := e.read(ctx, e.t0, k)
	if err != nil {
		return err
	}
	for i, text := range kept {
		if units := level(limitOf(got[0], text), at); units != amounts[i]*1000 {
			return fmt.Errorf("limit %s: got %d units taken, want %d", quote(text), units, amounts[i]*1000)
		}
	}
	return nil
}
