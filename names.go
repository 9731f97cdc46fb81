package zael

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The rules for names.
const (
	maxKey  = 256 // bytes of an entity and of a resource
	maxName = 64  // of a limit

	keyRule  = "is not 1 to 256 bytes of UTF-8 without control characters and without space at either end"
	nameRule = "is not 1 to 64 characters of A-Z a-z 0-9 _ . / -, beginning with a letter"
)

// validKey reports whether s can name an entity or a resource.
func validKey(s string) bool {
	if s == "" || len(s) > maxKey {
		return false
	}
	ascii := true
	for i := range len(s) {
		c := s[i]
		if c < ' ' || c == 0x7f {
			return false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	if ascii {
		return s[0] != ' ' && s[len(s)-1] != ' '
	}
	return utf8.ValidString(s) && strings.TrimSpace(s) == s && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || r == '\u2028' || r == '\u2029'
	})
}

// validName reports whether s can name a limit.
func validName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '_' && c != '.' && c != '/' && c != '-') {
			return false
		}
	}
	return s != "" && len(s) <= maxName
}

func checkEntity(field, id string) error {
	if !validKey(id) {
		return invalid(field, id, keyRule)
	}
	return nil
}

func checkResource(field, resource string) error {
	if !validKey(resource) {
		return invalid(field, resource, keyRule)
	}
	if resource == DefaultResource {
		return invalid(field, resource, "is reserved for the limits of an entity on all resources: choose another name")
	}
	return nil
}

// invalid returns a *ValidationError about a value, which it shortens if it is long.
func invalid(field string, value any, reason string) error {
	if s, ok := value.(string); ok && len(s) > 80 {
		value = fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(s[:64], ""), len(s))
	}
	return &ValidationError{Field: field, Value: value, Reason: reason}
}
