// Package keyset verifies JSON Web Tokens by the public keys of a local file, a JWKS.
package keyset

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// maxBytes bounds the size of a file, and of a token.
const (
	maxBytes = 1 << 20
	maxToken = 16 << 10
)

// algorithms are those that tokens may be signed with: of public keys only. A token that is
// signed with a shared secret, or not at all, could be made by whoever knows the file.
func algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
	}
}

// A Set verifies tokens. It may be used concurrently.
type Set struct {
	Issuer   string // that tokens have to be from
	Audience string // that tokens have to be for
	Claim    string // whose text Verify returns

	keys jose.JSONWebKeySet
}

// Load reads the keys of a file.
func (s *Set) Load(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	switch {
	case err != nil:
		return err
	case len(text) > maxBytes:
		return fmt.Errorf("%s: is larger than 1 MiB", file)
	}
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal(text, &keys); err != nil {
		return fmt.Errorf("%s: is not a set of JSON Web Keys: %w", file, err)
	}
	for _, k := range keys.Keys {
		if !k.Valid() || !k.IsPublic() {
			return fmt.Errorf("%s: key %q is not a valid public key: secrets do not belong there", file, k.KeyID)
		}
	}
	// Those for encryption sign nothing.
	keys.Keys = slices.DeleteFunc(keys.Keys, func(k jose.JSONWebKey) bool { return k.Use != "" && k.Use != "sig" })
	if len(keys.Keys) == 0 {
		return fmt.Errorf("%s: holds no key that signatures are checked with", file)
	}
	s.keys = keys
	return nil
}

// Verify returns the claim of a token that is signed by one of the keys, is from the issuer
// and for the audience, and holds at an instant. A token that does not say when it ends is
// not valid.
func (s *Set) Verify(text string, now time.Time) (claim string, err error) {
	if len(text) > maxToken {
		return "", errors.New("the token is longer than 16 KiB")
	}
	token, err := jwt.ParseSigned(text, algorithms())
	if err != nil {
		return "", errors.New("it is not a JSON Web Token that is signed with a public key's algorithm")
	}
	var standard jwt.Claims
	all := map[string]any{}
	if err := s.claims(token, &standard, &all); err != nil {
		return "", err
	}
	if standard.Expiry == nil {
		return "", errors.New("the token does not say when it ends")
	}
	expected := jwt.Expected{Issuer: s.Issuer, Time: now}
	if s.Audience != "" {
		expected.AnyAudience = jwt.Audience{s.Audience}
	}
	if err := standard.Validate(expected); err != nil {
		return "", errors.New("the token is not for this server, or not now")
	}
	claim, ok := all[s.Claim].(string)
	if !ok || claim == "" {
		return "", fmt.Errorf("the token has no text as its claim %s", s.Claim)
	}
	return claim, nil
}

// claims reads the claims of a token that one of the keys has signed.
func (s *Set) claims(token *jwt.JSONWebToken, to ...any) error {
	keys := s.keys.Keys
	if id := token.Headers[0].KeyID; id != "" {
		keys = s.keys.Key(id)
	}
	for _, k := range keys {
		if k.Algorithm != "" && k.Algorithm != token.Headers[0].Algorithm {
			continue
		}
		if token.Claims(k.Key, to...) == nil {
			return nil
		}
	}
	return errors.New("the token is not signed by a key that is known here")
}
