package stack_test

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/zeroae/zael/stack"
)

// A rendered is the template with parameters, as CloudFormation sees it: the
// conditions decided, values of other resources as "Name.Attribute", those of the
// account as "<Partition>".
type rendered struct {
	t          *testing.T
	root       map[string]any
	params     map[string]string
	conditions map[string]bool
	Resources  map[string]map[string]any // with their Type, Properties and so on
	Outputs    map[string]map[string]any
}

// noValue takes a property away.
type noValue struct{}

// intrinsic is a node with a tag such as !Ref.
type intrinsic struct {
	name string
	arg  any
}

// nodes returns the template as maps, lists, texts and intrinsics, which nobody may change.
var nodes = sync.OnceValues(func() (map[string]any, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(stack.Template()), &doc); err != nil {
		return nil, err
	}
	root, err := tree(doc.Content[0])
	if err != nil {
		return nil, err
	}
	return root.(map[string]any), nil
})

// tree turns a node into maps, lists, texts and intrinsics.
func tree(n *yaml.Node) (v any, err error) {
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			if m[n.Content[i].Value], err = tree(n.Content[i+1]); err != nil {
				return nil, err
			}
		}
		v = m
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, c := range n.Content {
			if list[i], err = tree(c); err != nil {
				return nil, err
			}
		}
		v = list
	case yaml.ScalarNode:
		v = n.Value
	default:
		return nil, fmt.Errorf("line %d: an unexpected kind of node", n.Line)
	}
	if strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!") {
		return intrinsic{strings.TrimPrefix(n.Tag, "!"), v}, nil
	}
	return v, nil
}

// render decides the template for options; nil stands for the defaults of the
// parameters themselves.
func render(t *testing.T, o *stack.Options) *rendered {
	t.Helper()
	root, err := nodes()
	if err != nil {
		t.Fatal(err)
	}
	r := &rendered{t: t, root: root, params: map[string]string{}, conditions: map[string]bool{}}
	for name, p := range r.root["Parameters"].(map[string]any) {
		r.params[name] = p.(map[string]any)["Default"].(string)
	}
	if o != nil {
		maps.Copy(r.params, o.Parameters(fakeName))
	}
	for name := range r.root["Conditions"].(map[string]any) {
		r.condition(name)
	}
	section := func(name string) map[string]map[string]any {
		out := map[string]map[string]any{}
		for k, v := range r.root[name].(map[string]any) {
			m := v.(map[string]any)
			if c, ok := m["Condition"].(string); ok && !r.condition(c) {
				continue
			}
			out[k] = r.value(m).(map[string]any)
		}
		return out
	}
	r.Resources, r.Outputs = section("Resources"), section("Outputs")
	return r
}

func (r *rendered) condition(name string) bool {
	if v, ok := r.conditions[name]; ok {
		return v
	}
	def, ok := r.root["Conditions"].(map[string]any)[name]
	if !ok {
		r.t.Fatalf("there is no condition %s", name)
	}
	r.conditions[name] = r.truth(def)
	return r.conditions[name]
}

func (r *rendered) truth(v any) bool {
	f, ok := v.(intrinsic)
	if !ok {
		r.t.Fatalf("not a condition: %v", v)
	}
	if f.name == "Condition" {
		return r.condition(f.arg.(string))
	}
	args := f.arg.([]any)
	switch f.name {
	case "Equals":
		return r.value(args[0]) == r.value(args[1])
	case "Not":
		return !r.truth(args[0])
	case "And":
		for _, a := range args {
			if !r.truth(a) {
				return false
			}
		}
		return true
	}
	r.t.Fatalf("an unknown condition: %s", f.name)
	return false
}

func (r *rendered) ref(name string) string {
	if rest, ok := strings.CutPrefix(name, "AWS::"); ok {
		if rest == "StackName" {
			return fakeName
		}
		return "<" + rest + ">"
	}
	if v, ok := r.params[name]; ok {
		return v
	}
	if _, ok := r.root["Resources"].(map[string]any)[name]; !ok && !strings.Contains(name, ".") {
		r.t.Errorf("a reference to %s: got no such parameter or resource", name)
	}
	return name
}

func (r *rendered) value(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			if e = r.value(e); reflect.TypeOf(e) != reflect.TypeFor[noValue]() {
				out[k] = e
			}
		}
		return out
	case []any:
		out := []any{}
		for _, e := range v {
			out = append(out, r.value(e))
		}
		return out
	case intrinsic:
		return r.function(v)
	}
	return v
}

func (r *rendered) function(f intrinsic) any {
	switch f.name {
	case "Ref":
		if f.arg == "AWS::NoValue" {
			return noValue{}
		}
		return r.ref(f.arg.(string))
	case "GetAtt":
		name, _, _ := strings.Cut(f.arg.(string), ".")
		r.ref(name)
		return f.arg
	case "Sub":
		return regexp.MustCompile(`\$\{([^}]+)\}`).ReplaceAllStringFunc(f.arg.(string), func(s string) string { return r.ref(s[2 : len(s)-1]) })
	case "If":
		args := f.arg.([]any)
		if r.condition(args[0].(string)) {
			return r.value(args[1])
		}
		return r.value(args[2])
	case "Equals", "Not", "And":
		return r.truth(f)
	}
	r.t.Fatalf("an unknown function: %s", f.name)
	return nil
}

// prop is a part of a resource's properties, by names and indices.
func (r *rendered) prop(resource string, path ...string) any {
	r.t.Helper()
	res, ok := r.Resources[resource]
	if !ok {
		r.t.Fatalf("there is no resource %s", resource)
	}
	v := res["Properties"]
	for _, p := range path {
		switch c := v.(type) {
		case map[string]any:
			v = c[p]
		case []any:
			i, err := strconv.Atoi(p)
			if err != nil || i >= len(c) {
				r.t.Fatalf("%s %q: there is no such element", resource, path)
			}
			v = c[i]
		default:
			return nil
		}
	}
	return v
}

// is wants a part of a resource's properties.
func (r *rendered) is(want any, resource string, path ...string) {
	r.t.Helper()
	if got := r.prop(resource, path...); !reflect.DeepEqual(got, want) {
		r.t.Errorf("%s %s: got %v, want %v", resource, strings.Join(path, "."), got, want)
	}
}
