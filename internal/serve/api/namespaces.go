package api

import (
	"net/http"
	"strings"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/strictjson"
)

// A namespacesBody is a page of namespaces.
type namespacesBody struct {
	Namespaces []zael.Namespace `json:"namespaces"`
	Next       *string          `json:"next"`
}

// namespaces serves GET /v1/namespaces.
func (c *call) namespaces() error {
	if !c.principal.MayReadAll() {
		return c.forbid("read namespaces")
	}
	limit, cursor, err := c.query.page()
	if err != nil {
		return err
	}
	all, err := c.limiter.Namespaces(c.ctx)
	if err != nil {
		return err
	}
	some, next := page(all, limit, cursor, func(n zael.Namespace) string { return n.Name }, strings.Compare)
	return c.answer(http.StatusOK, namespacesBody{some, next})
}

// namespace serves GET /v1/namespaces/{name}.
func (c *call) namespace() error {
	if !c.principal.MayReadAll() {
		return c.forbid("read namespaces")
	}
	return c.answerNamespace(http.StatusOK)
}

func (c *call) answerNamespace(status int) error {
	n, err := c.limiter.Namespace(c.ctx, c.name)
	if err != nil {
		return err
	}
	return c.answer(status, n)
}

// registerNamespace serves POST /v1/namespaces.
func (c *call) registerNamespace() error {
	if err := c.mayChangeNamespaces(); err != nil {
		return err
	}
	err := c.object(func(r *strictjson.Reader, name string) error {
		if name != "name" {
			return unknownMember()
		}
		return readInto(&c.name, r.String)
	})
	if err != nil {
		return err
	}
	if err := c.limiter.RegisterNamespace(c.ctx, c.name); err != nil {
		return err
	}
	c.w.Header().Set("Location", "/v1/namespaces/"+escape(c.name))
	return c.answerNamespace(http.StatusCreated)
}

// deleteNamespace serves DELETE /v1/namespaces/{name}.
func (c *call) deleteNamespace() error {
	if err := c.mayChangeNamespaces(); err != nil {
		return err
	}
	if err := c.limiter.DeleteNamespace(c.ctx, c.name); err != nil {
		return err
	}
	return c.answerNamespace(http.StatusOK)
}

// recoverNamespace serves POST /v1/namespaces/{name}/recover.
func (c *call) recoverNamespace() error {
	if err := c.mayChangeNamespaces(); err != nil {
		return err
	}
	if err := c.limiter.RecoverNamespace(c.ctx, c.name); err != nil {
		return err
	}
	return c.answerNamespace(http.StatusOK)
}

// A purgedBody is how many records a purge has removed.
type purgedBody struct {
	Records int `json:"records"`
}

// purgeNamespace serves POST /v1/namespaces/{name}/purge.
func (c *call) purgeNamespace() error {
	if err := c.mayChangeNamespaces(); err != nil {
		return err
	}
	n, err := c.limiter.PurgeNamespace(c.ctx, c.name)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, purgedBody{n})
}

func (c *call) mayChangeNamespaces() error {
	if !c.principal.MayChangeAll() {
		return c.forbid("change namespaces")
	}
	return nil
}
