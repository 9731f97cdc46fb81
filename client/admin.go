package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/zeroae/zael"
)

// entityPath returns the path of an entity, with what comes after it.
func entityPath(id, more string) string { return "/v1/entities/" + segment(id) + more }

// checkID returns an error for a name that has no place in a path.
func checkID(field, id string) error {
	if id == "" {
		return &zael.ValidationError{Field: field, Value: id, Reason: "is empty: name one"}
	}
	return nil
}

// get reads what a path has.
func (c *Client) get(ctx context.Context, path string, query url.Values, out any) error {
	return c.do(ctx, &call{method: http.MethodGet, path: path, query: query, repeats: true}, out)
}

// entityBody is an entity to create.
type entityBody struct {
	ID       string            `json:"id"`
	Name     string            `json:"name,omitempty"`
	ParentID string            `json:"parent_id,omitempty"`
	Cascade  bool              `json:"cascade,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

func newEntityBody(e *zael.Entity) *entityBody {
	return &entityBody{e.ID, e.Name, e.ParentID, e.Cascade, e.Metadata}
}

// CreateEntity stores an entity and returns it as stored. See zael.Limiter.CreateEntity.
func (c *Client) CreateEntity(ctx context.Context, e zael.Entity) (created zael.Entity, err error) {
	err = c.do(ctx, &call{method: http.MethodPost, path: "/v1/entities", body: newEntityBody(&e), entity: e.ID}, &created)
	return created, err
}

// Entity returns the entity with an ID.
func (c *Client) Entity(ctx context.Context, id string) (e zael.Entity, err error) {
	if err := checkID("id", id); err != nil {
		return e, err
	}
	err = c.get(ctx, entityPath(id, ""), nil, &e)
	return e, err
}

// Children returns the entities with this parent, in order of their IDs: of a token with a prefix,
// those that it covers.
func (c *Client) Children(ctx context.Context, parent string) ([]zael.Entity, error) {
	if err := checkID("id", parent); err != nil {
		return nil, err
	}
	all := []zael.Entity{}
	err := c.pages(ctx, entityPath(parent, "/children"), url.Values{}, func() (any, func() (next *string, more bool)) {
		var page struct {
			Entities []zael.Entity `json:"entities"`
			Next     *string       `json:"next"`
		}
		return &page, func() (*string, bool) {
			all = append(all, page.Entities...)
			return page.Next, true
		}
	})
	return all, err
}

// Entities returns a page of the entities that were created, by ID: of a token with a prefix, those
// that it covers. See zael.Limiter.Entities.
func (c *Client) Entities(ctx context.Context, q zael.ListQuery) ([]zael.Entity, error) {
	return list(ctx, c, "/v1/entities", newListing(q.Prefix, q.After, q.Max), func(p *listPage) []zael.Entity { return p.Entities })
}

// Resources returns a page of the resources that are in use or have limits, by name.
func (c *Client) Resources(ctx context.Context, q zael.ListQuery) ([]string, error) {
	return list(ctx, c, "/v1/resources", newListing(q.Prefix, q.After, q.Max), func(p *listPage) []string { return p.Resources })
}

// Scopes returns a page of the scopes for which limits are stored, with their limits, by entity and
// then resource: of a token with a prefix, those of entities that it covers.
func (c *Client) Scopes(ctx context.Context, q zael.ScopeQuery) ([]zael.ScopeLimits, error) {
	after := ""
	if q.After != nil {
		after = q.After.Entity + "\x00" + q.After.Resource
	}
	return list(ctx, c, "/v1/scopes", newListing(q.Prefix, after, q.Max), func(p *listPage) (all []zael.ScopeLimits) {
		for _, s := range p.Scopes {
			all = append(all, zael.ScopeLimits{Scope: zael.Scope(s.scopeBody), Limits: s.Limits})
		}
		return all
	})
}

// SetParent gives an entity another parent, or none if parent is empty.
func (c *Client) SetParent(ctx context.Context, id, parent string, options zael.AdminOptions) error {
	if err := checkID("id", id); err != nil {
		return err
	}
	r := c.change(http.MethodDelete, entityPath(id, "/parent"), nil, options)
	if parent != "" {
		r.method, r.body = http.MethodPut, map[string]string{"parent_id": parent}
	}
	return c.do(ctx, r, nil)
}

// change returns a call that makes a change.
func (c *Client) change(method, path string, body any, options zael.AdminOptions) *call {
	return &call{method: method, path: path, body: body, key: options.IdempotencyKey, repeats: options.IdempotencyKey != ""}
}

// DeleteEntity removes an entity with its buckets, stored limits and usage.
func (c *Client) DeleteEntity(ctx context.Context, id string) error {
	if err := checkID("id", id); err != nil {
		return err
	}
	return c.do(ctx, &call{method: http.MethodDelete, path: entityPath(id, ""), entity: id}, nil)
}

// scopePath returns the path of what is stored for a scope, and its query.
func scopePath(s zael.Scope, more string) (string, url.Values) {
	query := url.Values{}
	switch {
	case s.Entity != "":
		if s.Resource != "" {
			query.Set("resource", s.Resource)
		}
		return entityPath(s.Entity, more), query
	case s.Resource != "":
		return "/v1/resources/" + segment(s.Resource) + more, query
	}
	return "/v1/system" + more, query
}

// Limits returns the limits that are stored for this very scope.
func (c *Client) Limits(ctx context.Context, scope zael.Scope) ([]zael.Limit, error) {
	path, query := scopePath(scope, "/limits")
	var out struct {
		Limits []zael.Limit `json:"limits"`
	}
	err := c.get(ctx, path, query, &out)
	return out.Limits, err
}

// SetLimits stores limits for a scope, whatever they hide of others: see Overridden. See
// zael.Limiter.SetLimits.
func (c *Client) SetLimits(ctx context.Context, scope zael.Scope, limits []zael.Limit) error {
	if len(limits) == 0 {
		return &zael.ValidationError{Field: "limits", Value: 0, Reason: "is no limit at all: use DeleteLimits to remove what is stored"}
	}
	path, query := scopePath(scope, "/limits")
	query.Set("replace", "true")
	body := map[string][]string{"limits": texts(limits)}
	return c.do(ctx, &call{method: http.MethodPut, path: path, query: query, body: body, entity: scope.Entity, resource: scope.Resource}, nil)
}

// DeleteLimits deletes the limits that are stored for a scope.
func (c *Client) DeleteLimits(ctx context.Context, scope zael.Scope) error {
	path, query := scopePath(scope, "/limits")
	return c.do(ctx, &call{method: http.MethodDelete, path: path, query: query, entity: scope.Entity, resource: scope.Resource}, nil)
}

// Settings returns what is stored for this very scope beside limits. Its Rev is 0: it does not
// cross the network.
func (c *Client) Settings(ctx context.Context, scope zael.Scope) (s zael.Settings, err error) {
	path, query := scopePath(scope, "/settings")
	var out struct {
		Switch      string `json:"switch"`
		FailureMode string `json:"failure_mode"`
	}
	if err := c.get(ctx, path, query, &out); err != nil {
		return s, err
	}
	if s.Switch, err = zael.ParseSwitch(out.Switch); err != nil {
		return zael.Settings{}, err
	}
	for _, mode := range []zael.FailureMode{0, zael.FailClosed, zael.FailOpen} {
		if mode.String() == out.FailureMode {
			s.FailureMode = mode
			return s, nil
		}
	}
	return zael.Settings{}, &Error{Status: http.StatusOK, Detail: fmt.Sprintf("the answer of %s has the failure mode %q, which is not known here", c.base, out.FailureMode)}
}

// SetSwitch stores the switch of a scope. See zael.Limiter.SetSwitch.
func (c *Client) SetSwitch(ctx context.Context, scope zael.Scope, s zael.Switch, options zael.AdminOptions) error {
	if scope == (zael.Scope{}) {
		return &zael.ValidationError{Field: "Scope", Reason: "is the whole system, which has no switch: name an entity, a resource, or both"}
	}
	path, query := scopePath(scope, "/switch")
	r := c.change(http.MethodPut, path, map[string]string{"switch": s.String()}, options)
	r.query = query
	return c.do(ctx, r, nil)
}

// SetFailureMode stores the failure mode of a scope; 0 removes it. See zael.Limiter.SetFailureMode.
func (c *Client) SetFailureMode(ctx context.Context, scope zael.Scope, mode zael.FailureMode, options zael.AdminOptions) error {
	path, query := scopePath(scope, "/failure-mode")
	r := c.change(http.MethodPut, path, map[string]string{"failure_mode": mode.String()}, options)
	r.query = query
	return c.do(ctx, r, nil)
}

// levels is the answer of a change of a bucket.
type levels struct {
	Available zael.Amounts `json:"available"`
}

// Reset fills limits of a bucket: those of names, or all of them. See zael.Limiter.Reset.
func (c *Client) Reset(ctx context.Context, entity, resource string, names []string, options zael.AdminOptions) (zael.Amounts, error) {
	body := map[string]any{"resource": resource}
	if len(names) > 0 {
		body["limit_names"] = names
	}
	return c.refill(ctx, entity, "/reset", body, options)
}

// TopUp gives tokens to limits of a bucket. See zael.Limiter.TopUp.
func (c *Client) TopUp(ctx context.Context, entity, resource string, amounts zael.Amounts, options zael.AdminOptions) (zael.Amounts, error) {
	return c.refill(ctx, entity, "/top-up", map[string]any{"resource": resource, "amounts": amounts}, options)
}

func (c *Client) refill(ctx context.Context, entity, how string, body map[string]any, options zael.AdminOptions) (zael.Amounts, error) {
	if err := checkID("entity", entity); err != nil {
		return nil, err
	}
	var out levels
	err := c.do(ctx, c.change(http.MethodPost, entityPath(entity, how), body, options), &out)
	return out.Available, err
}

// A changeBody is one of several changes.
type changeBody struct {
	Create      *entityBody `json:"create,omitempty"`
	Entity      string      `json:"entity,omitempty"`
	Resource    string      `json:"resource,omitempty"`
	System      bool        `json:"system,omitempty"`
	Limits      []string    `json:"limits,omitempty"`
	Delete      bool        `json:"delete,omitempty"`
	Switch      string      `json:"switch,omitempty"`
	FailureMode string      `json:"failure_mode,omitempty"`
}

type changesBody struct {
	Changes []changeBody `json:"changes"`
}

func newChangesBody(changes []zael.Change) *changesBody {
	b := &changesBody{Changes: []changeBody{}}
	for i := range changes {
		c := &changes[i]
		change := changeBody{Entity: c.Scope.Entity, Resource: c.Scope.Resource, Limits: texts(c.Limits), Delete: c.Delete}
		if c.Create != nil {
			change.Create = newEntityBody(c.Create)
		}
		change.System = c.Create == nil && c.Scope == zael.Scope{}
		if c.Switch != nil {
			change.Switch = c.Switch.String()
		}
		if c.FailureMode != nil {
			change.FailureMode = c.FailureMode.String()
		}
		b.Changes = append(b.Changes, change)
	}
	return b
}

type changesMade struct {
	Made      int `json:"made"`
	Overrides []struct {
		By    scopeBody  `json:"by"`
		Scope scopeBody  `json:"scope"`
		Limit zael.Limit `json:"limit"`
	} `json:"overrides"`
}

type scopeBody struct {
	Entity   string `json:"entity_id"`
	Resource string `json:"resource"`
}

// Apply makes changes in order and returns how many it made, at most 10,000 at once and as many as
// fit into max.body of the server. See zael.Limiter.Apply.
func (c *Client) Apply(ctx context.Context, changes []zael.Change) (made int, err error) {
	if len(changes) == 0 {
		return 0, nil
	}
	var out changesMade
	err = c.do(ctx, &call{method: http.MethodPost, path: "/v1/changes", query: url.Values{"replace": {"true"}}, body: newChangesBody(changes)}, &out)
	return out.Made, err
}

// Overridden returns the stored limits that would not bind any more if changes were applied. See
// zael.Limiter.Overridden.
func (c *Client) Overridden(ctx context.Context, changes []zael.Change) ([]zael.Override, error) {
	if len(changes) == 0 {
		return nil, nil
	}
	var out changesMade
	r := &call{method: http.MethodPost, path: "/v1/changes", query: url.Values{"dry_run": {"true"}}, body: newChangesBody(changes), repeats: true}
	if err := c.do(ctx, r, &out); err != nil {
		return nil, err
	}
	var all []zael.Override
	for _, o := range out.Overrides {
		all = append(all, zael.Override{By: zael.Scope(o.By), Scope: zael.Scope(o.Scope), Limit: o.Limit})
	}
	return all, nil
}

// namespacePath returns the path of a namespace.
func namespacePath(name, more string) string { return "/v1/namespaces/" + segment(name) + more }

// RegisterNamespace adds a namespace; one that is there stays as it is. See
// zael.Limiter.RegisterNamespace.
func (c *Client) RegisterNamespace(ctx context.Context, name string) error {
	return c.do(ctx, &call{method: http.MethodPost, path: "/v1/namespaces", body: map[string]string{"name": name}, repeats: true}, nil)
}

// DeleteNamespace makes everything in a namespace fail until it is recovered.
func (c *Client) DeleteNamespace(ctx context.Context, name string) error {
	return c.namespace(ctx, http.MethodDelete, name, "", nil)
}

// RecoverNamespace makes a deleted namespace active again.
func (c *Client) RecoverNamespace(ctx context.Context, name string) error {
	return c.namespace(ctx, http.MethodPost, name, "/recover", nil)
}

// PurgeNamespace removes a deleted namespace with all that is in it, and returns how many records
// those were. It may take the server's ten minutes, if ctx lets it.
func (c *Client) PurgeNamespace(ctx context.Context, name string) (records int, err error) {
	var out struct {
		Records int `json:"records"`
	}
	err = c.namespace(ctx, http.MethodPost, name, "/purge", &out)
	return out.Records, err
}

func (c *Client) namespace(ctx context.Context, method, name, more string, out any) error {
	if err := zael.CheckNamespace(name); err != nil {
		return err
	}
	r := &call{method: method, path: namespacePath(name, more)}
	if strings.HasSuffix(more, "/purge") {
		r.wait = mostTimeout
	}
	return c.do(ctx, r, out)
}

// Namespaces returns the registered namespaces, in order of their names.
func (c *Client) Namespaces(ctx context.Context) ([]zael.Namespace, error) {
	all := []zael.Namespace{}
	err := c.pages(ctx, "/v1/namespaces", url.Values{}, func() (any, func() (*string, bool)) {
		var page struct {
			Namespaces []zael.Namespace `json:"namespaces"`
			Next       *string          `json:"next"`
		}
		return &page, func() (*string, bool) {
			all = append(all, page.Namespaces...)
			return page.Next, true
		}
	})
	return all, err
}

// Namespace returns a registered namespace.
func (c *Client) Namespace(ctx context.Context, name string) (n zael.Namespace, err error) {
	if err := zael.CheckNamespace(name); err != nil {
		return n, err
	}
	err = c.get(ctx, namespacePath(name, ""), nil, &n)
	return n, err
}

// Ping returns nil if the server's store answers.
func (c *Client) Ping(ctx context.Context) error { return c.get(ctx, "/v1/ping", nil, nil) }
