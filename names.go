package zael

import "fmt"

// What names may be made of, as in zae-limiter.
const (
	maxEntity = 256
	maxName   = 64

	entityRule   = "is not 1 to 256 characters of A-Z a-z 0-9 _ . : @ -, beginning with a letter or digit"
	nameRule     = "is not 1 to 64 characters of A-Z a-z 0-9 _ . / -, beginning with a letter"
	resourceRule = nameRule
)

const (
	letter    = 1 << iota // begins any name
	digit                 // begins entities
	inEntity              // may follow in an entity
	inName                // may follow in a name
	entityOne = letter | digit
)

// class is a constant table of what each byte may do.
var class = func() (t [256]uint8) { //nolint:gochecknoglobals // a constant table
	for c := 'a'; c <= 'z'; c++ {
		t[c] = letter | inEntity | inName
		t[c-'a'+'A'] = t[c]
	}
	for c := '0'; c <= '9'; c++ {
		t[c] = digit | inEntity | inName
	}
	for _, c := range "_.-" {
		t[c] = inEntity | inName
	}
	t[':'], t['@'], t['/'] = inEntity, inEntity, inName
	return t
}()

func validEntity(s string) bool { return valid(s, maxEntity, entityOne, inEntity) }

func validName(s string) bool { return valid(s, maxName, letter, inName) }

func valid(s string, longest int, first, rest uint8) bool {
	if s == "" || len(s) > longest || class[s[0]]&first == 0 {
		return false
	}
	for i := 1; i < len(s); i++ {
		if class[s[i]]&rest == 0 {
			return false
		}
	}
	return true
}

func checkEntity(field, id string) error {
	if !validEntity(id) {
		return invalid(field, id, entityRule)
	}
	return nil
}

func checkResource(field, resource string) error {
	if !validName(resource) {
		return invalid(field, resource, resourceRule)
	}
	return nil
}

// invalid is a ValidationError about a value, shortened if it is long.
func invalid(field string, value any, reason string) error {
	if s, ok := value.(string); ok && len(s) > 80 {
		value = fmt.Sprintf("%s… (%d bytes)", s[:64], len(s))
	}
	return &ValidationError{Field: field, Value: value, Reason: reason}
}
