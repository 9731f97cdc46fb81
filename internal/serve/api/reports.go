package api

import (
	"cmp"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/zeroae/zael"
)

// A capacityBody is a page of the entities of a ResourceCapacity, with the sums of all.
type capacityBody struct {
	zael.ResourceCapacity

	Next *string `json:"next"`
}

// capacity serves GET /v1/resources/{name}/capacity.
func (c *call) capacity() error {
	if !c.principal.MayReadAll() {
		return c.forbid("read what concerns all entities")
	}
	limit, cursor, err := c.query.page()
	if err != nil {
		return err
	}
	name := c.query.get("limit_name")
	if name == "" {
		return invalid("limit_name", "is missing: name the limit")
	}
	parentsOnly, err := c.query.bool("parents_only")
	if err != nil {
		return err
	}
	sum, err := c.limiter.ResourceCapacity(c.ctx, c.name, name, zael.CapacityOptions{ParentsOnly: parentsOnly})
	if err != nil {
		return err
	}
	out := capacityBody{ResourceCapacity: sum}
	out.Entities, out.Next = page(sum.Entities, limit, cursor, func(e zael.EntityCapacity) string { return e.Entity }, strings.Compare)
	return c.answer(http.StatusOK, out)
}

// A usageBody is a page of the records of a Usage, with the totals of all.
type usageBody struct {
	zael.Usage

	Next *string `json:"next"`
}

// usage serves GET /v1/usage.
func (c *call) usage() error {
	q := zael.UsageQuery{Entity: c.query.get("entity"), Resource: c.query.get("resource"), Window: zael.Window(c.query.get("window"))}
	if err := c.mayReport(q.Entity); err != nil {
		return err
	}
	var err error
	if q.From, q.To, err = c.query.times(); err != nil {
		return err
	}
	limit, cursor, err := c.query.page()
	if err != nil {
		return err
	}
	u, err := c.limiter.Usage(c.ctx, q)
	if err != nil {
		return err
	}
	out := usageBody{Usage: u}
	out.Records, out.Next = page(u.Records, limit, cursor, usageKey, compareUsage)
	return c.answer(http.StatusOK, out)
}

// mayReport returns an error unless the principal may see reports of an entity, or of all if
// it is empty.
func (c *call) mayReport(entity string) error {
	switch {
	case entity == "" && c.principal.MayRead(c.principal.Prefix) && !c.principal.MayReadAll():
		return c.forbid("read what concerns all entities: name an entity")
	case entity == "" && !c.principal.MayReadAll():
		return c.forbid("read what concerns all entities")
	case entity != "" && !c.principal.MayRead(entity):
		return c.forbid("read " + entity)
	}
	return nil
}

// usageKey returns the place of a record in the order of compareUsage. Names have no control
// characters.
func usageKey(r zael.UsageRecord) string {
	return r.Start.UTC().Format(time.RFC3339) + "\x00" + r.Entity + "\x00" + r.Resource
}

// compareUsage compares two places: the newest window is first.
func compareUsage(a, b string) int {
	startA, restA, _ := strings.Cut(a, "\x00")
	startB, restB, _ := strings.Cut(b, "\x00")
	return cmp.Or(strings.Compare(startB, startA), strings.Compare(restA, restB))
}

// times returns the parameters from and to.
func (q query) times() (from, to time.Time, err error) {
	if from, err = q.time("from"); err == nil {
		to, err = q.time("to")
	}
	return from, to, err
}

// An auditBody is a page of audit events.
type auditBody struct {
	Events []zael.AuditEvent `json:"events"`
	Next   *string           `json:"next"`
}

// audit serves GET /v1/audit.
func (c *call) audit() error {
	q := zael.AuditQuery{Entity: c.query.get("entity")}
	if err := c.mayReport(q.Entity); err != nil {
		return err
	}
	var err error
	if q.From, q.To, err = c.query.times(); err != nil {
		return err
	}
	limit, cursor, err := c.query.page()
	if err != nil {
		return err
	}
	skip := 0
	if cursor != "" {
		if q.To, skip, err = auditPlace(cursor); err != nil {
			return err
		}
	}
	q.Max = skip + limit + 1
	events, err := c.limiter.Audit(c.ctx, q)
	if err != nil {
		return err
	}
	out := auditBody{Events: events[min(skip, len(events)):]}
	if len(out.Events) > limit {
		out.Events = out.Events[:limit]
		out.Next = nextAudit(events[:skip+limit])
	}
	return c.answer(http.StatusOK, out)
}

// maxSkip is how many events of one instant a cursor may pass over.
const maxSkip = 100_000

// nextAudit returns the cursor after events, the newest of which is first: the instant just
// after the last, and how many of that before it there were.
func nextAudit(events []zael.AuditEvent) *string {
	to := events[len(events)-1].Time.Add(time.Microsecond)
	skip := 0
	for i := range events {
		if events[i].Time.Before(to) {
			skip++
		}
	}
	return encodeCursor(strconv.FormatInt(to.UnixNano(), 10) + " " + strconv.Itoa(skip))
}

// auditPlace reads what nextAudit has written.
func auditPlace(cursor string) (to time.Time, skip int, err error) {
	first, second, _ := strings.Cut(cursor, " ")
	ns, err := strconv.ParseInt(first, 10, 64)
	if err == nil {
		skip, err = strconv.Atoi(second)
	}
	if err != nil || skip < 0 || skip > maxSkip {
		return to, 0, errCursor
	}
	return time.Unix(0, ns).UTC(), skip, nil
}

// ping serves GET /v1/ping.
func (c *call) ping() error {
	if !c.principal.MayReadLevels(c.principal.Prefix) {
		return c.forbid("ask for the store")
	}
	if err := c.limiter.Ping(c.ctx); err != nil {
		return err
	}
	return c.noContent()
}

// A whoamiBody is whose token a request has, and what it is for.
type whoamiBody struct {
	Name         string `json:"name"`
	Role         string `json:"role"`
	Prefix       string `json:"prefix"` // of the entities that it may name; empty: all
	MaySetLimits bool   `json:"may_set_limits"`
}

// whoami serves GET /v1/whoami.
func (c *call) whoami() error {
	p := c.principal
	return c.answer(http.StatusOK, whoamiBody{p.Name, p.Role.String(), p.Prefix, p.MaySendLimits()})
}
