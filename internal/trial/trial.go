// Package trial has the settings of a store in DynamoDB that benchmarks, replays and tests
// need, and nobody else. The URL of a store has them as well.
package trial

// Options are such settings. With the zero Options a store is as users have it.
type Options struct {
	// VirtualTime, for replays, makes instants the caller's: they are neither corrected by
	// the server's clock nor turned into the time at which the table deletes a bucket.
	// Everything stays in the table.
	VirtualTime bool

	// Direct, for comparisons, makes each operation a write of its own: nothing is
	// coalesced, and no refusal is remembered.
	Direct bool

	// CountUnits asks the table what each call costs: see dynamostore.Stats.
	CountUnits bool
}
