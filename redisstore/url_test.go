package redisstore_test

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/redisstore"
)

// The SHA-1 of a script stands in the code, beside it.
func TestScriptsAreNamedRight(t *testing.T) {
	t.Parallel()
	code, err := os.ReadFile("script.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"take.lua", "write.lua"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha1.Sum(text)
		if digits := hex.EncodeToString(sum[:]); !strings.Contains(string(code), `"`+digits+`"`) {
			t.Errorf("%s has the SHA-1 %s: write it into script.go", name, digits)
		}
	}
}

// What a URL says is checked before anything is asked of a server, and no password is shown.
func TestOpenChecksURLs(t *testing.T) {
	t.Setenv("REDISCLI_AUTH", "")
	t.Setenv("ZAEL_TEST_PASSWORD", "s3cret")
	for _, url := range []string{
		"redis://localhost", "redis://localhost:7000/3", "redis://me@localhost", "redis://me:s3cret@localhost?namespace=a&usage=true&wait=1",
		"redis://[::1]:6379", "redis://[::1]/2", "rediss://localhost?server_name=redis.example", "redis+sentinel://a,b:26380,[::1]/main", "redis+sentinel://a/main/4", "redis+sentinel://a/main?sentinel_password_env=ZAEL_TEST_PASSWORD",
		"redis+cluster://a,b", "rediss+cluster://a", "redis://localhost?password_env=ZAEL_TEST_PASSWORD", "redis://:s3%23cret@localhost",
	} {
		s, err := redisstore.Open(url)
		if err != nil {
			t.Errorf("%s: got %v, want nil", url, err)
			continue
		}
		if strings.Contains(s.String(), "s3cret") || !strings.HasPrefix(s.String(), "redis") {
			t.Errorf("%s: it is called %s", url, s)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	for url, want := range map[string]string{
		"http://localhost":                                 "write it like",
		"redis:localhost":                                  "write it like",
		"redis://":                                         "no host",
		"redis://me:s3cret@":                               "no host",
		"redis://a,b":                                      "redis+cluster",
		"redis://localhost/x":                              "database",
		"redis://localhost/-1":                             "database",
		"redis://localhost:0":                              "HOST:PORT",
		"redis://localhost:99999":                          "HOST:PORT",
		"redis://::1":                                      "brackets",
		"redis://me:s3cret#x@localhost":                    "%23",
		"redis://me:s3cret%zz@localhost":                   "%XX",
		"redis://localhost?x=%zz":                          "%XX",
		"redis://localhost?namespace=a/b":                  "A-Z",
		"redis://localhost?usage=maybe":                    "true or false",
		"redis://localhost?wait=10":                        "0 to 9",
		"redis://localhost?wait=-1":                        "0 to 9",
		"redis://localhost?password=s3cret":                "unknown setting",
		"redis://localhost?password_env=ZAEL_TEST_MISSING": "no such variable",
		"redis://:s3cret@localhost?password_env=ZAEL_TEST_PASSWORD":    "leave one",
		"redis://localhost?ca=/nowhere":                                "rediss",
		"rediss://localhost?ca=/nowhere":                               "cannot be read",
		"rediss://localhost?ca=url_test.go":                            "no certificate",
		"rediss://localhost?cert=/nowhere":                             "name both",
		"rediss://localhost?cert=/nowhere&key=/nowhere":                "cannot be used",
		"redis+sentinel://a":                                           "names no primary",
		"redis+sentinel://a/main/x":                                    "database",
		"redis://a?sentinel_password_env=ZAEL_TEST_PASSWORD":           "no sentinel",
		"redis+sentinel://a/main?sentinel_password_env=ZAEL_TEST_GONE": "no such variable",
		"redis+cluster://a?wait=1":                                     "leave it out",
		"redis+cluster://a/1":                                          "no databases",
	} {
		_, err := redisstore.Open(url)
		var invalid *zael.ValidationError
		if !errors.As(err, &invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want a *zael.ValidationError with %q", url, err, want)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the error shows the password: %v", url, err)
		}
	}
}
