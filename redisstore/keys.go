package redisstore

import (
	"fmt"
	"strings"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/storearg"
)

// keys are the names of a namespace's keys. Entity and resource are percent-encoded in
// them; the entity is the hash tag, so that all buckets of an entity are in one slot of a
// cluster. All administration, of all namespaces, is in one slot, too.
type keys struct {
	prefix string // of all keys: "zael:NAMESPACE:"
	admin  string // of the keys of administration
}

func newKeys(namespace string) keys {
	p := "zael:" + namespace + ":"
	return keys{prefix: p, admin: p + "{~}:"}
}

// noEntity is the encoded form of "": an empty tag would be none.
const noEntity = "%"

// bucket is the hash of a bucket: its name without the resource, for scripts that have these
// from the entity's set, and the resource.
func (k keys) bucket(key zael.Key) string { return k.buckets(key.Entity) + escape(key.Resource) }

// buckets is the prefix of the hashes of an entity's buckets.
func (k keys) buckets(entity string) string { return k.prefix + "b:" + tag(entity) + ":" }

// index is the set of an entity's buckets, by encoded resource. Each entity has one: its name is short.
func (k keys) index(entity string) string { return k.prefix + tag(entity) }

// usage is the prefix of the hashes of an entity's usage, one a day.
func (k keys) usage(entity string) string { return k.prefix + "u:" + tag(entity) + ":" }

// days is the set of the days of which an entity has usage.
func (k keys) days(entity string) string { return k.prefix + "d:" + tag(entity) }

// once is the hash of a once-key.
func (k keys) once(key string) string { return k.prefix + "once:" + escape(key) }

// marks are, in a cluster, the hashes beside the buckets of an entity that say that what has claimed a
// once-key by an id was done to them, and that it was undone.
func (k keys) marks(entity, id string) (done, undone string) {
	done = k.prefix + "once:" + tag(entity) + ":" + fmt.Sprintf("%x", id)
	return done, done + ":undone"
}

func tag(entity string) string {
	if entity == "" {
		return "{" + noEntity + "}"
	}
	return "{" + escape(entity) + "}"
}

// keyOf returns the bucket whose hash has a name.
func (k keys) keyOf(name string) (key zael.Key, ok bool) {
	rest, ok := strings.CutPrefix(name, k.prefix+"b:{")
	entity, resource, ok2 := strings.Cut(rest, "}:")
	if !ok || !ok2 {
		return key, false
	}
	return zael.Key{Entity: untag(entity), Resource: unescape(resource)}, true
}

// untag returns the entity that is in a tag.
func untag(s string) string {
	if s == noEntity {
		return ""
	}
	return unescape(s)
}

// escape percent-encodes what has a meaning in names of keys, and control characters, so
// that names stay what they are in tools.
func escape(s string) string {
	n := 0
	for i := range len(s) {
		if special(s[i]) {
			n++
		}
	}
	if n == 0 {
		return s
	}
	const digits = "0123456789ABCDEF"
	b := make([]byte, 0, len(s)+2*n)
	for i := range len(s) {
		if c := s[i]; special(c) {
			b = append(b, '%', digits[c>>4], digits[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}

func special(c byte) bool {
	switch c {
	case '%', '{', '}', ':', '|', 0x7f:
		return true
	}
	return c < ' '
}

// unescape undoes escape.
func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			b = append(b, hex(s[i+1])<<4|hex(s[i+2]))
			i += 2
			continue
		}
		b = append(b, s[i])
	}
	return string(b)
}

func hex(c byte) byte {
	if c >= 'A' {
		return c - 'A' + 10
	}
	return c - '0'
}

// storable says what can be kept: JSON cannot have what is not UTF-8.
//
//nolint:gochecknoglobals // a constant
var storable storearg.Names

// Keys of administration.
func (k keys) meta() string                  { return k.admin + "meta" }     // a hash: see adminTx
func (k keys) entities() string              { return k.admin + "entities" } // a hash of JSON by id
func (k keys) ids() string                   { return k.admin + "ids" }      // a sorted set, by bytes
func (k keys) children(parent string) string { return k.admin + "children:" + escape(parent) }
func (k keys) scopes() string                { return k.admin + "scopes" }    // a hash of JSON by scopeField
func (k keys) order() string                 { return k.admin + "order" }     // the fields of scopes, by bytes
func (k keys) resources() string             { return k.admin + "resources" } // those that have had a bucket, by bytes
func (k keys) audit() string                 { return k.admin + "audit" }     // by bytes: see auditText
func (k keys) auditOf(entity string) string  { return k.admin + "audit:" + escape(entity) }
func (k keys) editOnce(key string) string    { return k.admin + "once:" + escape(key) }
