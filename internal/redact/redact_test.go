package redact_test

import (
	"strings"
	"testing"

	"github.com/zeroae/zael/internal/redact"
)

func TestURL(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ url, want string }{
		{"memory:", "memory:"},
		{"sqlite:/a:b@c", "sqlite:/a:b@c"},
		{"dynamodb://limits?region=eu-central-1", "dynamodb://limits?region=eu-central-1"},
		{"redis://localhost:6379/0?namespace=a", "redis://localhost:6379/0?namespace=a"},
		{"redis://user@localhost", "redis://user@localhost"},
		{"redis://user:secret@localhost:1/2", "redis://user:***@localhost:1/2"},
		{"redis://:secret@localhost", "redis://:***@localhost"},
		{"redis://user:se/c@r?e#t@localhost", "redis://user:***@localhost"},
		{"redis+sentinel://user:secret@a,b/main", "redis+sentinel://user:***@a,b/main"},
		{"redis://localhost?password=secret&namespace=a", "redis://localhost?password=***&namespace=a"},
		{"redis://localhost?namespace=a&PASSWORD=secret", "redis://localhost?namespace=a&PASSWORD=***"},
		{"postgres:user:secret@localhost/db", "postgres:user:***@localhost/db"},
		{"redis:/user:se:cr@et@localhost", "redis:/user:***@localhost"},
		{"user:secret@localhost", "user:***@localhost"},
		{"user@localhost:1", "user@localhost:1"},
		{"redis://user:secret", "redis://user:secret"}, // a host and a port that is none
	} {
		got := redact.URL(tt.url)
		if got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.url, got, tt.want)
		}
		if again := redact.URL(got); again != got {
			t.Errorf("%s: got %s a second time", got, again)
		}
	}
	if got := redact.URL("postgres://u:p%40ss@h/db?sslmode=verify-full"); strings.Contains(got, "ss@") {
		t.Errorf("got %s", got)
	}
}
