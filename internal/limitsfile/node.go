package limitsfile

import (
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A fieldReader reads the value of a key.
type fieldReader func(name string, key, value *yaml.Node) error

// fields has the keys that a mapping may have.
type fields map[string]fieldReader

// anyKey stands for all keys that fields does not name.
const anyKey = "*"

// readMapping reads a mapping. Unknown and repeated keys are errors.
func readMapping(n *yaml.Node, what string, known fields) error {
	if n = resolve(n); n.Kind != yaml.MappingNode {
		return errorf(n.Line, "%s: not a mapping", what)
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
			return errorf(key.Line, "%s: unknown key %q; its keys are %s", what, key.Value, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		if line, repeated := lines[key.Value]; repeated {
			return errorf(key.Line, "%s: key %q is already in line %d", what, key.Value, line)
		}
		lines[key.Value] = key.Line
		if err := read(key.Value, key, n.Content[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// resolve returns the node that an alias stands for, or n if it is none.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// textField reads a value as it is written: 007 stays 007.
func textField(to **string) fieldReader {
	return func(name string, _, n *yaml.Node) error {
		if n = resolve(n); n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
			return errorf(n.Line, "%s: not text", name)
		}
		*to = &n.Value
		return nil
	}
}

func boolField(to **bool) fieldReader {
	return func(name string, _, n *yaml.Node) error {
		var b bool
		if n = resolve(n); n.Decode(&b) != nil || n.Tag == "!!null" {
			return errorf(n.Line, "%s: %q is not true or false", name, n.Value)
		}
		*to = &b
		return nil
	}
}
