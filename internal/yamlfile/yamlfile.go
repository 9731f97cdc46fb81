// Package yamlfile reads YAML of a known form, so that every mistake in it has a line and a
// reason: unknown and repeated keys too.
package yamlfile

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// An Error is about a line of a file.
type Error struct {
	Line   int // from 1; 0 if it is about the file as a whole
	Reason string
	Cause  error // nil if there is none
}

// Error returns line and reason as they follow the name of the file: "7: unknown key",
// or " the file is empty".
func (e *Error) Error() string {
	if e.Line == 0 {
		return " " + e.Reason
	}
	return fmt.Sprintf("%d: %s", e.Line, e.Reason)
}

// Unwrap returns the cause, if there is one.
func (e *Error) Unwrap() error { return e.Cause }

// Errorf returns an *Error.
func Errorf(line int, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Line: line, Reason: err.Error(), Cause: errors.Unwrap(err)}
}

// Named returns an error with the name of the file before each *Error in err, as compilers
// print them: "limits.yaml:7: unknown key". One mistake a line, the lines joined by separator.
// An err without an *Error is returned as it is.
func Named(name, separator string, err error) error {
	if _, ok := errors.AsType[*Error](err); !ok {
		return err
	}
	var lines []string
	for one := range strings.Lines(err.Error()) {
		lines = append(lines, name+":"+strings.TrimRight(one, "\n"))
	}
	return errors.New(strings.Join(lines, separator))
}

// Document reads the one document of a file. Of an empty file the error says that, and
// what to write.
func Document(r io.Reader, write string) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(r)
	var document, second yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, Errorf(0, "the file is empty: %s", write)
	case err != nil:
		return nil, syntaxError(err)
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		return nil, Errorf(second.Line, "a second document begins here: write all as one document")
	case !errors.Is(err, io.EOF):
		return nil, syntaxError(err)
	}
	return document.Content[0], nil
}

// syntaxError translates an error of the YAML decoder, which has the line in its text.
func syntaxError(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if number, reason, ok := strings.Cut(rest, ": "); ok {
			if line, atoi := strconv.Atoi(number); atoi == nil {
				return &Error{Line: line, Reason: reason, Cause: err}
			}
		}
	}
	return &Error{Reason: text, Cause: err}
}

// A Reader reads the value of a key.
type Reader func(name string, key, value *yaml.Node) error

// Fields has the keys that a mapping may have.
type Fields map[string]Reader

// AnyKey stands for all keys that Fields does not name.
const AnyKey = "*"

// Mapping reads a mapping. Unknown and repeated keys are errors. The error joins those of
// all keys, in their order.
func Mapping(n *yaml.Node, what string, known Fields) error {
	if n = Resolve(n); n.Kind != yaml.MappingNode {
		return Errorf(n.Line, "%s: not a mapping", what)
	}
	var errs []error
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		errs = append(errs, readKey(n.Content[i], n.Content[i+1], what, known, lines))
	}
	return errors.Join(errs...)
}

// readKey reads one key of a mapping. It keeps the line of each key that it knows.
func readKey(key, value *yaml.Node, what string, known Fields, lines map[string]int) error {
	if key = Resolve(key); key.Kind != yaml.ScalarNode {
		return Errorf(key.Line, "%s: a key that is not text", what)
	}
	read, ok := known[key.Value]
	if !ok {
		read, ok = known[AnyKey]
	}
	if !ok {
		return Errorf(key.Line, "%s: unknown key %q; its keys are %s", what, key.Value, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
	}
	if line, repeated := lines[key.Value]; repeated {
		return Errorf(key.Line, "%s: key %q is already in line %d", what, key.Value, line)
	}
	lines[key.Value] = key.Line
	return read(key.Value, key, value)
}

// Resolve returns the node that an alias stands for, or n if it is none.
func Resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// Text returns a value as it is written: 007 stays 007.
func Text(name string, n *yaml.Node) (string, error) {
	if n = Resolve(n); n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return "", Errorf(n.Line, "%s: not text", name)
	}
	return n.Value, nil
}

// Bool returns a value that is true or false.
func Bool(name string, n *yaml.Node) (value bool, err error) {
	if n = Resolve(n); n.Decode(&value) != nil || n.Tag == "!!null" {
		return false, Errorf(n.Line, "%s: %q is not true or false", name, n.Value)
	}
	return value, nil
}

// Word returns a value that is one of some words.
func Word(name string, n *yaml.Node, words ...string) (string, error) {
	if n = Resolve(n); n.Kind == yaml.ScalarNode && slices.Contains(words, n.Value) {
		return n.Value, nil
	}
	given := "what is there"
	if n.Kind == yaml.ScalarNode {
		given = strconv.Quote(n.Value)
	}
	return "", Errorf(n.Line, "%s: %s is not %s", name, given, strings.Join(words, ", "))
}
