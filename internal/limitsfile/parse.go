package limitsfile

import (
	"context"
	"io"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/yamlfile"
	"github.com/zeroae/zael/memstore"
)

// Parse reads and checks a file. Errors about its contents are of type *Error, or several
// of them joined.
func Parse(r io.Reader) (*File, error) {
	document, err := yamlfile.Document(r, "name system, resources, entities or namespaces")
	if err != nil {
		return nil, err
	}
	p := parser{scopeLines: map[zael.Scope]int{}}
	if err := p.document(document); err != nil {
		return nil, err
	}
	return &p.file, p.file.check()
}

// A parser walks the nodes of a document, rather than decoding it, so that every error
// has a line.
type parser struct {
	file       File
	scopeLines map[zael.Scope]int // line of each scope's limits
}

func (p *parser) document(n *yaml.Node) error {
	return yamlfile.Mapping(n, "the file", yamlfile.Fields{
		"system": func(_ string, _, n *yaml.Node) error {
			return yamlfile.Mapping(n, "system", yamlfile.Fields{"limits": p.limits(zael.Scope{}), "failure_mode": p.failureMode(zael.Scope{})})
		},
		"resources": func(_ string, _, n *yaml.Node) error {
			return yamlfile.Mapping(n, "resources", yamlfile.Fields{yamlfile.AnyKey: p.resource("")})
		},
		"entities": func(_ string, _, n *yaml.Node) error {
			return yamlfile.Mapping(n, "entities", yamlfile.Fields{yamlfile.AnyKey: p.entity})
		},
		"namespaces": p.namespaces,
	})
}

// resource reads the limits of an entity for a resource, or of all if entity is empty.
func (p *parser) resource(entity string) yamlfile.Reader {
	return func(name string, _, n *yaml.Node) error {
		scope := zael.Scope{Entity: entity, Resource: name}
		if entity != "" && name == zael.DefaultResource {
			scope.Resource = ""
		}
		return yamlfile.Mapping(n, "resource "+name, yamlfile.Fields{
			"limits": p.limits(scope), "switch": p.switchOf(scope), "failure_mode": p.failureMode(scope),
		})
	}
}

func (p *parser) entity(id string, key, n *yaml.Node) error {
	e := Entity{ID: id, Line: key.Line}
	i := len(p.file.Entities)
	p.file.Entities = append(p.file.Entities, e)
	if n = yamlfile.Resolve(n); n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil // "key-1:" without a value
	}
	err := yamlfile.Mapping(n, "entity "+id, yamlfile.Fields{
		"name":   textField(&e.Name),
		"parent": textField(&e.Parent),
		"cascade": func(name string, _, n *yaml.Node) error {
			cascade, err := yamlfile.Bool(name, n)
			e.Cascade = &cascade
			return err
		},
		"metadata": func(_ string, _, n *yaml.Node) error {
			e.Metadata = map[string]string{}
			return yamlfile.Mapping(n, "metadata", yamlfile.Fields{yamlfile.AnyKey: func(k string, _, n *yaml.Node) error {
				v, err := yamlfile.Text(k, n)
				e.Metadata[k] = v
				return err
			}})
		},
		"limits":       p.limits(zael.Scope{Entity: id}),
		"switch":       p.switchOf(zael.Scope{Entity: id}),
		"failure_mode": p.failureMode(zael.Scope{Entity: id}),
		"resources": func(_ string, _, n *yaml.Node) error {
			return yamlfile.Mapping(n, "resources", yamlfile.Fields{yamlfile.AnyKey: p.resource(id)})
		},
	})
	p.file.Entities[i] = e
	return err
}

// limits reads the limits of a scope, in the form of zael.ParseLimit.
func (p *parser) limits(scope zael.Scope) yamlfile.Reader {
	return func(_ string, key, n *yaml.Node) error {
		if n = yamlfile.Resolve(n); n.Kind != yaml.SequenceNode {
			return yamlfile.Errorf(n.Line, `limits of %s: not a list: write it like [rpm=100/min, tpm=10000/min burst 20000], or [] for none`, scope)
		}
		if line, repeated := p.scopeLines[scope]; repeated {
			return yamlfile.Errorf(key.Line, "limits of %s are already in line %d", scope, line)
		}
		p.scopeLines[scope] = key.Line
		set := Set{Scope: scope, Line: key.Line}
		for _, item := range n.Content {
			if item = yamlfile.Resolve(item); item.Kind != yaml.ScalarNode {
				return yamlfile.Errorf(item.Line, `limits of %s: not a limit: write it like "rpm=100/min"`, scope)
			}
			l, err := zael.ParseLimit(item.Value)
			if err != nil {
				return invalid(item.Line, "limits of "+scope.String(), err)
			}
			set.Limits = append(set.Limits, l)
		}
		p.file.Sets = append(p.file.Sets, set)
		return nil
	}
}

// switchOf reads the switch of a scope.
func (p *parser) switchOf(scope zael.Scope) yamlfile.Reader {
	return func(_ string, key, n *yaml.Node) error {
		name, err := yamlfile.Word("switch of "+scope.String(), n, "enabled", "disabled", "bypass", "inherit")
		if err != nil {
			return err
		}
		s, err := zael.ParseSwitch(name)
		if err != nil {
			return invalid(n.Line, "switch of "+scope.String(), err)
		}
		return p.setting(Setting{Scope: scope, Switch: &s, Line: key.Line})
	}
}

// failureMode reads the failure mode of a scope.
func (p *parser) failureMode(scope zael.Scope) yamlfile.Reader {
	return func(_ string, key, n *yaml.Node) error {
		name, err := yamlfile.Word("failure_mode of "+scope.String(), n, "open", "closed", "inherit")
		if err != nil {
			return err
		}
		mode := map[string]zael.FailureMode{"open": zael.FailOpen, "closed": zael.FailClosed, "inherit": 0}[name]
		return p.setting(Setting{Scope: scope, FailureMode: &mode, Line: key.Line})
	}
}

// textField reads a text.
func textField(to **string) yamlfile.Reader {
	return func(name string, _, n *yaml.Node) error {
		text, err := yamlfile.Text(name, n)
		*to = &text
		return err
	}
}

// setting adds a setting, unless the scope has it already under its other name.
func (p *parser) setting(s Setting) error {
	for _, other := range p.file.Settings {
		if other.Scope == s.Scope && (other.Switch != nil) == (s.Switch != nil) {
			return yamlfile.Errorf(s.Line, "%s: its %s is already in line %d", s.Scope, map[bool]string{true: "switch", false: "failure_mode"}[s.Switch != nil], other.Line)
		}
	}
	p.file.Settings = append(p.file.Settings, s)
	return nil
}

// namespaces reads the list of namespaces.
func (p *parser) namespaces(_ string, _, n *yaml.Node) error {
	if n = yamlfile.Resolve(n); n.Kind != yaml.SequenceNode {
		return yamlfile.Errorf(n.Line, "namespaces: not a list: write it like [team-a, team-b]")
	}
	for _, item := range n.Content {
		if item = yamlfile.Resolve(item); item.Kind != yaml.ScalarNode {
			return yamlfile.Errorf(item.Line, "namespaces: not a name")
		}
		if err := zael.CheckNamespace(item.Value); err != nil {
			return invalid(item.Line, "namespaces", err)
		}
		if slices.ContainsFunc(p.file.Namespaces, func(other Namespace) bool { return other.Name == item.Value }) {
			return yamlfile.Errorf(item.Line, "namespaces: %q is named twice", item.Value)
		}
		p.file.Namespaces = append(p.file.Namespaces, Namespace{item.Value, item.Line})
	}
	return nil
}

// check validates the file by the limiter's rules, by applying it to an empty store.
func (f *File) check() error {
	ctx := context.Background()
	l, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		return err
	}
	for i := range f.Entities {
		e := &f.Entities[i]
		if _, err := l.CreateEntity(ctx, e.entity()); err != nil {
			return invalid(e.Line, "entity "+e.ID, err)
		}
	}
	for _, s := range f.Sets {
		limits := s.Limits
		if len(limits) == 0 {
			limits = []zael.Limit{zael.PerSecond("n", 1)} // to check the scope
		}
		if err := l.SetLimits(ctx, s.Scope, limits); err != nil {
			return invalid(s.Line, "limits of "+s.Scope.String(), err)
		}
	}
	for _, s := range f.Settings {
		if _, err := l.Apply(ctx, []zael.Change{{Scope: s.Scope, Switch: s.Switch, FailureMode: s.FailureMode}}); err != nil {
			return invalid(s.Line, "settings of "+s.Scope.String(), err)
		}
	}
	return nil
}
