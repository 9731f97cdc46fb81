package llm

import (
	"errors"
	"net/http"
	"strings"

	"github.com/zeroae/zael/internal/clientkey"
)

// A KeyFunc returns the entity whose limits a call is held to, such as a tenant that the
// request's context tells. An error, or an empty key, makes the call fail. It is called
// concurrently.
type KeyFunc func(r *http.Request) (string, error)

// Fixed returns a KeyFunc that returns the same key for all calls, so that they share one
// bucket for each resource.
func Fixed(key string) KeyFunc {
	return func(*http.Request) (string, error) { return key, nil }
}

// APIKey returns a KeyFunc that returns a hash of the provider's API key that a request
// is sent with: the first 16 bytes of SHA-256, in hexadecimal. Of a request that is
// signed for AWS it is the access key's ID, hashed. In an SDK's middleware, which runs
// before the request is signed, AWS needs [Fixed] or a function of your own.
func APIKey() KeyFunc {
	return func(r *http.Request) (string, error) {
		secret := apiKey(r)
		if secret == "" {
			return "", errors.New("the request has no API key")
		}
		return clientkey.Hash(secret), nil
	}
}

// apiKey returns the provider's API key, or the ID of an access key of AWS, or "".
func apiKey(r *http.Request) string {
	for _, name := range []string{"X-Api-Key", "Api-Key", "X-Goog-Api-Key"} {
		if key := r.Header.Get(name); key != "" {
			return key
		}
	}
	scheme, credentials, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if signed(r) {
		_, credentials, _ = strings.Cut(credentials, "Credential=")
		credentials, _, _ = strings.Cut(credentials, "/")
	} else if !strings.EqualFold(scheme, "Bearer") {
		credentials = ""
	}
	if credentials = strings.TrimSpace(credentials); credentials == "" {
		credentials = r.URL.Query().Get("key") // Gemini
	}
	return credentials
}

// signed reports whether the request is signed for AWS: it must not be changed.
func signed(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-")
}
