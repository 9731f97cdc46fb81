package leasetext

import (
	"context"
	"slices"
	"sync"

	"github.com/zeroae/zael"
)

// A Signer finds the keys that sign leases: those of a configuration, or else one that all
// servers find in the store. Its method may be called concurrently.
type Signer struct {
	limiter *zael.Limiter

	mu      sync.Mutex
	secrets []string // that keys are made of
	keys    *Keys
}

// NewSigner returns a signer of a limiter's leases.
func NewSigner(l *zael.Limiter) *Signer { return &Signer{limiter: l} }

// Keys returns the keys made of secrets; of none, the store is asked. Errors are those of
// [zael.Limiter.LeaseKey].
func (s *Signer) Keys(ctx context.Context, secrets []string) (*Keys, error) {
	s.mu.Lock()
	keys, same := s.keys, slices.Equal(s.secrets, secrets)
	s.mu.Unlock()
	if keys != nil && same {
		return keys, nil
	}
	var all [][]byte
	for _, secret := range secrets {
		all = append(all, []byte(secret))
	}
	if len(all) == 0 {
		secret, err := s.limiter.LeaseKey(ctx)
		if err != nil {
			return nil, err
		}
		all = [][]byte{secret}
	}
	keys, err := New(all...)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.keys, s.secrets = keys, secrets
	s.mu.Unlock()
	return keys, nil
}
