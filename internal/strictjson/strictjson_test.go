package strictjson_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael/internal/strictjson"
)

// read reads any value as encoding/json does, but for numbers, which are int64.
func read(r *strictjson.Reader) (any, error) {
	switch r.Next() {
	case strictjson.Object:
		m := map[string]any{}
		err := r.Object(func(name []byte) error {
			v, err := read(r)
			m[string(name)] = v
			return err
		})
		return m, err
	case strictjson.Array:
		a := []any{}
		err := r.Array(func() error {
			v, err := read(r)
			a = append(a, v)
			return err
		})
		return a, err
	case strictjson.String:
		return r.String()
	case strictjson.Bool:
		return r.Bool()
	case strictjson.Null:
		if !r.Null() {
			return nil, strictjson.Invalid("is not null")
		}
		return nil, nil
	}
	return r.Int64()
}

func readAll(text string) (any, error) {
	r := strictjson.NewReader([]byte(text))
	v, err := read(&r)
	if err == nil {
		err = r.End()
	}
	return v, err
}

func TestRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		` { "a" : [ 1 , -2, true ,false,null ] , "b":{} , "c":[], "\u00e9\n":"\ud83d\ude00/\/" } `: `map[a:[1 -2 true false <nil>] b:map[] c:[] é` + "\n" + `:😀//]`,
		`9223372036854775807`:                   `9223372036854775807`,
		`-9223372036854775808`:                  `-9223372036854775808`,
		`9007199254740993`:                      `9007199254740993`,
		`5.0`:                                   `5`,
		`1.5e1`:                                 `15`,
		`1200e-2`:                               `12`,
		`0.0e999999999999`:                      `0`,
		`0.` + strings.Repeat("0", 30) + `1e31`: `1`,
		`{"a":1,"A":2}`:                         `map[A:2 a:1]`,
		`9223372036854775808`:                   ` is not a whole number of 64 bits`,
		`1e19`:                                  ` is not a whole number of 64 bits`,
		`1e999999999999999999999`:               ` is not a whole number of 64 bits`,
		`1e-999999999999999999999`:              ` is not a whole number of 64 bits`,
		`0.5`:                                   ` is not a whole number of 64 bits`,
		`01`:                                    ` is not a number as JSON has them`,
		`-`:                                     ` is not a number as JSON has them`,
		`1.`:                                    ` is not a number as JSON has them`,
		`1e+`:                                   ` is not a number as JSON has them`,
		`{"a":1,"b":2,"a":3}`:                   `a is given twice`,
		`{"a":1,"\u0061":3}`:                    `a is given twice`,
		`{"a":{"b":[1,{"c":0.5}]}}`:             `a.b[1].c is not a whole number of 64 bits`,
		`{"a" 1}`:                               `a has no colon after its name`,
		`{"a":1`:                                ` is an object that does not end`,
		`{"a":1,}`:                              ` is an object that lacks the name of a member`,
		`{"` + strings.Repeat("x", 70) + `":tru}`: strings.Repeat("x", 64) + `… is neither true nor false`,
		`[1 2]`:          ` is an array that does not end`,
		`[1,]`:           `[1] is missing or is not JSON: send a number`,
		`"a`:             ` is a string that does not end`,
		`"\ud83d"`:       ` has an escape that JSON does not have, or half a surrogate pair`,
		`"\ude00\ud83d"`: ` has an escape that JSON does not have, or half a surrogate pair`,
		`"\x"`:           ` has an escape that JSON does not have, or half a surrogate pair`,
		"\"\xff\"":       ` is not UTF-8`,
		"\"\\n\xff\"":    ` is not UTF-8`,
		"\"a\nb\"":       ` has a control character in a string: write it as \u00XX`,
		`1 2`:            ` has more after its end`,
		`nul`:            ` is not null`,
		``:               ` is missing or is not JSON: send a number`,
	} {
		v, err := readAll(text)
		got := fmt.Sprint(v)
		if e, ok := err.(*strictjson.Error); ok { //nolint:errorlint // it is not wrapped
			got = e.Field + " " + e.Reason
		}
		if strings.TrimSpace(got) != strings.TrimSpace(want) {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

// An object of many members finds the one that is given twice, too.
func TestManyMembers(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 100 {
		fmt.Fprintf(&b, `,"m%d":%d`, i, i)
	}
	if v, err := readAll("{" + b.String()[1:] + "}"); err != nil || len(v.(map[string]any)) != 100 { //nolint:forcetypeassert // or the test fails
		t.Errorf("got %v, want 100 members", err)
	}
	for _, twice := range []int{0, 15, 16, 99} {
		want := fmt.Sprintf("m%d is given twice", twice)
		if _, err := readAll(fmt.Sprintf(`{%s,"m%d":1}`, b.String()[1:], twice)); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`"1m30s"`: "1m30s", `2`: "2s", `0.5`: "500ms", `1e-9`: "1ns", `-1`: "-1s", `9223372036.854775807`: time.Duration(1<<63 - 1).String(),
		`1e-10`: "", `9223372036.854775808`: "", `"2"`: "", `true`: "", `"`: "",
	} {
		r := strictjson.NewReader([]byte(text))
		got, err := r.Duration()
		if (err == nil) != (want != "") || err == nil && got.String() != want {
			t.Errorf("%s: got %v, %v, want %s", text, got, err, want)
		}
	}
}

// What is read means the same to encoding/json.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,-2.50e3,true,null,"\u00e9\ud83d\ude00"],"b":{"c":"d"}}`, `[[[]]]`, `1e3`, `"\ud800"`, `{"a":1,"a":2}`, "\xef\xbb\xbf1", `-0`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := readAll(text)
		if err != nil {
			return
		}
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.UseNumber()
		var want any
		if err := decoder.Decode(&want); err != nil || decoder.More() {
			t.Fatalf("%q: got %v, want the error %v", text, got, err)
		}
		if numbers(t, want); !reflect.DeepEqual(got, integers(want)) {
			t.Errorf("%q: got %#v, want %#v", text, got, want)
		}
	})
}

// numbers checks that each number is whole.
func numbers(t *testing.T, v any) {
	t.Helper()
	switch v := v.(type) {
	case json.Number:
		if f, err := v.Float64(); err == nil && f != float64(int64(f)) {
			t.Errorf("got %s read, want it refused", v)
		}
	case []any:
		for _, e := range v {
			numbers(t, e)
		}
	case map[string]any:
		for _, e := range v {
			numbers(t, e)
		}
	}
}

// integers returns v with int64s instead of numbers.
func integers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, err := v.Float64()
		if err != nil {
			return v
		}
		return int64(f)
	case []any:
		a := make([]any, len(v))
		for i, e := range v {
			a[i] = integers(e)
		}
		return a
	case map[string]any:
		m := map[string]any{}
		for k, e := range v {
			m[k] = integers(e)
		}
		return m
	}
	return v
}
