// Package prefix finds the end of the names that begin in one way.
package prefix

import "unicode/utf8"

// End returns the least text above all UTF-8 texts that begin with p, in the order of bytes,
// which is that of code points; "" if there is none. p is UTF-8.
func End(p string) string {
	for len(p) > 0 {
		last, size := utf8.DecodeLastRuneInString(p)
		p = p[:len(p)-size]
		switch last++; {
		case last == surrogateMin:
			last = surrogateMax + 1
			fallthrough
		case last <= utf8.MaxRune:
			return p + string(last)
		}
	}
	return ""
}

// Code points that no UTF-8 text has.
const (
	surrogateMin = 0xD800
	surrogateMax = 0xDFFF
)
