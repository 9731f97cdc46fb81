package streamworker

import (
	"time"
)

// A Seen is a lease for choose.
type Seen struct {
	Shard, Parent, Owner string
	Age                  time.Duration // since the beat that was seen last
	Done, Gone           bool
}

// Choose is choose, of shards in a list.
func Choose(seen []Seen, me string, length time.Duration) []string {
	now := time.Now()
	sights := map[string]sight{}
	for _, s := range seen {
		sights[s.Shard] = sight{
			lease: lease{shard: s.Shard, parent: s.Parent, owner: s.Owner, done: s.Done}, since: now.Add(-s.Age), listed: !s.Gone,
		}
	}
	return choose(sights, me, now, length)
}

// ID is the worker's name in its leases.
func (w *Worker) ID() string { return w.id }
