package dynamostore

import (
	"context"
	"fmt"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
)

// check returns what is wrong with an operation whatever the buckets are.
func (s *Store) check(ctx context.Context, debits []zael.Debit) error {
	if ctx.Err() != nil {
		return s.translate(ctx, "not tried", ctx.Err())
	}
	for i := range debits {
		if err := checkKey(debits[i].Key); err != nil {
			return err
		}
		charges := debits[i].Charges
		if n := limitsOf(charges); n > protocol.MaxLimits {
			return invalid("charges", n, fmt.Sprintf("name more limits than the %d that one write to DynamoDB can", protocol.MaxLimits))
		}
		for j := range charges {
			if err := checkLimitName(charges[j].Name); err != nil {
				return err
			}
			if d := &charges[j].Definition; !d.Plain() {
				return invalid("limit "+charges[j].Name, d.Kind.String(), "is of a kind that this store does not have yet: use a rate without soft, block and unlimited")
			}
		}
	}
	return nil
}

// limitsOf returns how many limits charges name, if that may be too many.
func limitsOf(charges []zael.Charge) int {
	if len(charges) <= protocol.MaxLimits {
		return len(charges)
	}
	names := map[string]bool{}
	for i := range charges {
		names[charges[i].Name] = true
	}
	return len(names)
}
