package stack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/stack"
)

// A recorder notes what a role needs to be allowed, from what it sends.
type recorder struct {
	http.Transport

	t     *testing.T
	table string
	mu    sync.Mutex
	needs map[string]bool // "dynamodb:Action resource", in the words of grants
	keys  map[string]bool // the same, and a leading key
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	text, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	req.Body = io.NopCloser(bytes.NewReader(text))
	r.note(strings.TrimPrefix(req.Header.Get("X-Amz-Target"), "DynamoDB_20120810."), text)
	return r.Transport.RoundTrip(req)
}

// note turns a request into the actions that AWS asks for. For a query of an index
// the resource is the index. A transaction has no action of its own: its parts need
// theirs, and a check ConditionCheckItem (DynamoDB Developer Guide, "Using IAM with
// DynamoDB transactions"). Batches have an action of their own.
func (r *recorder) note(operation string, text []byte) {
	var in struct {
		TableName     string                      `json:"TableName"`
		IndexName     string                      `json:"IndexName"`
		RequestItems  map[string]any              `json:"RequestItems"`
		Key           any                         `json:"Key"`
		Values        map[string]any              `json:"ExpressionAttributeValues"`
		TransactItems []map[string]map[string]any `json:"TransactItems"`
	}
	if err := json.Unmarshal(text, &in); err != nil {
		r.t.Errorf("%s: %v", operation, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	need := func(action, table string, of any) {
		if table != r.table {
			r.t.Errorf("%s: got the table %q, want %q", action, table, r.table)
		}
		resource := "Table.Arn"
		if in.IndexName != "" {
			resource += "/index/" + in.IndexName
		}
		r.needs["dynamodb:"+action+" "+resource] = true
		for _, key := range leadingKeys(of) {
			r.keys["dynamodb:"+action+" "+resource+" "+key] = true
		}
	}
	switch operation {
	case "TransactWriteItems":
		for _, part := range in.TransactItems {
			for kind, w := range part {
				action, ok := map[string]string{"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}[kind]
				if !ok {
					r.t.Errorf("a transaction: got a part %s, want a known one", kind)
				}
				tab, _ := w["TableName"].(string)
				need(action, tab, w)
			}
		}
	case "BatchGetItem", "BatchWriteItem":
		for table, of := range in.RequestItems {
			need(operation, table, of)
		}
	case "Query":
		need(operation, in.TableName, map[string]any{"PK": in.Values[":pk"]})
	case "GetItem", "UpdateItem":
		need(operation, in.TableName, in.Key)
	case "Scan":
		need(operation, in.TableName, nil)
	default:
		r.t.Errorf("got a call of %s, of which this test does not know what it needs", operation)
	}
}

// leadingKeys returns the partition keys in a part of a request.
func leadingKeys(of any) (all []string) {
	switch of := of.(type) {
	case []any:
		for _, e := range of {
			all = append(all, leadingKeys(e)...)
		}
	case map[string]any:
		for name, v := range of {
			if text, ok := v.(map[string]any); ok && name == "PK" {
				key, _ := text["S"].(string)
				all = append(all, key)
				continue
			}
			all = append(all, leadingKeys(v)...)
		}
	}
	return all
}

// A role is a program with a client of its own, whose calls are noted.
type role struct {
	*recorder

	t      *testing.T
	client *dynamodb.Client
	l      *zael.Limiter
}

// newRole begins as a program does: it opens, which looks at the versions.
func newRole(t *testing.T, tab, namespace string) *role {
	t.Helper()
	rec := &recorder{t: t, table: tab, needs: map[string]bool{}, keys: map[string]bool{}}
	t.Cleanup(rec.CloseIdleConnections)
	c := configOf(t, table.Endpoint(t))
	c.HTTPClient = &http.Client{Transport: rec}
	r := &role{recorder: rec, t: t, client: dynamodb.NewFromConfig(c, func(o *dynamodb.Options) { o.DisableValidateResponseChecksum = true })}
	if namespace == "" { // others may only read the version record
		if _, err := stack.NewFake(tab, standing{}, nil, nil, r.client).Prepare(t.Context(), &stack.Config{}); err != nil {
			t.Fatal(err)
		}
	}
	// As Open does, but with patience: the machine may be busy.
	store, err := dynamostore.New(r.client, tab, &dynamostore.Config{Namespace: namespace, UsageCounted: true, CallTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	l, err := zael.New(store, &zael.Config{Timeout: 2 * time.Minute, ConfigTTL: time.Nanosecond, CloseStore: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	r.l = l
	return r
}

// must wants no error.
func (r *role) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// is wants what was noted to be what a policy grants, no less and no more.
func (r *role) is(policy string) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	needs := slices.Sorted(maps.Keys(r.needs))
	granted := grants(r.t, render(r.t, nil), policy)
	for _, n := range needs {
		if !slices.Contains(granted, n) {
			r.t.Errorf("%s: got no %s, which the calls need", policy, n)
		}
	}
	for _, g := range granted {
		if !slices.Contains(needs, g) {
			r.t.Errorf("%s: got %s, which no call needs", policy, g)
		}
	}
}

// The trap is an acquire policy that could not acquire.
func TestPoliciesSuffice(t *testing.T) {
	t.Parallel()
	maker := dynamodb.NewFromConfig(configOf(t, table.Endpoint(t)), func(o *dynamodb.Options) { o.DisableValidateResponseChecksum = true })
	tab := "ZAEL-" + newName()
	if err := dynamostore.CreateTable(t.Context(), maker, tab); err != nil {
		t.Fatal(err)
	}

	// A program that acquires comes first: there is not even a version record.
	acquire := newRole(t, tab, "")
	acquiring(acquire)
	managing(newRole(t, tab, ""))
	acquiring(acquire) // by stored limits, with a parent
	acquire.is("AcquirePolicy")

	admin := newRole(t, tab, "")
	managing(admin)
	removing(admin)
	admin.is("AdminPolicy")

	read := newRole(t, tab, "")
	reading(read)
	read.is("ReadPolicy")
}

// acquiring is all that a program does that is limited.
func acquiring(r *role) {
	r.t.Helper()
	ctx := r.t.Context()
	req := request(1)
	r.must(r.l.Allow(ctx, req))
	for _, stored := range []bool{false, true} {
		req.UseStoredLimits = stored
		req.Cascade = !stored // then the entity's own flag counts
		lease, err := r.l.Acquire(ctx, req)
		r.must(err)
		r.must(lease.Consume(ctx, zael.Amounts{"rpd": 1}))
		r.must(lease.Settle(zael.Amounts{"rpd": 1}))
		r.must(lease.Commit(ctx))
		lease, err = r.l.Acquire(ctx, req)
		r.must(err)
		r.must(lease.Rollback(ctx))
		req.Consume = zael.Amounts{"rpd": 11} // more than there ever is: child and parent are undone
		if err := r.l.Allow(ctx, req); !errors.Is(err, zael.ErrExceeded) {
			r.t.Errorf("Allow: got %v, want ErrExceeded", err)
		}
		req.Consume = zael.Amounts{"rpd": 1}
		req.MaxWait = time.Millisecond
		lease, err = r.l.Reserve(ctx, req)
		r.must(err)
		r.must(lease.Rollback(ctx))
		req.MaxWait = 0
	}
}

// managing is all that concerns entities and stored limits.
func managing(r *role) {
	r.t.Helper()
	ctx := r.t.Context()
	for _, id := range []string{"key-1", "project"} {
		if err := r.l.DeleteEntity(ctx, id); err != nil && !errors.Is(err, zael.ErrEntityNotFound) {
			r.t.Fatal(err)
		}
	}
	limits := []zael.Limit{zael.PerDay("rpd", 10)}
	entity := func(id, parent string) {
		_, err := r.l.CreateEntity(ctx, zael.Entity{ID: id, ParentID: parent, Cascade: parent != ""})
		r.must(err)
	}
	entity("project", "")
	entity("key-1", "project")
	for _, scope := range []zael.Scope{{}, {Resource: "gpt-4"}, {Entity: "key-1"}, {Entity: "key-1", Resource: "gpt-4"}, {Entity: "project"}} {
		r.must(r.l.SetLimits(ctx, scope, limits))
		_, err := r.l.Limits(ctx, scope)
		r.must(err)
	}
	// A live bucket follows its limits.
	r.must(r.l.Allow(ctx, zael.Request{Entity: "key-1", Resource: "gpt-4", UseStoredLimits: true, Consume: zael.Amounts{"rpd": 1}}))
	r.must(r.l.SetLimits(ctx, zael.Scope{Entity: "key-1", Resource: "gpt-4"}, []zael.Limit{zael.PerDay("rpd", 20)}))
	r.must(r.l.DeleteLimits(ctx, zael.Scope{Entity: "key-1"}))
	children, err := r.l.Children(ctx, "project")
	if err != nil || len(children) != 1 {
		r.t.Errorf("children: got %v and %v, want one", children, err)
	}
	_, err = r.l.Entity(ctx, "key-1")
	r.must(err)
	_, err = r.l.Apply(ctx, []zael.Change{{Scope: zael.Scope{Resource: "other"}, Limits: limits}})
	r.must(err)
	r.must(r.l.DeleteLimits(ctx, zael.Scope{Resource: "other"}))
	for i, s := range []zael.Switch{zael.Disabled, zael.Bypass, zael.Enabled, zael.Inherit} {
		for _, scope := range []zael.Scope{{Entity: "key-1"}, {Entity: "key-1", Resource: "gpt-4"}, {Resource: "other"}} {
			r.must(r.l.SetSwitch(ctx, scope, s, zael.AdminOptions{IdempotencyKey: fmt.Sprintf("k%d-%s-%s-%d", i, scope.Entity, scope.Resource, time.Now().UnixNano())}))
		}
	}
	r.must(r.l.SetFailureMode(ctx, zael.Scope{}, zael.FailClosed, zael.AdminOptions{}))
	r.must(r.l.SetParent(ctx, "key-1", "", zael.AdminOptions{}))
	r.must(r.l.SetParent(ctx, "key-1", "project", zael.AdminOptions{}))
	_, err = r.l.TopUp(ctx, "key-1", "gpt-4", zael.Amounts{"rpd": 1}, zael.AdminOptions{})
	r.must(err)
	_, err = r.l.Reset(ctx, "key-1", "gpt-4", nil, zael.AdminOptions{})
	r.must(err)
}

// removing is all that concerns other namespaces.
func removing(r *role) {
	r.t.Helper()
	ctx := r.t.Context()
	r.must(r.l.RegisterNamespace(ctx, "old"))
	r.must(r.l.DeleteNamespace(ctx, "old"))
	r.must(r.l.RecoverNamespace(ctx, "old"))
	r.must(r.l.DeleteNamespace(ctx, "old"))
	_, err := r.l.PurgeNamespace(ctx, "old")
	r.must(err)
}

// Trap of zae-limiter 0.17: with the policy of one namespace any tenant can remove every
// tenant's registration and the version record.
//
// TestTrapNamespacePolicies checks that what a program in a namespace needs is granted
// by the policies for it, and that these grant nothing in another namespace, nor to change
// the namespace itself.
func TestTrapNamespacePolicies(t *testing.T) {
	t.Parallel()
	maker := dynamodb.NewFromConfig(configOf(t, table.Endpoint(t)), func(o *dynamodb.Options) { o.DisableValidateResponseChecksum = true })
	tab := "ZAEL-" + newName()
	if err := dynamostore.CreateTable(t.Context(), maker, tab); err != nil {
		t.Fatal(err)
	}
	owner := newRole(t, tab, "")
	owner.must(owner.l.RegisterNamespace(t.Context(), "team-a"))

	acquire := newRole(t, tab, "team-a")
	acquiring(acquire)
	admin := newRole(t, tab, "team-a")
	managing(admin)
	acquiring(acquire)
	read := newRole(t, tab, "team-a")
	reading(read)
	for policy, r := range map[string]*role{"NamespaceAcquirePolicy": acquire, "NamespaceAdminPolicy": admin, "NamespaceReadPolicy": read} {
		r.mu.Lock()
		granted := grantsOfKeys(t, render(t, nil), policy, "team-a")
		for need := range r.keys {
			if !granted(need) {
				t.Errorf("%s: got no %s, which the calls need", policy, need)
			}
		}
		r.mu.Unlock()
		for _, action := range []string{"UpdateItem", "PutItem", "DeleteItem", "BatchWriteItem"} {
			for _, key := range []string{"team-a/NAMESPACE", "SYSTEM", "E#x", "team-b/E#x", "team-b/SYSTEM", "team-/E#x", "team-ab/E#x"} {
				if granted("dynamodb:" + action + " Table.Arn " + key) {
					t.Errorf("%s: got %s of %s, want it denied", policy, action, key)
				}
			}
		}
		for _, key := range []string{"E#x", "team-b/E#x", "team-ab/E#x", "A#x"} {
			if granted("dynamodb:GetItem Table.Arn "+key) || granted("dynamodb:Query Table.Arn/index/GSI1 "+key) {
				t.Errorf("%s: got %s readable, want it denied", policy, key)
			}
		}
		if !granted("dynamodb:GetItem Table.Arn team-a/NAMESPACE") {
			t.Errorf("%s: got the namespace not readable", policy)
		}
	}
}

// grantsOfKeys returns a function that reports whether a policy grants "dynamodb:Action
// resource leading-key" to a principal with the tag.
func grantsOfKeys(t *testing.T, r *rendered, resource, tag string) func(string) bool {
	t.Helper()
	document, _ := r.prop(resource, "PolicyDocument").(map[string]any)
	texts := func(v any) (all []string) {
		if list, ok := v.([]any); ok {
			for _, e := range list {
				all = append(all, e.(string))
			}
			return all
		}
		return []string{v.(string)}
	}
	var patterns []string
	for _, s := range document["Statement"].([]any) {
		statement := s.(map[string]any)
		condition, ok := statement["Condition"].(map[string]any)
		if !ok || len(condition) != 1 {
			t.Fatalf("%s: got the condition %v, want one", resource, statement["Condition"])
		}
		for operator, of := range condition {
			for _, key := range texts(of.(map[string]any)["dynamodb:LeadingKeys"]) {
				key = strings.ReplaceAll(key, "${aws:PrincipalTag/zael-namespace}", tag)
				if strings.Contains(key, "*") != (operator == "ForAllValues:StringLike") && !strings.HasSuffix(key, "SYSTEM") {
					t.Errorf("%s: got %s for %q", resource, operator, key)
				}
				for _, action := range texts(statement["Action"]) {
					for _, where := range texts(statement["Resource"]) {
						patterns = append(patterns, action+" "+where+" "+key)
					}
				}
			}
		}
	}
	return func(need string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool {
			prefix, open := strings.CutSuffix(p, "*")
			return need == p || open && strings.HasPrefix(need, prefix)
		})
	}
}

// reading is all that looks and changes nothing.
func reading(r *role) {
	r.t.Helper()
	ctx := r.t.Context()
	for _, stored := range []bool{false, true} {
		q := zael.Query{Entity: "key-1", Resource: "gpt-4", Limits: request(1).Limits, Cascade: true, UseStoredLimits: stored}
		_, err := r.l.Available(ctx, q)
		r.must(err)
		_, err = r.l.TimeUntilAvailable(ctx, q, zael.Amounts{"rpd": 1})
		r.must(err)
	}
	for _, parents := range []bool{false, true} {
		_, err := r.l.ResourceCapacity(ctx, "gpt-4", "rpd", zael.CapacityOptions{ParentsOnly: parents})
		r.must(err)
	}
	for _, q := range []zael.UsageQuery{{Entity: "key-1"}, {Entity: "key-1", Resource: "gpt-4"}, {Resource: "gpt-4"}} {
		_, err := r.l.Usage(ctx, q)
		r.must(err)
	}
	for _, entity := range []string{"", "key-1"} {
		events, err := r.l.Audit(ctx, zael.AuditQuery{Entity: entity})
		if err != nil || len(events) == 0 {
			r.t.Errorf("audit of %q: got %d events and %v, want some", entity, len(events), err)
		}
	}
	_, err := r.l.Entity(ctx, "key-1")
	r.must(err)
	_, err = r.l.Children(ctx, "project")
	r.must(err)
	_, err = r.l.Limits(ctx, zael.Scope{Entity: "key-1"})
	r.must(err)
}
