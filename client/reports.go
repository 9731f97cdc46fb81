package client

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/zeroae/zael"
)

const (
	onePage   = 1000 // elements, the most that the server gives
	mostPages = 100_000

	defaultMax = 100
)

// pages reads a list, page after page. Each is decoded into what next returns, which then tells
// the cursor of the next page, and whether more is wanted.
func (c *Client) pages(ctx context.Context, path string, query url.Values, next func() (page any, read func() (cursor *string, more bool))) error {
	if !query.Has("limit") {
		query.Set("limit", strconv.Itoa(onePage))
	}
	for range mostPages {
		page, read := next()
		if err := c.get(ctx, path, query, page); err != nil {
			return err
		}
		cursor, more := read()
		if cursor == nil || !more {
			return nil
		}
		if *cursor == "" || *cursor == query.Get("cursor") {
			break
		}
		query.Set("cursor", *cursor)
	}
	return &Error{Status: http.StatusOK, Detail: "the list of " + c.base + path + " has no end"}
}

// A listing is a query of a list.
type listing struct {
	values url.Values
	most   int
}

// newListing returns the query of a list. A place in it is a cursor of the server.
func newListing(prefix, after string, most int) *listing {
	l := &listing{url.Values{}, most}
	if prefix != "" {
		l.values.Set("prefix", prefix)
	}
	if after != "" {
		l.values.Set("cursor", base64.RawURLEncoding.EncodeToString([]byte(after)))
	}
	return l
}

// A listPage is a page of one of the lists.
type listPage struct {
	Entities  []zael.Entity `json:"entities"`
	Resources []string      `json:"resources"`
	Scopes    []struct {
		scopeBody

		Limits []zael.Limit `json:"limits"`
	} `json:"scopes"`
	Next *string `json:"next"`
}

// list reads a list up to the most elements that are wanted.
func list[T any](ctx context.Context, c *Client, path string, l *listing, of func(*listPage) []T) ([]T, error) {
	if l.most < 0 {
		return nil, &zael.ValidationError{Field: "ListQuery.Max", Value: l.most, Reason: "is negative: use 0 for the default of 100"}
	}
	most := cmp.Or(l.most, defaultMax)
	l.values.Set("limit", strconv.Itoa(min(most, onePage)))
	all := []T{}
	err := c.pages(ctx, path, l.values, func() (any, func() (*string, bool)) {
		page := new(listPage)
		return page, func() (*string, bool) {
			all = append(all, of(page)...)
			return page.Next, len(all) < most
		}
	})
	return all[:min(len(all), most)], err
}

// levelsQuery returns the query of the limits of a bucket.
func levelsQuery(q *zael.Query, amounts zael.Amounts) (path string, query url.Values, err error) {
	if err := checkID("entity", q.Entity); err != nil {
		return "", nil, err
	}
	query = url.Values{}
	if q.Policy != nil {
		return "", nil, &zael.ValidationError{Field: "Query.Policy", Reason: "is not known to a server: name the limits, or use stored ones"}
	}
	if q.Resource != "" {
		query.Set("resource", q.Resource)
	}
	switch {
	case len(q.Limits) == 0 && !q.UseStoredLimits:
		return "", nil, fmt.Errorf("%w for %s on %s: name them in the query, or use stored ones", zael.ErrNoLimits, q.Entity, q.Resource)
	case len(q.Limits) > 0:
		query["limits"] = texts(q.Limits)
		if q.UseStoredLimits {
			query.Set("stored", "true")
		}
		if len(q.ParentLimits) > 0 {
			query["parent_limits"] = texts(q.ParentLimits)
		}
	}
	if q.Cascade {
		query.Set("cascade", "true")
	}
	for name, n := range amounts {
		query.Add("consume", name+"="+strconv.FormatInt(n, 10))
	}
	return entityPath(q.Entity, "/available"), query, nil
}

type availableBody struct {
	Available  zael.Amounts `json:"available"`
	RetryAfter *seconds     `json:"retry_after_seconds"`
	Never      string       `json:"never"`
}

// Available returns how many tokens could be taken now, by limit name; less than 0 is debt. A
// Policy of the query is not known to a server.
func (c *Client) Available(ctx context.Context, q zael.Query) (zael.Amounts, error) {
	out, err := c.available(ctx, &q, nil)
	return out.Available, err
}

// TimeUntilAvailable returns the wait until amounts could be taken if nobody else takes any. See
// zael.Limiter.TimeUntilAvailable.
func (c *Client) TimeUntilAvailable(ctx context.Context, q zael.Query, amounts zael.Amounts) (time.Duration, error) {
	if len(amounts) == 0 {
		return 0, &zael.ValidationError{Field: "amounts", Reason: "are missing: name a limit"}
	}
	out, err := c.available(ctx, &q, amounts)
	switch {
	case err != nil:
		return 0, err
	case out.Never != "":
		return 0, fmt.Errorf("%w: %s", zael.ErrNever, out.Never)
	case out.RetryAfter == nil:
		return zael.Never, nil
	}
	return time.Duration(*out.RetryAfter), nil
}

func (c *Client) available(ctx context.Context, q *zael.Query, amounts zael.Amounts) (out availableBody, err error) {
	path, query, err := levelsQuery(q, amounts)
	if err != nil {
		return out, err
	}
	err = c.get(ctx, path, query, &out)
	return out, err
}

// ResourceCapacity adds up a limit of a resource over all entities that have a bucket in use. See
// zael.Limiter.ResourceCapacity.
func (c *Client) ResourceCapacity(ctx context.Context, resource, limit string, options zael.CapacityOptions) (sum zael.ResourceCapacity, err error) {
	if err := checkID("resource", resource); err != nil {
		return sum, err
	}
	query := url.Values{"limit_name": {limit}}
	if options.ParentsOnly {
		query.Set("parents_only", "true")
	}
	all := []zael.EntityCapacity{}
	err = c.pages(ctx, "/v1/resources/"+segment(resource)+"/capacity", query, func() (any, func() (*string, bool)) {
		var page struct {
			zael.ResourceCapacity

			Next *string `json:"next"`
		}
		return &page, func() (*string, bool) {
			all = append(all, page.Entities...)
			sum = page.ResourceCapacity
			return page.Next, true
		}
	})
	sum.Entities = all
	return sum, err
}

// Usage reads what was taken, with totals. See zael.Limiter.Usage.
func (c *Client) Usage(ctx context.Context, q zael.UsageQuery) (u zael.Usage, err error) {
	query := url.Values{"window": {string(cmp.Or(q.Window, zael.Hourly))}}
	if q.Entity != "" {
		query.Set("entity", q.Entity)
	}
	if q.Resource != "" {
		query.Set("resource", q.Resource)
	}
	setTimes(query, q.From, q.To)
	all := []zael.UsageRecord{}
	err = c.pages(ctx, "/v1/usage", query, func() (any, func() (*string, bool)) {
		var page struct {
			zael.Usage

			Next *string `json:"next"`
		}
		return &page, func() (*string, bool) {
			all = append(all, page.Records...)
			u = page.Usage
			return page.Next, true
		}
	})
	u.Records = all
	return u, err
}

// setTimes adds the bounds of a report.
func setTimes(query url.Values, from, to time.Time) {
	for name, t := range map[string]time.Time{"from": from, "to": to} {
		if !t.IsZero() {
			query.Set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
}

// Audit returns the changes of entities and limits, newest first. See zael.Limiter.Audit.
func (c *Client) Audit(ctx context.Context, q zael.AuditQuery) ([]zael.AuditEvent, error) {
	if q.Max < 0 {
		return nil, &zael.ValidationError{Field: "AuditQuery.Max", Value: q.Max, Reason: "is negative: use 0 for the default of 100"}
	}
	most := cmp.Or(q.Max, defaultMax)
	query := url.Values{"limit": {strconv.Itoa(min(most, onePage))}}
	if q.Entity != "" {
		query.Set("entity", q.Entity)
	}
	setTimes(query, q.From, q.To)
	all := []zael.AuditEvent{}
	err := c.pages(ctx, "/v1/audit", query, func() (any, func() (*string, bool)) {
		var page struct {
			Events []zael.AuditEvent `json:"events"`
			Next   *string           `json:"next"`
		}
		return &page, func() (*string, bool) {
			all = append(all, page.Events...)
			return page.Next, len(all) < most
		}
	})
	return all[:min(len(all), most)], err
}
