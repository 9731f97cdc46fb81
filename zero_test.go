package zael_test

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

// exportedTypes are the exported types of the package that are not interfaces.
func exportedTypes() []reflect.Type {
	return []reflect.Type{
		reflect.TypeFor[zael.AdminOptions](), reflect.TypeFor[zael.Amounts](), reflect.TypeFor[zael.AuditAction](),
		reflect.TypeFor[zael.AuditEvent](), reflect.TypeFor[zael.AuditQuery](), reflect.TypeFor[zael.Bucket](),
		reflect.TypeFor[zael.CapacityOptions](), reflect.TypeFor[zael.Change](), reflect.TypeFor[zael.Charge](),
		reflect.TypeFor[zael.CommitError](), reflect.TypeFor[zael.Config](), reflect.TypeFor[zael.Debit](),
		reflect.TypeFor[zael.Decision](), reflect.TypeFor[zael.DetachedLease](), reflect.TypeFor[zael.DetachOptions](), reflect.TypeFor[zael.ConsumeOptions](), reflect.TypeFor[zael.DisabledError](), reflect.TypeFor[zael.Edit](),
		reflect.TypeFor[zael.Ended](), reflect.TypeFor[zael.Ending](), reflect.TypeFor[zael.LeaseVerb](), reflect.TypeFor[zael.OnceTake](), reflect.TypeFor[zael.PartAmount](), reflect.TypeFor[zael.Renewal](),
		reflect.TypeFor[zael.EditResult](), reflect.TypeFor[zael.Entity](), reflect.TypeFor[zael.EntityCapacity](),
		reflect.TypeFor[zael.ExceededError](), reflect.TypeFor[zael.FailureMode](),
		reflect.TypeFor[zael.Key](), reflect.TypeFor[zael.Kind](), reflect.TypeFor[zael.Lease](),
		reflect.TypeFor[zael.Limit](), reflect.TypeFor[zael.LimitSet](), reflect.TypeFor[zael.LimitState](), reflect.TypeFor[zael.BucketStatus](), reflect.TypeFor[zael.ListQuery](), reflect.TypeFor[zael.ScopeLimits](), reflect.TypeFor[zael.ScopeQuery](),
		reflect.TypeFor[zael.Limiter](), reflect.TypeFor[zael.Namespace](), reflect.TypeFor[zael.NamespaceState](),
		reflect.TypeFor[zael.Once](), reflect.TypeFor[zael.Override](), reflect.TypeFor[zael.Part](), reflect.TypeFor[zael.Policy](),
		reflect.TypeFor[zael.PolicyLimits](), reflect.TypeFor[zael.Values](), reflect.TypeFor[zael.Query](), reflect.TypeFor[zael.Request](),
		reflect.TypeFor[zael.ResourceCapacity](), reflect.TypeFor[zael.Scope](), reflect.TypeFor[zael.Settings](),
		reflect.TypeFor[zael.Stats](), reflect.TypeFor[zael.Status](), reflect.TypeFor[zael.StoreState](), reflect.TypeFor[zael.Observed](), reflect.TypeFor[zael.ObservedUse](), reflect.TypeFor[zael.Outcome](), reflect.TypeFor[zael.StoreOp](),
		reflect.TypeFor[zael.Switch](), reflect.TypeFor[zael.UnavailableError](), reflect.TypeFor[zael.Usage](),
		reflect.TypeFor[zael.UsageQuery](), reflect.TypeFor[zael.UsageRecord](), reflect.TypeFor[zael.UsageTotal](),
		reflect.TypeFor[zael.ValidationError](), reflect.TypeFor[zael.Window](),
	}
}

// exportedFuncs are the exported functions of the package.
func exportedFuncs() map[string]any {
	return map[string]any{
		"CheckNamespace": zael.CheckNamespace, "Must": zael.Must, "MustPolicy": zael.MustPolicy, "New": zael.New,
		"NewExceededError": zael.NewExceededError, "NewPolicy": zael.NewPolicy, "ParseLimit": zael.ParseLimit, "ParseSwitch": zael.ParseSwitch,
		"PerDay": zael.PerDay, "PerHour": zael.PerHour, "PerMinute": zael.PerMinute, "PerSecond": zael.PerSecond,
		"StoredPolicy": zael.StoredPolicy,
		"Each":         zael.Each, "EachDay": zael.EachDay, "EachWeek": zael.EachWeek, "EachMonth": zael.EachMonth, "EachYear": zael.EachYear,
		"FromFirstUse": zael.FromFirstUse, "WithPrincipal": zael.WithPrincipal, "AtOnce": zael.AtOnce, "Block": zael.Block, "Unlimited": zael.Unlimited,
	}
}

// declared returns the names of the exported types and functions in the package's
// files. Interfaces are left out: only stores have methods of theirs.
func declared(t *testing.T) (types, funcs []string) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %v (%v), want the package's files", files, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.IsExported() {
					funcs = append(funcs, d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					s, ok := spec.(*ast.TypeSpec)
					if !ok || !s.Name.IsExported() {
						continue
					}
					if _, isInterface := s.Type.(*ast.InterfaceType); !isInterface {
						types = append(types, s.Name.Name)
					}
				}
			}
		}
	}
	slices.Sort(types)
	slices.Sort(funcs)
	return types, funcs
}

// harmless are the calls that succeed on a zero value or with zero arguments, and why
// they admit nobody.
func harmless() map[string]string {
	return map[string]string{
		"zero Lease.Rollback": "nothing was taken: it does nothing, so that it can be deferred",
		"nil Lease.Rollback":  "the same",

		"zero ExceededError.MarshalJSON": "a refusal without limits",
		"zero DisabledError.MarshalJSON": "a refusal without a scope",
		"zero Kind.MarshalText":          "a rate",
		"zero Limit.MarshalJSON":         "its text is not one that is read back",
		"zero Status.MarshalJSON":        "a status without a limit",
		"zero CommitError.Unwrap":        "it has no cause",
		"zero UnavailableError.Unwrap":   "it has no cause",

		"Limiter.Apply":          "no changes change nothing",
		"Limiter.Audit":          "the zero query reads all events",
		"Limiter.Close":          "it closes the Limiter",
		"Limiter.DeleteLimits":   "the zero Scope is the system; without limits nobody is admitted",
		"Limiter.Entities":       "the zero query reads the first of all",
		"Limiter.LeaseKey":       "it makes a key",
		"Limiter.Limits":         "the zero Scope is the system",
		"Limiter.Overridden":     "no changes hide nothing",
		"Limiter.Ping":           "it reads",
		"Limiter.Resources":      "the zero query reads the first of all",
		"Limiter.Scopes":         "the same",
		"Limiter.SetFailureMode": "it removes the system's, so that Config.FailureMode decides, as documented",
		"Limiter.Settings":       "the zero Scope is the system",
	}
}

// panicking are the calls that panic, and why.
func panicking() map[string]string {
	list := map[string]string{
		"zero Decision.Status": "there is no status, as documented",
		"MustPolicy":           "as documented",
	}
	for name, methods := range map[string][]string{
		"Charge":        {"Overdraws", "Taken"},
		"CommitError":   {"Error", "Unwrap"},
		"Decision":      {"Err", "Len", "RetryAfter", "Status"},
		"DisabledError": {"Error", "MarshalJSON"},
		"Edit":          {"Applies", "Scope"},
		"ExceededError": {"Decision", "Error", "MarshalJSON", "Primary", "RetryAfter", "RetryAfterHeader", "Statuses", "Violations"},
		"Kind":          {"MarshalText", "String"},
		"Limit": {
			"At", "CarriesDebt", "CarryDebt", "Definition", "Hold", "In", "IsSoft", "Kind", "MarshalJSON", "On", "Soft", "String", "Validate", "When", "WithBurst",
		},
		"Status":           {"AppendJSON", "MarshalJSON"},
		"UnavailableError": {"Error", "Unwrap"},
		"ValidationError":  {"Error"},
	} {
		for _, m := range methods {
			list["nil "+name+"."+m] = "a value behind a pointer, of which no function returns nil"
		}
	}
	return list
}

// A walk calls what it is given with zero arguments.
type walk struct {
	*testing.T

	harmless, panics map[string]string
}

// call calls f: it must return an error if it can, and admit nothing.
func (w *walk) call(name string, f reflect.Value) {
	w.Helper()
	results, panicked := w.results(f)
	if _, known := w.panics[name]; known != (panicked != nil) {
		w.Errorf("%s: got the panic %v, want one: %v", name, panicked, known)
	}
	delete(w.panics, name)
	for _, r := range results {
		switch v := r.Interface().(type) {
		case zael.Decision:
			if v.Admitted {
				w.Errorf("%s: got %+v, want nobody admitted", name, v)
			}
		case *zael.Lease:
			if v != nil {
				w.Errorf("%s: got a lease, want none", name)
			}
		}
	}
	if panicked != nil || f.Type().NumOut() == 0 {
		return
	}
	last := len(results) - 1
	if f.Type().Out(last) != reflect.TypeFor[error]() {
		return
	}
	if _, known := w.harmless[name]; known != results[last].IsNil() {
		w.Errorf("%s: got the error %v, want one: %v", name, results[last], !known)
	}
	delete(w.harmless, name)
}

// results returns the results of a call with zero arguments, or its panic.
func (w *walk) results(f reflect.Value) (results []reflect.Value, panicked any) {
	defer func() { panicked = recover() }()
	var args []reflect.Value
	for i := range f.Type().NumIn() {
		switch in := f.Type().In(i); {
		case f.Type().IsVariadic() && i == f.Type().NumIn()-1:
		case in == reflect.TypeFor[context.Context]():
			args = append(args, reflect.ValueOf(w.Context()))
		default:
			args = append(args, reflect.Zero(in))
		}
	}
	return f.Call(args), nil
}

// methods calls every method of a receiver.
func (w *walk) methods(kind string, receiver reflect.Value) {
	w.Helper()
	for m, f := range receiver.Methods() {
		name := receiver.Type().Elem().Name() + "." + m.Name
		name, _, _ = strings.Cut(strings.Replace(name, "[int64]", "", 1), " ")
		w.call(strings.TrimSpace(kind+" "+name), f)
	}
}

// TestZeroValues calls every method of the zero value of every exported type, and of a
// nil pointer where it has methods of its own, and every function and method of a
// Limiter with zero arguments. Each returns an error, or is listed above with the
// reason; none admits anybody. A new type, method or function has to be listed, or
// fails.
func TestZeroValues(t *testing.T) {
	t.Parallel()
	w := &walk{t, harmless(), panicking()}
	types, funcs := declared(t)
	var known []string
	for _, typ := range exportedTypes() {
		name, _, _ := strings.Cut(typ.Name(), "[")
		known = append(known, name)
		zero := reflect.New(typ)
		w.methods("zero", zero)
		if typ.NumMethod() < zero.Type().NumMethod() { // some have pointer receivers
			w.methods("nil", reflect.Zero(zero.Type()))
		}
	}
	if slices.Sort(known); !slices.Equal(known, types) {
		t.Errorf("exportedTypes: got %v, want those of the package, %v", known, types)
	}
	known = nil
	for name, f := range exportedFuncs() {
		known = append(known, name)
		w.call(name, reflect.ValueOf(f))
	}
	if slices.Sort(known); !slices.Equal(known, funcs) {
		t.Errorf("exportedFuncs: got %v, want those of the package, %v", known, funcs)
	}
	for m := range reflect.TypeFor[*zael.Limiter]().Methods() {
		l, err := zael.New(memstore.New(&memstore.Config{Usage: true}), nil)
		if err != nil {
			t.Fatal(err)
		}
		w.call("Limiter."+m.Name, reflect.ValueOf(l).MethodByName(m.Name))
	}
	for _, left := range []map[string]string{w.harmless, w.panics} {
		for name, why := range left {
			t.Errorf("%s (%s): got no such call, want it taken off the list", name, why)
		}
	}
	if got := fmt.Sprint(zael.Must(nil, nil)); got != "<nil>" {
		t.Errorf("Must(nil, nil): got %s, want nil, which a request refuses", got)
	}
}
