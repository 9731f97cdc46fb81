package limitsfile

import (
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A field reads the value of a key.
type field func(name string, key, value *yaml.Node) error

// fields are the keys that a mapping may have.
type fields map[string]field

// anyKey is the field for all keys.
const anyKey = "*"

// mapping reads each key of a mapping, and refuses those that may not be there.
func (p *parser) mapping(n *yaml.Node, what string, known fields) error {
	if n = resolve(n); n.Kind != yaml.MappingNode {
		return errorf(n.Line, "%s: not a mapping of keys to values", what)
	}
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := resolve(n.Content[i])
		if key.Kind != yaml.ScalarNode {
			return errorf(key.Line, "%s: a key that is not text", what)
		}
		read, ok := known[key.Value]
		if !ok {
			read, ok = known[anyKey]
		}
		if !ok {
			return errorf(key.Line, "%s: unknown key %q; there are %s", what, key.Value, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		if line, twice := lines[key.Value]; twice {
			return errorf(key.Line, "%s: key %q is there already, in line %d", what, key.Value, line)
		}
		lines[key.Value] = key.Line
		if err := read(key.Value, key, n.Content[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// resolve follows an alias.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// text reads a value as it stands there, so that 007 stays 007.
func text(to **string) field {
	return func(name string, _, n *yaml.Node) error {
		if n = resolve(n); n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
			return errorf(n.Line, "%s: not text", name)
		}
		*to = &n.Value
		return nil
	}
}

func flag(to **bool) field {
	return func(name string, _, n *yaml.Node) error {
		var b bool
		if n = resolve(n); n.Decode(&b) != nil || n.Tag == "!!null" {
			return errorf(n.Line, "%s: %q is not true or false", name, n.Value)
		}
		*to = &b
		return nil
	}
}
