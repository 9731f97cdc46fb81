package sqlitestore

import (
	"context"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/sqladmin"
	"github.com/zeroae/zael/internal/storedlimits"
)

// ListResources implements zael.ListStore. It looks for each resource of the buckets in the
// index, so that the number of buckets does not matter.
func (s *Store) ListResources(ctx context.Context, l zael.ListQuery) ([]string, error) {
	if err := storable.List(l); err != nil {
		return nil, err
	}
	q := new(sqladmin.Query).Add("WITH RECURSIVE used(name) AS (SELECT min(resource) FROM buckets WHERE true").Named("resource", l.Prefix, l.After)
	q.Add(" UNION ALL SELECT (SELECT min(resource) FROM buckets WHERE resource > name").Named("resource", l.Prefix, "")
	q.Add(`) FROM used WHERE name IS NOT NULL LIMIT ?)
		SELECT name FROM used WHERE name IS NOT NULL
		UNION SELECT resource FROM limits WHERE entity = '' AND resource <> '' AND limits <> ?`, l.Max+1, storedlimits.None).Named("resource", l.Prefix, l.After)
	return sqladmin.Collect(ctx, database{s}, "listing resources", q.Add(" ORDER BY 1 LIMIT ?", l.Max), sqladmin.Text)
}
