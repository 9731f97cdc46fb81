package access

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"hash/maphash"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/clientkey"
	"github.com/zeroae/zael/internal/httpedge"
	"github.com/zeroae/zael/internal/serve/problem"
	"github.com/zeroae/zael/memstore"
)

// The names of principals without a token, in the audit log.
const (
	Local  = "local"  // a caller on this machine
	Anyone = "anyone" // any caller of a daemon that runs with --insecure
)

// ErrTokenRemoved is the cause of the contexts of requests whose token a reload removed or
// changed.
var ErrTokenRemoved = errors.New("the token was removed")

// Rules say which requests a Guard lets in.
type Rules struct {
	Tokens  []Token        // none: no token is asked for
	Hosts   []string       // names that requests may be sent to, beside those of this machine
	Proxies []netip.Prefix // whose X-Forwarded-For is believed

	AllowRemote bool // without Tokens, other machines may call too
}

// A Guard lets requests in, by their tokens or, if there are none, by where they come from. Its
// methods may be called concurrently.
type Guard struct {
	seed     maphash.Seed
	rules    atomic.Pointer[ruleSet]
	changing sync.Mutex // held while rules are replaced
	tries    *zael.Limiter
	wrong    *zael.Policy // of wrong tokens from an address
	log      *slog.Logger
	refused  func(reason string)
}

// A ruleSet is Rules as a Guard looks them up.
type ruleSet struct {
	Rules

	bearers  map[uint64][]*bearer // by a keyed hash of their token's hash
	networks *clientkey.Networks
}

// A bearer is a token that is valid until ctx is done.
type bearer struct {
	Token

	ctx    context.Context //nolint:containedctx // it is the token's life, not a call's
	cancel context.CancelCauseFunc
}

func newBearer(t Token) *bearer {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &bearer{t, ctx, cancel}
}

// triesBuckets bounds the number of addresses whose wrong tokens are counted.
const triesBuckets = 100_000

// NewGuard returns a Guard. refused is called with a word for the reason of each request that
// the guard refuses.
func NewGuard(rules Rules, log *slog.Logger, refused func(reason string)) (*Guard, error) {
	tries, err := zael.New(memstore.New(&memstore.Config{MaxBuckets: triesBuckets}), nil)
	if err != nil {
		return nil, err
	}
	wrong, err := zael.NewPolicy("tokens", zael.PerMinute("tries", 30))
	if err != nil {
		return nil, err
	}
	g := &Guard{seed: maphash.MakeSeed(), tries: tries, wrong: wrong, log: log, refused: refused}
	return g, g.Set(rules)
}

// Set replaces the rules. Requests under way whose token is gone or has changed end.
func (g *Guard) Set(rules Rules) error {
	networks, err := clientkey.NewNetworks(rules.Proxies, 0, 0)
	if err != nil {
		return err
	}
	g.changing.Lock()
	defer g.changing.Unlock()
	next := &ruleSet{Rules: rules, bearers: map[uint64][]*bearer{}, networks: networks}
	before := g.rules.Load()
	kept := map[*bearer]bool{}
	for _, t := range rules.Tokens {
		b := g.find(before, t.Hash)
		if b == nil || b.Token != t {
			b = newBearer(t)
		}
		kept[b] = true
		index := g.keyedHash(t.Hash)
		next.bearers[index] = append(next.bearers[index], b)
	}
	g.rules.Store(next)
	if before == nil {
		return nil
	}
	for _, bearers := range before.bearers {
		for _, b := range bearers {
			if !kept[b] {
				b.cancel(ErrTokenRemoved)
			}
		}
	}
	return nil
}

// index returns where the bearer of a hash is looked for. The seed keeps those who ask from
// learning anything by the time that it takes.
func (g *Guard) keyedHash(h Hash) uint64 { return maphash.Bytes(g.seed, h[:]) }

// find returns the bearer whose token has the hash, or nil. Its time does not depend on how much of
// a wrong hash is right.
func (g *Guard) find(rules *ruleSet, h Hash) *bearer {
	if rules == nil {
		return nil
	}
	for _, b := range rules.bearers[g.keyedHash(h)] {
		if subtle.ConstantTimeCompare(b.Hash[:], h[:]) == 1 {
			return b
		}
	}
	return nil
}

// A Gate is how a Guard lets requests through to a handler.
type Gate struct {
	// Token returns the token of a request that has one. Nil means that of Authorization.
	Token func(http.Header) (text string, ok bool)
	// Hint tells those without a token what to send. Empty means as a bearer.
	Hint string
	// Authenticates reports whether the handler finds out by itself who sends a request. It then has
	// no principal, and needs no token.
	Authenticates func(*http.Request) bool
	// Refuse answers a request that is refused. Nil writes problem details.
	Refuse func(w http.ResponseWriter, r *http.Request, code problem.Code, detail string)
}

// Handler returns a handler that passes the requests that are let in to next, with their principal
// in the context.
func (g *Guard) Handler(next http.Handler) http.Handler { return g.HandlerWith(Gate{}, next) }

// HandlerWith is Handler with another gate.
func (g *Guard) HandlerWith(gate Gate, next http.Handler) http.Handler {
	if gate.Token == nil {
		gate.Token = bearerToken
	}
	if gate.Refuse == nil {
		gate.Refuse = func(w http.ResponseWriter, _ *http.Request, code problem.Code, detail string) {
			problem.Write(w, code, detail)
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rules := g.rules.Load()
		c := caller{g, rules, &gate, w, r}
		switch {
		case !rules.allowsHost(r.Host):
			c.refuse("host", problem.Forbidden, wrongHost)
		case len(rules.Tokens) > 0 && (gate.Authenticates == nil || !gate.Authenticates(r)):
			c.serveBearer(next)
		case len(rules.Tokens) > 0:
			next.ServeHTTP(w, r)
		default:
			c.serveLocal(next)
		}
	})
}

// Public returns a handler that passes requests to next without a token: for what is no secret,
// such as the files of a page. Without Rules.Tokens, other sites may link there and no more.
func (g *Guard) Public(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rules := g.rules.Load()
		reason, detail := "", ""
		switch {
		case !rules.allowsHost(r.Host):
			reason, detail = "host", wrongHost
		case len(rules.Tokens) == 0 && !isLink(r):
			reason, detail = crossSite(r)
		}
		if reason != "" {
			g.refused(reason)
			problem.Write(w, problem.Forbidden, detail)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isLink reports whether a browser follows a link: it shows the answer as a page, which no other
// page can read.
func isLink(r *http.Request) bool {
	return r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Origin") == ""
}

const wrongHost = "the name in the request's Host is not one of this server: add it to hosts in the configuration"

// A caller is one request at a gate.
type caller struct {
	*Guard

	rules *ruleSet
	gate  *Gate
	w     http.ResponseWriter
	r     *http.Request
}

func (c *caller) refuse(reason string, code problem.Code, detail string) {
	c.refused(reason)
	c.gate.Refuse(c.w, c.r, code, detail)
}

// serveLocal serves a request where no token is needed, unless a web page may have sent it.
func (c *caller) serveLocal(next http.Handler) {
	if reason, detail := crossSite(c.r); reason != "" {
		code := problem.Forbidden
		if reason == reasonMediaType {
			code = problem.Invalid
		}
		c.refuse(reason, code, detail)
		return
	}
	if c.gate.Authenticates != nil && c.gate.Authenticates(c.r) {
		next.ServeHTTP(c.w, c.r)
		return
	}
	p := Principal{Name: Local, Role: Admin}
	if c.rules.AllowRemote {
		p.Name = Anyone
	}
	next.ServeHTTP(c.w, c.r.WithContext(With(c.r.Context(), p)))
}

// serveBearer serves a request that needs a token. It is cancelled when the token is removed.
func (c *caller) serveBearer(next http.Handler) {
	text, ok := c.gate.Token(c.r.Header)
	if !ok {
		c.w.Header().Set("WWW-Authenticate", `Bearer realm="zael"`)
		c.refuse("no_token", problem.Unauthenticated, cmp.Or(c.gate.Hint, "send a token as Authorization: Bearer zael_…"))
		return
	}
	b := c.find(c.rules, HashOf(text))
	if b == nil {
		c.wrongToken("the token is not known: it may have been removed")
		return
	}
	ctx, end := context.WithCancelCause(With(c.r.Context(), b.Principal))
	defer end(nil)
	stop := context.AfterFunc(b.ctx, func() { end(ErrTokenRemoved) })
	defer stop()
	next.ServeHTTP(c.w, c.r.WithContext(ctx))
}

// bearerToken returns the token of a request that has one.
func bearerToken(h http.Header) (text string, ok bool) {
	values := h["Authorization"]
	if len(values) != 1 {
		return "", false
	}
	scheme, text, ok := strings.Cut(values[0], " ")
	return strings.Trim(text, " "), ok && strings.EqualFold(scheme, "Bearer")
}

// AnyKey returns the key of a request as clients of LLM providers send it: in Authorization,
// X-Api-Key, X-Goog-Api-Key or Api-Key. A request that has two different ones has none.
func AnyKey(h http.Header) (text string, ok bool) {
	if len(h["Authorization"]) > 0 {
		if text, ok = bearerToken(h); !ok {
			return "", false
		}
	}
	for _, name := range [...]string{"X-Api-Key", "X-Goog-Api-Key", "Api-Key"} {
		for _, value := range h[name] {
			if value = strings.Trim(value, " "); ok && value != text {
				return "", false
			}
			text, ok = value, true
		}
	}
	return text, ok && text != ""
}

// RefuseKey refuses a request whose key its handler does not know, as an unknown token is refused:
// the tries of each address are limited.
func (g *Guard) RefuseKey(gate Gate, w http.ResponseWriter, r *http.Request, detail string) {
	c := caller{g, g.rules.Load(), &gate, w, r}
	c.wrongToken(detail)
}

// wrongToken refuses an unknown token. The tries of each address, or each /64 of IPv6, are limited.
// A valid token is never refused for the tries of others.
func (c *caller) wrongToken(detail string) {
	client := c.Client(c.r)
	err := c.tries.Allow(c.r.Context(), c.wrong.For(client, 1))
	if exceeded, ok := errors.AsType[*zael.ExceededError](err); ok {
		httpedge.SetRetryAfter(c.w.Header(), exceeded)
		c.refuse("tries", problem.Exceeded, "too many wrong tokens from this address")
		return
	}
	c.log.WarnContext(c.r.Context(), "unknown token", "client", client)
	c.w.Header().Set("WWW-Authenticate", `Bearer realm="zael", error="invalid_token"`)
	c.refuse("token", problem.Unauthenticated, detail)
}

// Client returns the address of the client that sent a request, or its /64 of IPv6: "unknown" if the
// connection has none.
func (g *Guard) Client(r *http.Request) string {
	client, err := g.rules.Load().networks.Client(r.RemoteAddr, func() []string { return r.Header["X-Forwarded-For"] })
	if err != nil {
		return "unknown"
	}
	return client
}

// Proxied reports whether a request comes from one of the trusted proxies.
func (g *Guard) Proxied(r *http.Request) bool { return g.rules.Load().networks.Proxied(r.RemoteAddr) }
