package dynamostore

import (
	"context"
	"fmt"
	"slices"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/storearg"
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
		most := protocol.MaxLimits
		if slices.ContainsFunc(charges, func(c zael.Charge) bool { return !c.Definition.Plain() }) {
			most = protocol.MaxKindLimits
		}
		if n := limitsOf(charges); n > most {
			return storearg.Invalid("charges", n, fmt.Sprintf("name more limits than the %d that one write to DynamoDB can", most))
		}
		for j := range charges {
			if err := storable.Name("limit", charges[j].Name); err != nil {
				return err
			}
			if err := storearg.Definition(&charges[j]); err != nil {
				return err
			}
			d := &charges[j].Definition
			if d.Kind == bucket.Slots && charges[j].Amount != 0 && debits[i].Holder == "" {
				return storearg.Invalid("limit "+charges[j].Name, d.Kind.String(), "is slots, and the debit names no Holder")
			}
		}
	}
	return nil
}

// limitsOf returns how many limits charges name, if that may be too many.
func limitsOf(charges []zael.Charge) int {
	if len(charges) <= protocol.MaxKindLimits {
		return len(charges)
	}
	names := map[string]bool{}
	for i := range charges {
		names[charges[i].Name] = true
	}
	return len(names)
}
