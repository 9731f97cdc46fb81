package rules

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/zeroae/zael"
)

// maxShown is how many bytes of a value, and of a whole name, are stored as they are.
const maxShown = 200

// Entity returns the name of the bucket of a descriptor: key=value for each entry, joined
// by |. What has a meaning in it, or cannot be in a name, is percent-encoded, so that
// descriptors that differ have names that differ. A value of more than 200 bytes, and that
// of a key which says that it is a secret, is stored as a hash; so is a whole name that
// would be too long.
func Entity(entries []Entry) string {
	var b strings.Builder
	for i, e := range entries {
		if i > 0 {
			b.WriteByte('|')
		}
		escape(&b, e.Key)
		b.WriteByte('=')
		if len(e.Value) > maxShown || secret(e.Key) && e.Value != "" {
			b.WriteString(hashed(e.Value))
		} else {
			escape(&b, e.Value)
		}
	}
	return short(b.String())
}

// Resource returns the name of the resource that a domain is.
func Resource(domain string) string {
	if domain == zael.DefaultResource {
		return strings.Replace(domain, "_", "%5F", 1) // the name is reserved
	}
	var b strings.Builder
	escape(&b, domain)
	return short(b.String())
}

func short(name string) string {
	if len(name) > maxShown {
		return hashed(name)
	}
	return name
}

func hashed(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256:" + hex.EncodeToString(sum[:16])
}

// secret reports whether the values of a key are not to be stored. Keys are often the names
// of headers: x-api-key, access_token. A count of tokens is none.
func secret(key string) bool {
	words := strings.FieldsFunc(strings.ToLower(key), func(r rune) bool { return r == '-' || r == '_' || r == '.' || r == ' ' })
	for i, word := range words {
		for _, end := range []string{"authorization", "cookie", "token", "secret", "password", "credential", "credentials", "apikey"} {
			if strings.HasSuffix(word, end) {
				return true
			}
		}
		if word == "key" && i > 0 && (words[i-1] == "api" || words[i-1] == "access") {
			return true
		}
	}
	return false
}

// escape writes a part of a name.
func escape(b *strings.Builder, s string) {
	for i, r := range s {
		size := utf8.RuneLen(r)
		if r == utf8.RuneError {
			_, size = utf8.DecodeRuneInString(s[i:])
		}
		edge := i == 0 || i+size == len(s)
		switch {
		case r == utf8.RuneError && size == 1, unicode.IsControl(r), unicode.IsSpace(r) && (r != ' ' || edge),
			r == '%', r == '|', r == '=', r == '\u2028', r == '\u2029':
			for _, c := range []byte(s[i : i+size]) {
				fmt.Fprintf(b, "%%%02X", c)
			}
		default:
			b.WriteRune(r)
		}
	}
}
