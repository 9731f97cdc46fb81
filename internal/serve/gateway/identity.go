package gateway

import (
	"net/http"
	"time"

	"github.com/zeroae/zael/internal/clientkey"
	"github.com/zeroae/zael/internal/serve/access"
	"github.com/zeroae/zael/internal/serve/config"
)

// A deniedError is why a caller may not call.
type deniedError struct {
	status int
	reason string
}

// Error implements error.
func (e *deniedError) Error() string { return e.reason }

// inWhat tells how keys are sent.
const inWhat = " as the SDK's API key: in Authorization: Bearer, x-api-key or x-goog-api-key, and one only"

// identity returns the entity that calls. Its error is a *deniedError, or one of the store.
func (f *flight) identity(r *http.Request) (string, error) {
	p := access.From(r.Context())
	if f.route.Auth == config.AuthTokens && !p.MayUseGateway() {
		return "", &deniedError{http.StatusForbidden, "the token " + p.Name + " has the role " + p.Role.String() + ", and routes of the gateway are for the role gateway"}
	}
	entity, err := f.byKey(r)
	if err != nil {
		return "", err
	}
	if f.route.Entity == config.EntityToken {
		return p.Prefix + p.Name, nil
	}
	if f.route.Entity != config.EntityHeader {
		return entity, nil
	}
	if !f.gateway.env.Guard.Proxied(r) {
		return "", &deniedError{http.StatusForbidden, "the route goes by a header of a proxy, and the request comes from none of trusted_proxies"}
	}
	values := r.Header.Values(f.route.Header)
	if len(values) != 1 || values[0] == "" {
		return "", &deniedError{http.StatusBadRequest, "the request needs the header " + f.route.Header + " once, which names the entity"}
	}
	if !p.Covers(values[0]) {
		return "", &deniedError{http.StatusForbidden, "the token " + p.Name + " may not name that entity"}
	}
	return values[0], nil
}

// byKey returns the entity that the caller's own key stands for, where the route goes by it.
func (f *flight) byKey(r *http.Request) (string, error) {
	if f.route.Auth == config.AuthTokens {
		return "", nil
	}
	key, ok := access.AnyKey(r.Header)
	if !ok && f.route.Auth == config.AuthNone {
		key = r.URL.Query().Get("key") // as Gemini has it: the upstream gets it
		ok = key != ""
	}
	if !ok && f.route.Auth == config.AuthNone && f.route.Entity == config.EntityHeader {
		return "", nil
	}
	if !ok {
		return "", &deniedError{http.StatusUnauthorized, "send a key" + inWhat}
	}
	switch f.route.Auth {
	case config.AuthJWT:
		claim, err := f.route.JWT.Verify(key, time.Now())
		if err != nil {
			return "", &deniedError{http.StatusUnauthorized, err.Error()}
		}
		return claim, nil
	case config.AuthEntities:
		id := "key-" + clientkey.Hash(key)
		known, err := f.gateway.entityExists(r.Context(), id, f.config)
		if err == nil && !known {
			err = &deniedError{http.StatusUnauthorized, "the key is not known here"}
		}
		return id, err
	}
	return "key-" + clientkey.Hash(key), nil
}
