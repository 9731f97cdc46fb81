// Package leasetext writes leases that leave the process as text, and reads only such text as
// has been written with one of its keys.
//
// The text is base64url, without padding, of a version, the id of a key, the lease as
// [zael.DetachedLease.MarshalBinary] returns it, and an HMAC-SHA-256 of all that.
package leasetext

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/zeroae/zael"
)

const (
	version  = 1
	idSize   = 4
	headSize = 1 + idSize

	// LeastKey is how many bytes a key has at least.
	LeastKey = 16

	// MaxText is how many characters a text has at most.
	MaxText = 24 << 10
)

// ErrText means that a text is not one that a key has written.
var ErrText = errors.New("is no lease of this service: it was cut or changed, or written with a key that is not used any more")

// Keys are the keys of a service. They may be used concurrently.
type Keys struct {
	keys []key // the first signs
}

type key struct {
	id     [idSize]byte
	secret []byte
}

// New returns Keys. The first one signs, and all verify, so that a new one is added in front
// of the old one, which goes when the leases of its time have expired.
func New(secrets ...[]byte) (*Keys, error) {
	if len(secrets) == 0 {
		return nil, errors.New("leasetext: there is no key: give at least one")
	}
	k := new(Keys)
	for i, secret := range secrets {
		if len(secret) < LeastKey {
			return nil, fmt.Errorf("leasetext: key %d has %d bytes: use %d at least", i+1, len(secret), LeastKey)
		}
		one := key{secret: append([]byte(nil), secret...)}
		sum := sha256.Sum256(append([]byte("zael lease key\x00"), secret...))
		copy(one.id[:], sum[:])
		k.keys = append(k.keys, one)
	}
	return k, nil
}

// Text returns a lease as text. The error is that of MarshalBinary.
func (k *Keys) Text(d *zael.DetachedLease) (string, error) {
	one := &k.keys[0]
	b := append(make([]byte, 0, 512), version)
	b = append(b, one.id[:]...)
	b, err := d.AppendBinary(b)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(one.sum(b, b)), nil
}

// Parse reads a lease from text. The error is ErrText, or that of UnmarshalBinary.
func (k *Keys) Parse(text string) (*zael.DetachedLease, error) {
	if len(text) > MaxText || strings.ContainsAny(text, "\r\n") { // which the decoder passes over
		return nil, ErrText
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < headSize+sha256.Size || b[0] != version {
		return nil, ErrText
	}
	body, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	for i := range k.keys {
		one := &k.keys[i]
		if [idSize]byte(body[1:headSize]) != one.id || !hmac.Equal(one.sum(nil, body), sum) {
			continue
		}
		d := new(zael.DetachedLease)
		if err := d.UnmarshalBinary(body[headSize:]); err != nil {
			return nil, err
		}
		return d, nil
	}
	return nil, ErrText
}

// sum appends the HMAC of a body to b.
func (k *key) sum(b, body []byte) []byte {
	h := hmac.New(sha256.New, k.secret)
	_, _ = h.Write(body) // never fails
	return h.Sum(b)
}
