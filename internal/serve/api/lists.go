package api

import (
	"errors"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/zeroae/zael"
)

// list returns the query of a page: one element more than is asked for, which tells whether
// there are any after it.
func (c *call) list() (q zael.ListQuery, limit int, err error) {
	limit, q.After, err = c.query.page()
	if err == nil && !utf8.ValidString(q.After) {
		err = errCursor
	}
	q.Max = limit + 1
	return q, limit, err
}

// covered returns the prefix of a list of entities: what is asked for, within that of the
// principal.
func (c *call) covered() (string, error) {
	prefix, own := c.query.get("prefix"), c.principal.Prefix
	switch {
	case !c.principal.MayRead(own):
		return "", c.forbid("read lists")
	case strings.HasPrefix(prefix, own):
		return prefix, nil
	case strings.HasPrefix(own, prefix):
		return own, nil
	}
	return "", c.forbid("read what begins with " + prefix)
}

// firstOf returns the first elements, at most limit, and the cursor of those after them.
func firstOf[T any](all []T, limit int, key func(T) string) (some []T, next *string) {
	if len(all) <= limit {
		return all, nil
	}
	return all[:limit], encodeCursor(key(all[limit-1]))
}

// entities serves GET /v1/entities.
func (c *call) entities() error {
	q, limit, err := c.list()
	if err != nil {
		return err
	}
	if q.Prefix, err = c.covered(); err != nil {
		return err
	}
	all, err := c.limiter.Entities(c.ctx, q)
	if err != nil {
		return cursorError(q.After, err)
	}
	some, next := firstOf(all, limit, func(e zael.Entity) string { return e.ID })
	return c.answer(http.StatusOK, childrenBody{some, next})
}

// cursorError returns errCursor if a cursor may be the cause of err, and err otherwise.
func cursorError(cursor string, err error) error {
	if _, invalid := errors.AsType[*zael.ValidationError](err); invalid && cursor != "" {
		return errCursor
	}
	return err
}

// A resourcesBody is a page of the resources.
type resourcesBody struct {
	Resources []string `json:"resources"`
	Next      *string  `json:"next"`
}

// resources serves GET /v1/resources.
func (c *call) resources() error {
	if !c.principal.MayReadAll() {
		return c.forbid("read what concerns all entities")
	}
	q, limit, err := c.list()
	if err != nil {
		return err
	}
	q.Prefix = c.query.get("prefix")
	all, err := c.limiter.Resources(c.ctx, q)
	if err != nil {
		return cursorError(q.After, err)
	}
	some, next := firstOf(all, limit, func(name string) string { return name })
	return c.answer(http.StatusOK, resourcesBody{some, next})
}

// A scopesBody is a page of the scopes that have limits.
type scopesBody struct {
	Scopes []limitsBody `json:"scopes"`
	Next   *string      `json:"next"`
}

// scopes serves GET /v1/scopes. A principal with a prefix sees those of entities that it
// covers.
func (c *call) scopes() error {
	list, limit, err := c.list()
	if err != nil {
		return err
	}
	q := zael.ScopeQuery{Max: list.Max}
	if q.Prefix, err = c.covered(); err != nil {
		return err
	}
	if list.After != "" {
		entity, resource, ok := strings.Cut(list.After, scopeSeparator)
		if !ok {
			return errCursor
		}
		q.After = &zael.Scope{Entity: entity, Resource: resource}
	}
	all, err := c.limiter.Scopes(c.ctx, q)
	if err != nil {
		return cursorError(list.After, err)
	}
	some, next := firstOf(all, limit, func(l zael.ScopeLimits) string { return l.Scope.Entity + scopeSeparator + l.Scope.Resource })
	out := scopesBody{Scopes: make([]limitsBody, len(some)), Next: next}
	for i, l := range some {
		out.Scopes[i] = limitsBody{Entity: l.Scope.Entity, Resource: l.Scope.Resource, Limits: l.Limits}
	}
	return c.answer(http.StatusOK, out)
}

// scopeSeparator stands between the names of a cursor, which have no control characters.
const scopeSeparator = "\x00"
