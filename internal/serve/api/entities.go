package api

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/strictjson"
)

// createEntity serves POST /v1/entities.
func (c *call) createEntity() error {
	var e zael.Entity
	if err := c.object(func(r *strictjson.Reader, name string) error { return readEntity(r, name, &e) }); err != nil {
		return err
	}
	if err := c.mayCreate(&e); err != nil {
		return err
	}
	created, err := c.limiter.CreateEntity(c.ctx, e)
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", "/v1/entities/"+escape(created.ID))
	return c.answer(http.StatusCreated, created)
}

// readEntity reads a member of an entity.
func readEntity(r *strictjson.Reader, name string, e *zael.Entity) error {
	switch name {
	case "id":
		return readInto(&e.ID, r.String)
	case "name":
		return readInto(&e.Name, r.String)
	case "parent_id":
		return readInto(&e.ParentID, r.String)
	case "cascade":
		return readInto(&e.Cascade, r.Bool)
	case "metadata":
		e.Metadata = map[string]string{}
		return r.Object(func(name []byte) error {
			v, err := r.String()
			e.Metadata[string(name)] = v
			return err
		})
	}
	return unknownMember()
}

// mayCreate returns an error if the principal may not create an entity under its parent.
func (c *call) mayCreate(e *zael.Entity) error {
	if !c.principal.MayChange(e.ID) {
		return c.forbid("change " + e.ID)
	}
	if e.ParentID != "" && !c.principal.MayChange(e.ParentID) {
		return c.forbid("change what has the parent " + e.ParentID)
	}
	return nil
}

// escape returns a name as a segment of a path.
func escape(name string) string {
	if strings.Trim(name, ".") == "" {
		return strings.ReplaceAll(name, ".", "%2E")
	}
	return url.PathEscape(name)
}

// entity serves GET /v1/entities/{id}.
func (c *call) entity() error {
	if !c.principal.MayRead(c.name) {
		return c.forbid("read " + c.name)
	}
	e, err := c.limiter.Entity(c.ctx, c.name)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, e)
}

// deleteEntity serves DELETE /v1/entities/{id}.
func (c *call) deleteEntity() error {
	if err := c.mayMove(c.name); err != nil {
		return err
	}
	if err := c.limiter.DeleteEntity(c.ctx, c.name); err != nil {
		return err
	}
	return c.noContent()
}

// mayMove returns an error if the principal may not take an entity from its parent: one with
// a prefix cannot lift what a parent beyond it is held to.
func (c *call) mayMove(id string) error {
	if !c.principal.MayChange(id) {
		return c.forbid("change " + id)
	}
	e, outer, err := c.outerParent(id)
	if outer {
		return c.forbid("take " + id + " from its parent " + e.ParentID)
	}
	return err
}

// outerParent returns an entity, and whether it has a parent that the principal's prefix does
// not cover.
func (c *call) outerParent(id string) (e zael.Entity, outer bool, err error) {
	if c.principal.Prefix == "" {
		return e, false, nil
	}
	e, err = c.limiter.Entity(c.ctx, id)
	if errors.Is(err, zael.ErrEntityNotFound) {
		return e, false, nil
	}
	return e, e.ParentID != "" && !strings.HasPrefix(e.ParentID, c.principal.Prefix), err
}

// A childrenBody is a page of the children of an entity.
type childrenBody struct {
	Entities []zael.Entity `json:"entities"`
	Next     *string       `json:"next"`
}

// children serves GET /v1/entities/{id}/children. A principal with a prefix sees those that
// it covers.
func (c *call) children() error {
	if !c.principal.MayRead(c.name) {
		return c.forbid("read " + c.name)
	}
	limit, cursor, err := c.query.page()
	if err != nil {
		return err
	}
	all, err := c.limiter.Children(c.ctx, c.name)
	if err != nil {
		return err
	}
	covered := all[:0]
	for i := range all {
		if c.principal.MayRead(all[i].ID) {
			covered = append(covered, all[i])
		}
	}
	some, next := page(covered, limit, cursor, func(e zael.Entity) string { return e.ID }, strings.Compare)
	return c.answer(http.StatusOK, childrenBody{some, next})
}

// setParent serves PUT /v1/entities/{id}/parent.
func (c *call) setParent() error {
	var parent string
	err := c.object(func(r *strictjson.Reader, name string) error {
		if name != "parent_id" {
			return unknownMember()
		}
		return readInto(&parent, r.String)
	})
	switch {
	case err != nil:
		return err
	case parent == "":
		return invalid("parent_id", "is missing: name the parent; DELETE removes it")
	case !c.principal.MayChange(parent):
		return c.forbid("change what has the parent " + parent)
	}
	return c.moveTo(parent)
}

// removeParent serves DELETE /v1/entities/{id}/parent.
func (c *call) removeParent() error { return c.moveTo("") }

func (c *call) moveTo(parent string) error {
	if err := c.mayMove(c.name); err != nil {
		return err
	}
	options, err := c.options()
	if err != nil {
		return err
	}
	if err := c.limiter.SetParent(c.ctx, c.name, parent, options); err != nil {
		return err
	}
	return c.noContent()
}
