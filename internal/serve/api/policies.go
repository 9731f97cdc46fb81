package api

import (
	"strings"
	"sync"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/recent"
	"github.com/zeroae/zael/internal/strictjson"
)

const (
	cachedPolicies = 1024
	cachedLimits   = 8 // of a policy that is cached
)

// A policyCache keeps the policies of the limits that requests sent last, so that the same limits
// are parsed and compiled once. Its method may be called concurrently.
type policyCache struct {
	mu       sync.Mutex
	policies *recent.Map[string, *zael.Policy]
}

func newPolicyCache() *policyCache {
	return &policyCache{policies: recent.New[string, *zael.Policy](cachedPolicies)}
}

// policy returns the policy of limits, and of the limits of parents unless there are none.
func (c *policyCache) policy(resource string, limits, parents []string) (*zael.Policy, error) {
	if len(limits)+len(parents) > cachedLimits {
		return compile(resource, limits, parents)
	}
	key := policyKey(resource, limits, parents)
	c.mu.Lock()
	p, ok := c.policies.Get(key)
	c.mu.Unlock()
	if ok {
		return p, nil
	}
	p, err := compile(resource, limits, parents)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.policies.Put(key, p)
	c.mu.Unlock()
	return p, nil
}

// policyKey returns the key of a policy in the cache. Valid names of resources and valid texts of
// limits have no control characters, so that different policies have different keys.
func policyKey(resource string, limits, parents []string) string {
	var b strings.Builder
	n := len(resource) + 1
	for _, l := range limits {
		n += len(l) + 1
	}
	for _, l := range parents {
		n += len(l) + 1
	}
	b.Grow(n)
	b.WriteString(resource)
	for _, l := range limits {
		b.WriteByte(0)
		b.WriteString(l)
	}
	for _, l := range parents {
		b.WriteByte(1)
		b.WriteString(l)
	}
	return b.String()
}

func compile(resource string, limits, parents []string) (*zael.Policy, error) {
	own, err := parseLimits("limits", limits)
	if err != nil {
		return nil, err
	}
	p, err := zael.NewPolicy(resource, own...)
	if err != nil || len(parents) == 0 {
		return p, err
	}
	others, err := parseLimits("parent_limits", parents)
	if err != nil {
		return nil, err
	}
	return p.WithParentLimits(others...)
}

func parseLimits(field string, texts []string) ([]zael.Limit, error) {
	limits := make([]zael.Limit, len(texts))
	for i, text := range texts {
		var err error
		if limits[i], err = zael.ParseLimit(text); err != nil {
			return nil, &strictjson.Error{Field: index(field, i), Reason: reasonOf(err)}
		}
	}
	return limits, nil
}
