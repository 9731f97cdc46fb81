package api_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve/api"
)

// A document is openapi.json. Each answer of the tests is held against it.
type document struct {
	root map[string]any

	escape *strings.Replacer // of a name in a pointer

	mu       sync.Mutex
	compiler *jsonschema.Compiler
	schemas  map[string]*jsonschema.Schema
}

var openAPI = sync.OnceValue(func() *document {
	text, err := os.ReadFile("openapi.json")
	if err != nil {
		panic(err)
	}
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		panic(err)
	}
	d := &document{root: root.(map[string]any), escape: strings.NewReplacer("~", "~0", "/", "~1"), compiler: jsonschema.NewCompiler(), schemas: map[string]*jsonschema.Schema{}} //nolint:forcetypeassert // or the tests fail
	d.compiler.AssertFormat()
	if err := d.compiler.AddResource("openapi.json", root); err != nil {
		panic(err)
	}
	return d
})

// at returns what is at a path of names, or nil, and its pointer. References are followed.
func (d *document) at(names ...string) (v any, pointer string) {
	v, pointer = d.root, "#"
	for _, name := range names {
		object, _ := v.(map[string]any)
		v, pointer = object[name], pointer+"/"+d.escape.Replace(name)
		if object, ok := v.(map[string]any); ok && object["$ref"] != nil {
			pointer, _ = object["$ref"].(string)
			v, _ = d.at(strings.Split(pointer, "/")[1:]...)
		}
	}
	return v, pointer
}

// validate returns an error unless JSON is as a schema says.
func (d *document) validate(pointer string, text []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	d.mu.Lock()
	schema := d.schemas[pointer]
	if schema == nil {
		if schema, err = d.compiler.Compile("openapi.json" + pointer); err == nil {
			d.schemas[pointer] = schema
		}
	}
	d.mu.Unlock()
	if err != nil {
		return err
	}
	return schema.Validate(v)
}

// path returns the path of the document that a request's is one of; "" if there is none.
func (d *document) path(escaped string) string {
	got := strings.Split(escaped, "/")
	paths, _ := d.root["paths"].(map[string]any)
	for path := range paths {
		want := strings.Split(path, "/")
		if len(got) == len(want) && slices.EqualFunc(got, want, func(g, w string) bool { return g == w || w[:min(1, len(w))] == "{" && g != "" }) {
			return path
		}
	}
	return ""
}

// check holds an answer, and a request that was done, against the document.
func (d *document) check(t *testing.T, r *http.Request, body []byte, w *httptest.ResponseRecorder) {
	t.Helper()
	path, method, status := d.path(r.URL.EscapedPath()), strings.ToLower(r.Method), strconv.Itoa(w.Code)
	if strings.ToUpper(method) != r.Method {
		method = "none of HTTP"
	}
	operation, _ := d.at("paths", path, method)
	if operation == nil {
		if _, pointer := d.at("components", "schemas", "Problem"); w.Code != 404 && w.Code != 405 && w.Code != 401 || d.validate(pointer, w.Body.Bytes()) != nil {
			t.Errorf("%s %s: got %d %s, want it in the document", r.Method, r.URL, w.Code, w.Body)
		}
		return
	}
	response, _ := d.at("paths", path, method, "responses", status)
	if response == nil {
		t.Errorf("%s %s: got %d %s, which the document does not have", r.Method, path, w.Code, w.Body)
		return
	}
	if content, _ := d.at("paths", path, method, "responses", status, "content"); content == nil {
		if w.Body.Len() > 0 {
			t.Errorf("%s %s: got %d with %s, want no body", r.Method, path, w.Code, w.Body)
		}
	} else {
		_, pointer := d.at("paths", path, method, "responses", status, "content", w.Header().Get("Content-Type"), "schema")
		if err := d.validate(pointer, w.Body.Bytes()); err != nil {
			t.Errorf("%s %s: got %d %s: %v", r.Method, path, w.Code, w.Body, err)
		}
	}
	if content, pointer := d.at("paths", path, method, "requestBody", "content", "application/json", "schema"); content != nil && w.Code < 300 {
		if err := d.validate(pointer, body); err != nil {
			t.Errorf("%s %s: got %d for the body %s: %v", r.Method, path, w.Code, body, err)
		}
	}
}

// The document has the routes of the handler with their parameters, and no other. Its
// examples are done, and answered as it says.
func TestDocument(t *testing.T) {
	t.Parallel()
	d := openAPI()
	known := map[string]bool{}
	for _, route := range api.Routes() {
		method, path := strings.ToLower(route[0]), route[1]
		known[method+" "+path] = true
		operation, _ := d.at("paths", path, method)
		if operation == nil {
			t.Errorf("%s %s: got nothing in the document", route[0], path)
			continue
		}
		var query, names []string
		list, _ := d.at("paths", path, method, "parameters")
		parameters, _ := list.([]any)
		for _, v := range parameters {
			p, _ := v.(map[string]any)
			if ref, ok := p["$ref"].(string); ok {
				v, _ = d.at(strings.Split(ref, "/")[1:]...)
				p, _ = v.(map[string]any)
			}
			name, _ := p["name"].(string)
			switch p["in"] {
			case "query":
				query = append(query, name)
			case "path":
				names = append(names, "{"+name+"}")
			}
		}
		want := strings.Fields(route[2])
		slices.Sort(want)
		if slices.Sort(query); !slices.Equal(query, want) {
			t.Errorf("%s %s: got the parameters %v in the document, want %v", route[0], path, query, want)
		}
		if joined := strings.Join(names, ""); strings.Contains(path, "{") != (joined != "") || !strings.Contains(path, joined) {
			t.Errorf("%s %s: got the names %v in the document", route[0], path, names)
		}
	}
	paths, _ := d.root["paths"].(map[string]any)
	for path, item := range paths {
		operations, _ := item.(map[string]any)
		for method := range operations {
			if !known[method+" "+path] {
				t.Errorf("%s %s: got it in the document alone", method, path)
			}
		}
	}
	got := setup(t).want(200, reader, "GET", "/v1/openapi.json", "")
	if got.body["openapi"] != "3.1.0" {
		t.Errorf("got the version %v, want 3.1.0", got.body["openapi"])
	}
}

func TestExamples(t *testing.T) {
	t.Parallel()
	d := openAPI()
	for _, route := range api.Routes() {
		method, path := strings.ToLower(route[0]), route[1]
		if body, pointer := d.at("paths", path, method, "responses", "200", "content", "application/json", "example"); body != nil {
			text, err := json.Marshal(body)
			if err == nil {
				err = d.validate(strings.TrimSuffix(pointer, "example")+"schema", text)
			}
			if err != nil {
				t.Errorf("%s %s: got an example of an answer that is none: %v", route[0], path, err)
			}
		}
		example, _ := d.at("paths", path, method, "requestBody", "content", "application/json", "example")
		if example == nil {
			continue
		}
		text, err := json.Marshal(example)
		if err != nil {
			t.Fatal(err)
		}
		s := setupOn(t, newNamespaces())
		s.ok(s.limiter.SetLimits(t.Context(), zael.Scope{}, []zael.Limit{zael.PerMinute("rpm", 100)}))
		for _, id := range []string{"x", "project-1"} {
			if path != "/v1/entities" || id != "x" {
				s.want(201, admin, "POST", "/v1/entities", `{"id":"`+id+`"}`)
			}
		}
		path = strings.NewReplacer("{id}", "x", "{name}", "x").Replace(path)
		if got := s.do(admin, route[0], path, string(text)); got.status >= 300 {
			t.Errorf("%s %s with the example %s: got %d %s", route[0], path, text, got.status, got.text)
		}
	}
}
