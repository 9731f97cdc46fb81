// Package redact hides passwords in the URLs of stores.
package redact

import (
	"regexp"
	"strings"
)

// hidden is shown instead of a password.
const hidden = "***"

// URL returns a store's URL as it may be shown: with *** for a password, also if it is no valid
// URL. All else stays as it is, so that equal URLs are shown alike.
func URL(address string) string {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return mistyped(address)
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		if user, _, has := strings.Cut(rest[:at], ":"); has {
			rest = user + ":" + hidden + rest[at:]
		}
	}
	return scheme + "://" + passwords().ReplaceAllString(rest, "${1}"+hidden)
}

// mistyped is URL of a text without ://, which is a path of a file, or a URL that somebody has
// mistyped: then what may be a password is hidden.
func mistyped(address string) string {
	scheme, rest, ok := strings.Cut(address, ":")
	at := strings.LastIndexByte(rest, '@')
	if !ok || at < 0 || scheme == "sqlite" || scheme == "memory" {
		return address
	}
	if user, _, has := strings.Cut(rest[:at], ":"); has {
		return scheme + ":" + user + ":" + hidden + rest[at:]
	}
	return scheme + ":" + hidden + rest[at:]
}

// passwords finds settings that are passwords, where somebody has written one in the wrong place.
func passwords() *regexp.Regexp {
	return regexp.MustCompile(`([?&](?i:password|pass|pwd|auth|secret)=)[^&]*`)
}
