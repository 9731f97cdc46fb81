package config

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve/keyset"
	"github.com/zeroae/zael/llm"
)

// A Route is a part of the gateway: what is below a prefix goes to an upstream.
type Route struct {
	Prefix      string   // of paths, without a slash at its end
	Upstream    *url.URL // what follows the prefix is appended to its path
	Provider    Provider
	UpstreamKey string // that calls are sent with instead of the caller's; empty: none
	Auth        Auth
	JWT         *keyset.Set // of AuthJWT
	JWKS        string      // the file of JWT
	Entity      EntityFrom
	Header      string // of EntityHeader
	Parent      string // that every call takes from too; empty: the one that is stored, if it cascades

	Clients     *zael.Policy            // that every client's address is held to, whoever calls; nil: none
	Policies    map[string]*zael.Policy // by resource; nil: stored limits hold
	Models      ByName[string]          // resources
	Default     string                  // the resource of other models; empty: they are refused
	Shared      string                  // the resource of calls without a model: Default or the first one
	MaxWait     time.Duration
	MediaTokens int64 // as llm.Config.MediaTokens
	Also        []Also
}

// A Provider is whose API an upstream has.
type Provider string

// The providers.
const (
	Auto      Provider = "auto" // what the path says
	OpenAI    Provider = "openai"
	Anthropic Provider = "anthropic"
	Gemini    Provider = "gemini"
	Bedrock   Provider = "bedrock"
)

// An Auth is how callers of a route show who they are.
type Auth int

// The ways.
const (
	AuthNone     Auth = iota // not at all: the upstream asks for their own key
	AuthTokens               // by a token of the configuration
	AuthEntities             // by a key whose hash is an entity of the store
	AuthJWT                  // by a JSON Web Token
)

// An EntityFrom is which entity a call is taken from.
type EntityFrom int

// The ways.
const (
	EntityToken   EntityFrom = iota + 1 // the token's prefix and name
	EntityKeyHash                       // key- and a hash of the caller's key
	EntityClaim                         // a claim of the JSON Web Token
	EntityHeader                        // a header that a trusted proxy has set
)

// An Also is a further path that calls may have.
type Also struct {
	Method, Prefix string
}

// A ByName has values by names, which may end with "*" for all names that begin so: the exact
// one counts, else the longest.
type ByName[V any] struct {
	exact    map[string]V
	prefixes []prefixed[V] // the longest first
}

type prefixed[V any] struct {
	prefix string
	value  V
}

// Get returns the value of a name.
func (b *ByName[V]) Get(name string) (v V, ok bool) {
	if v, ok = b.exact[name]; ok {
		return v, true
	}
	for i := range b.prefixes {
		if strings.HasPrefix(name, b.prefixes[i].prefix) {
			return b.prefixes[i].value, true
		}
	}
	return v, false
}

// Set sets the value of a pattern, and reports whether it had none.
func (b *ByName[V]) Set(pattern string, v V) bool {
	prefix, ok := strings.CutSuffix(pattern, "*")
	if !ok {
		if b.exact == nil {
			b.exact = map[string]V{}
		}
		_, had := b.exact[pattern]
		b.exact[pattern] = v
		return !had
	}
	if slices.ContainsFunc(b.prefixes, func(p prefixed[V]) bool { return p.prefix == prefix }) {
		return false
	}
	b.prefixes = append(b.prefixes, prefixed[V]{prefix, v})
	slices.SortFunc(b.prefixes, func(x, y prefixed[V]) int { return len(y.prefix) - len(x.prefix) })
	return true
}

// Covers reports whether all names of a pattern have a value.
func (b *ByName[V]) Covers(pattern string) bool {
	prefix, ok := strings.CutSuffix(pattern, "*")
	if !ok {
		_, ok = b.Get(pattern)
		return ok
	}
	return slices.ContainsFunc(b.prefixes, func(p prefixed[V]) bool { return strings.HasPrefix(prefix, p.prefix) })
}

// Price returns the price of a model, or else of its resource.
func (c *Config) Price(model, resource string) (p llm.Price, ok bool) {
	if p, ok = c.Prices.Get(model); ok {
		return p, true
	}
	return c.Prices.Get(resource)
}

// ForbiddenUpstream reports whether no upstream may have an address: it is link-local or a metadata
// service, from which machines of a cloud get their credentials, or is not the address of one host.
func ForbiddenUpstream(a netip.Addr) bool {
	if a = a.Unmap().WithZone(""); a.Is6() && translated().Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	switch a.String() {
	case "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192": // metadata of AWS, Google, Alibaba, Azure and Oracle
		return true
	}
	return !a.IsValid() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// translated is the network whose addresses stand for those of IPv4.
func translated() netip.Prefix { return netip.MustParsePrefix("64:ff9b::/96") }

// Files returns the paths of the files that a configuration names.
func (c *Config) Files() []string {
	var files []string
	if c.TLS != nil {
		files = c.TLS.Files()
	}
	for i := range c.Gateway {
		if c.Gateway[i].JWKS != "" {
			files = append(files, c.Gateway[i].JWKS)
		}
	}
	return files
}
