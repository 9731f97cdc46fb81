package limitsfile

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

// Parse reads and checks a file. What is wrong with it is an *Error.
func Parse(r io.Reader) (*File, error) {
	decoder := yaml.NewDecoder(r)
	var document, second yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, errorf(0, "the file is empty: name system, resources or entities")
	case err != nil:
		return nil, syntax(err)
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		return nil, errorf(second.Line, "a second document begins here; write it all as one")
	case !errors.Is(err, io.EOF):
		return nil, syntax(err)
	}
	p := parser{seen: map[zael.Scope]int{}}
	if err := p.file(document.Content[0]); err != nil {
		return nil, err
	}
	return &p.out, p.out.check()
}

// syntax is an error of the YAML decoder, which has the line in its text.
func syntax(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if number, reason, ok := strings.Cut(rest, ": "); ok {
			if line, atoi := strconv.Atoi(number); atoi == nil {
				return &Error{Line: line, Reason: reason, cause: err}
			}
		}
	}
	return &Error{Reason: text, cause: err}
}

// A parser walks the document. It has no types to decode into, so that every
// error knows its line.
type parser struct {
	out  File
	seen map[zael.Scope]int // the line of each scope
}

func (p *parser) file(n *yaml.Node) error {
	return p.mapping(n, "the file", fields{
		"system": func(_ string, _, n *yaml.Node) error {
			return p.mapping(n, "system", fields{"limits": p.limits(zael.Scope{})})
		},
		"resources": func(_ string, _, n *yaml.Node) error {
			return p.mapping(n, "resources", fields{anyKey: p.resource("")})
		},
		"entities": func(_ string, _, n *yaml.Node) error {
			return p.mapping(n, "entities", fields{anyKey: p.entity})
		},
	})
}

// resource reads what an entity, or everybody, may do with a resource.
func (p *parser) resource(entity string) field {
	return func(name string, _, n *yaml.Node) error {
		scope := zael.Scope{Entity: entity, Resource: name}
		if entity != "" && name == zael.DefaultResource {
			scope.Resource = ""
		}
		return p.mapping(n, "resource "+name, fields{"limits": p.limits(scope)})
	}
}

func (p *parser) entity(id string, key, n *yaml.Node) error {
	e := Entity{ID: id, Line: key.Line}
	i := len(p.out.Entities)
	p.out.Entities = append(p.out.Entities, e)
	if n = resolve(n); n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil // "key-1:" alone
	}
	err := p.mapping(n, "entity "+id, fields{
		"name":    text(&e.Name),
		"parent":  text(&e.Parent),
		"cascade": flag(&e.Cascade),
		"metadata": func(_ string, _, n *yaml.Node) error {
			e.Metadata = map[string]string{}
			return p.mapping(n, "metadata", fields{anyKey: func(k string, key, n *yaml.Node) error {
				var v *string
				err := text(&v)(k, key, n)
				if err == nil {
					e.Metadata[k] = *v
				}
				return err
			}})
		},
		"limits": p.limits(zael.Scope{Entity: id}),
		"resources": func(_ string, _, n *yaml.Node) error {
			return p.mapping(n, "resources", fields{anyKey: p.resource(id)})
		},
	})
	p.out.Entities[i] = e
	return err
}

// limits reads a list of limits, each as zael.ParseLimit does.
func (p *parser) limits(scope zael.Scope) field {
	return func(_ string, key, n *yaml.Node) error {
		if n = resolve(n); n.Kind != yaml.SequenceNode {
			return errorf(n.Line, `limits of %s: not a list: write it like [rpm=100/min, tpm=10000/min burst 20000], or [] for none`, scope)
		}
		if line, twice := p.seen[scope]; twice {
			return errorf(key.Line, "limits of %s are there already, in line %d", scope, line)
		}
		p.seen[scope] = key.Line
		set := Set{Scope: scope, Line: key.Line}
		for _, item := range n.Content {
			if item = resolve(item); item.Kind != yaml.ScalarNode {
				return errorf(item.Line, `limits of %s: not a limit: write it like "rpm=100/min"`, scope)
			}
			l, err := zael.ParseLimit(item.Value)
			if err != nil {
				return invalid(item.Line, "limits of "+scope.String(), err)
			}
			set.Limits = append(set.Limits, l)
		}
		p.out.Sets = append(p.out.Sets, set)
		return nil
	}
}

// check holds the file against the rules of the limiter, by way of one that
// forgets.
func (f *File) check() error {
	ctx := context.Background()
	l, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		return err
	}
	for i := range f.Entities {
		e := &f.Entities[i]
		if _, err := l.CreateEntity(ctx, e.record()); err != nil {
			return invalid(e.Line, "entity "+e.ID, err)
		}
	}
	for _, s := range f.Sets {
		limits := s.Limits
		if len(limits) == 0 {
			limits = []zael.Limit{zael.PerSecond("n", 1)} // for the scope alone
		}
		if err := l.SetLimits(ctx, s.Scope, limits); err != nil {
			return invalid(s.Line, "limits of "+s.Scope.String(), err)
		}
	}
	return nil
}
