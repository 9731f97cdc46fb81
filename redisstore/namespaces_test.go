package redisstore_test

import (
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/redistest"
	"github.com/zeroae/zael/redisstore"
	"github.com/zeroae/zael/storetest"
)

func TestNamespaces(t *testing.T) {
	t.Parallel()
	client := newClient(t, engines.Address(t, redistest.Valkey))
	storetest.RunNamespaces(t, func(t *testing.T, namespace string) zael.Store {
		t.Helper()
		s, err := redisstore.New(client, &redisstore.Config{Namespace: namespace, CallTimeout: time.Minute})
		return opened(t, s, err)
	})
}
