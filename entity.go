package zael

import "time"

// An Entity is who is limited: a user, an API key, a project.
type Entity struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`                // ID if it was left empty
	ParentID  string            `json:"parent_id,omitempty"` // none if empty; it need not exist
	Cascade   bool              `json:"cascade"`             // acquires with stored limits take from the parent too
	Metadata  map[string]string `json:"metadata,omitempty"`
	CreatedAt time.Time         `json:"created_at"` // UTC
}

// A Window is a length of time in which usage is counted. Windows begin at the
// full hour, day and month in UTC.
type Window string

// The windows.
const (
	Hourly  Window = "hourly"
	Daily   Window = "daily"
	Monthly Window = "monthly"
)

// Bounds is the window that contains t: from start on and before end, in UTC. A
// window that is not one of the constants counts as Hourly.
func (w Window) Bounds(t time.Time) (start, end time.Time) {
	t = t.UTC()
	switch w {
	case Monthly:
		start = time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
		return start, start.AddDate(0, 1, 0)
	case Daily:
		start = time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
		return start, start.AddDate(0, 0, 1)
	default:
		start = time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), 0, 0, 0, time.UTC)
		return start, start.Add(time.Hour)
	}
}

// A UsageQuery selects usage. At least one of Entity and Resource is required.
type UsageQuery struct {
	Entity, Resource string    // all if empty
	Window           Window    // Hourly if empty
	From, To         time.Time // windows that start at From or later and before To; zero: no bound, where the store has none
}

// A UsageRecord is what one entity took of one resource in one window.
type UsageRecord struct {
	Entity   string    `json:"entity_id"`
	Resource string    `json:"resource"`
	Window   Window    `json:"window"`
	Start    time.Time `json:"start"`   // UTC
	Amounts  Amounts   `json:"amounts"` // net tokens by limit
	Events   int64     `json:"events"`  // acquires
}

// A Usage is the answer to a UsageQuery.
type Usage struct {
	Records []UsageRecord `json:"records"`
	Amounts Amounts       `json:"amounts"` // totals
	Events  int64         `json:"events"`
}

// An AuditAction is what was done.
type AuditAction string

// What is recorded.
const (
	EntityCreated AuditAction = "entity_created"
	EntityDeleted AuditAction = "entity_deleted"
	LimitsSet     AuditAction = "limits_set"
	LimitsDeleted AuditAction = "limits_deleted"
)

// An AuditEvent records a change of entities or limits.
type AuditEvent struct {
	Time      time.Time         `json:"time"` // UTC; of limits: later than the changes at other levels that it outranks, and Details has the true time as "clock" where that differs
	Action    AuditAction       `json:"action"`
	Principal string            `json:"principal"`           // Config.Principal
	Entity    string            `json:"entity_id,omitempty"` // empty for limits of a resource or the system
	Resource  string            `json:"resource,omitempty"`
	Details   map[string]string `json:"details,omitempty"`
}

// An AuditQuery selects audit events.
type AuditQuery struct {
	Entity string    // all if empty
	From   time.Time // events at From or later; zero: no bound
	To     time.Time // events before To; zero: no bound
	Max    int       // at most so many; 0: 100
}
