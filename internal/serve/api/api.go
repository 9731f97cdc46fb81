// Package api is the JSON API of the daemon: acquires, leases, reading and administration
// over a Limiter, for every language that speaks HTTP. Its document is openapi.json.
//
// access.From has the principal of a request. Whether an answer is a success or a problem is decided
// before its first byte is written.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/lograte"
	"github.com/zeroae/zael/internal/serve"
	"github.com/zeroae/zael/internal/serve/access"
	"github.com/zeroae/zael/internal/serve/leasetext"
	"github.com/zeroae/zael/internal/serve/live"
	"github.com/zeroae/zael/internal/serve/problem"
)

const (
	// How long reading and administration may take: unlike acquires they run without the
	// Limiter's deadline.
	storeTime = 30 * time.Second
	purgeTime = 10 * time.Minute

	maxPath = 4096 // bytes of a path: 256 bytes of a name, all escaped, are 768
)

// A handler serves the API. Its methods may be called concurrently.
type handler struct {
	env      *serve.Env
	limiter  *zael.Limiter
	routes   []route
	policies *policyCache
	signer   *leasetext.Signer
	buffers  sync.Pool        // of *buffer
	logRate  *lograte.Limiter // of requests that fail, by code

	overviews *live.Shared[*overview]
}

// New returns a handler of the paths that begin with /v1/.
func New(env *serve.Env) (http.Handler, error) {
	h := &handler{env: env, limiter: env.Limiter, policies: newPolicyCache(), routes: routes(), logRate: lograte.New(time.Second)}
	h.overviews = live.NewShared[*overview](time.Now, overviewAge, storeTime)
	h.signer = leasetext.NewSigner(env.Limiter)
	h.buffers.New = func() any { return new(buffer) }
	return h, nil
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := call{handler: h, w: w, r: r, principal: access.From(r.Context())}
	if err := h.serve(&c); err != nil {
		c.fail(err)
	}
}

func (h *handler) serve(c *call) error {
	if c.principal.Role == 0 {
		return &failure{code: problem.Unauthenticated, detail: "send a token of the configuration: Authorization: Bearer zael_…"}
	}
	if c.r.Method == http.MethodPost && c.r.URL.Path == acquirePath {
		return c.acquire()
	}
	to, err := h.route(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(zael.WithPrincipal(c.r.Context(), c.principal.Name), to.time)
	defer cancel()
	c.ctx = ctx
	if c.query, err = parseQuery(c.r.URL.RawQuery, to.query); err != nil {
		return err
	}
	err = to.serve(c)
	if c.r.Method != http.MethodGet && !strings.HasPrefix(to.path, "/v1/leases/") { // it may have changed something
		h.overviews.Forget()
		if strings.HasPrefix(to.path, "/v1/entities/") {
			h.env.Live.Forget(c.name)
		}
	}
	return err
}

// A call is one request.
type call struct {
	*handler

	w         http.ResponseWriter
	r         *http.Request
	principal access.Principal
	ctx       context.Context //nolint:containedctx // of the request, with its deadline and principal
	name      string          // of the path, unescaped
	query     query
}

// A buffer has the body of a request and of its answer.
type buffer struct{ in, out []byte }

// maxKept is the size in bytes up to which a buffer is reused.
const maxKept = 16 << 10

func (h *handler) buffer() *buffer {
	return h.buffers.Get().(*buffer) //nolint:forcetypeassert // the pool holds nothing else
}

func (h *handler) recycle(b *buffer) {
	if cap(b.in) <= maxKept && cap(b.out) <= maxKept {
		h.buffers.Put(b)
	}
}

// answer writes a value as JSON.
func (c *call) answer(status int, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	h := c.w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Cache-Control"] = []string{"no-store"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	c.w.WriteHeader(status)
	_, _ = c.w.Write(append(body, '\n')) // what was changed stays changed if the client has left
	return nil
}

// noContent answers a change with status 204.
func (c *call) noContent() error {
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// options returns the options of a change: the header Idempotency-Key.
func (c *call) options() (zael.AdminOptions, error) {
	key, err := c.idempotencyKey()
	return zael.AdminOptions{IdempotencyKey: key}, err
}

// idempotencyKey returns the header Idempotency-Key, which is there at most once.
func (c *call) idempotencyKey() (string, error) {
	keys := c.r.Header["Idempotency-Key"]
	switch {
	case len(keys) == 0:
		return "", nil
	case len(keys) > 1:
		return "", invalid(keyHeader, "is given twice")
	case keys[0] == "":
		return "", invalid(keyHeader, "is empty: leave it out, or give one")
	}
	return keys[0], nil
}

const keyHeader = "Idempotency-Key"

// forbid returns the error of a principal that may not do something.
func (c *call) forbid(what string) error {
	detail := "the token " + c.principal.Name + " with the role " + c.principal.Role.String()
	if c.principal.Prefix != "" {
		detail += " and the prefix " + c.principal.Prefix
	}
	return &failure{code: problem.Forbidden, detail: detail + " may not " + what}
}

// A failure is an error with a code.
type failure struct {
	code   problem.Code
	detail string
	field  string // of Invalid
	value  any
	reason string
}

func (f *failure) Error() string { return f.detail }

// invalid returns the error of a field that is not valid.
func invalid(field, reason string) error {
	return &failure{code: problem.Invalid, detail: field + " " + reason, field: field, reason: reason}
}

// clientLeft reports whether err is the end of the request's context: nobody reads the answer.
func (c *call) clientLeft(err error) bool {
	gone := c.r.Context().Err()
	return gone != nil && errors.Is(err, gone)
}
