package access

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
)

const (
	tokenPrefix = "zael_"
	tokenBytes  = 32 // of randomness
	hashPrefix  = "sha256:"
)

// A Hash is the SHA-256 of a token's text. Only hashes are kept.
type Hash [sha256.Size]byte

// A Token gives its bearer what its principal may do.
type Token struct {
	Principal

	Hash Hash
}

// NewToken returns the text of a new random token: zael_ and 43 characters of base64url.
func NewToken() string {
	random := make([]byte, tokenBytes)
	_, _ = rand.Read(random) // never fails
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(random)
}

// HashOf returns the hash of a token's text.
func HashOf(text string) Hash { return sha256.Sum256([]byte(text)) }

// String returns the hash as a configuration has it: sha256: and 64 hex digits.
func (h Hash) String() string { return hashPrefix + hex.EncodeToString(h[:]) }

// UnmarshalText sets the hash to what String returned.
func (h *Hash) UnmarshalText(text []byte) error {
	digits, ok := strings.CutPrefix(string(text), hashPrefix)
	sum, err := hex.DecodeString(digits)
	if !ok || err != nil || len(sum) != len(h) {
		return errors.New("hash: want sha256: and 64 hex digits: 'zael token new' prints a token and its hash")
	}
	copy(h[:], sum)
	return nil
}
