package postgresstore_test

import (
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/postgresstore"
	"github.com/zeroae/zael/storetest"
)

func TestNamespaces(t *testing.T) {
	t.Parallel()
	url := sharedURL(t)
	storetest.RunNamespaces(t, func(t *testing.T, namespace string) zael.Store {
		t.Helper()
		return open(t, url, &postgresstore.Config{Namespace: namespace, Pool: 2})
	})
}
