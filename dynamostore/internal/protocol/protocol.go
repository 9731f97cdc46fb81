// Package protocol has the writes that keep buckets in DynamoDB, without clock, network
// and client. docs/dynamodb.md describes them.
//
// A [BucketWrite] is one operation on one bucket, over as many calls as it takes:
//
//	w := &protocol.BucketWrite{Batch: batch, ID: id, Index: index}
//	w.Begin(observation) // what was last seen of the bucket
//	for {
//		switch plan := w.Plan(); plan.Action {
//		case protocol.Send:   // plan.Update; then call w.Answered, or w.Lost if there is no answer
//		case protocol.Read:   // the item; then call w.Learn
//		case protocol.Finish: // with plan.Outcome
//		}
//	}
//
// Plan drafts a write of the whole bucket (draft.go), limit by limit:
//
//   - A guess (guess.go) starts from the state last seen of the limit, and follows it
//     through the charges on it. What a charge does to a mark is linear in pieces
//     (piece.go); the guess chooses the piece: a row of the table in docs/dynamodb.md
//     (rows.go).
//   - What comes out is a limitUpdate (limitupdate.go): the condition under which the guess
//     is right, and the update of the limit.
//   - An expressionBuilder (expression.go) writes the conditions and updates of all limits
//     down as one Update: all are applied, or none.
//
// The guess decides nothing. If it is wrong the engine applies nothing, and answers with
// the item, a [Record], from which the next Plan is made. An [Observation] makes guesses
// better by what others are seen to take.
//
// # Kinds of limits
//
// What depends on the kind of a limit is: its rows, which are one small function each
// (rows.go, periodrows.go); the methods of guess that choose them (guess.go,
// periodguess.go); room.go, how far they reach; the methods condition, update and full of
// limitUpdate; and the reading of its attributes and the text of its definition. A rate has a
// mark, and quotas and sessions have a pair of numbers: where they are counted from, which
// is in the fields called mark, and what is used since. All the rest is the same for all kinds.
package protocol

// Bounds of a write.
const (
	// MaxLimits is how many limits a write may name: an expression of the engine has at
	// most 300 operators and 4096 bytes.
	MaxLimits = 40

	// MaxKindLimits is how many it may name if one of them is no plain rate: a change of
	// calendar has twice as many operators.
	MaxKindLimits = 26

	// MaxCalls is how many calls a BucketWrite makes before it is contended.
	MaxCalls = 8
)
