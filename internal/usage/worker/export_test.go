package worker

import (
	"time"
)

// A LeaseState is a lease as Choose sees it.
type LeaseState struct {
	Shard, Parent, Owner string
	Age                  time.Duration // of the last heartbeat that was seen
	Done, Gone           bool
}

// Choose calls choose for a list of leases.
func Choose(states []LeaseState, me string, length time.Duration) []string {
	now := time.Now()
	observed := map[string]observedLease{}
	for _, s := range states {
		observed[s.Shard] = observedLease{
			lease: lease{shard: s.Shard, parent: s.Parent, owner: s.Owner, done: s.Done}, since: now.Add(-s.Age), listed: !s.Gone,
		}
	}
	return choose(observed, me, now, length)
}
