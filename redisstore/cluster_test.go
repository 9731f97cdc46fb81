package redisstore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/redistest"
	"github.com/zeroae/zael/redisstore"
	"github.com/zeroae/zael/storetest"
)

// The suite on a cluster of three: what is of several entities is there in several steps.
func TestCluster(t *testing.T) {
	t.Parallel()
	var hosts []string
	for _, s := range redistest.StartCluster(t, redistest.Valkey, 3) {
		hosts = append(hosts, s.Address())
	}
	url := "redis+cluster://" + strings.Join(hosts, ",")
	storetest.Run(t, func(t *testing.T) zael.Store {
		t.Helper()
		s, err := redisstore.Open(fmt.Sprintf("%s?virtual_time=true&usage=true&namespace=%s", url, newNamespace()))
		return opened(t, s, err)
	}, storetest.LocalStore, storetest.Kinds, storetest.EntityStore, storetest.LimitStore, storetest.AdminStore,
		storetest.Applier, storetest.CapacityReader, storetest.ListStore, storetest.UsageStore, storetest.AuditStore)

	s, err := redisstore.Open(url)
	opened(t, s, err)
	if _, _, err := s.TakeOnce(t.Context(), time.Now(), 0, nil, zael.OnceTake{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("TakeOnce in a cluster: got %v, want errors.ErrUnsupported", err)
	}
}
