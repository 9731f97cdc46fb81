package bucket

// A Limit is a Definition with the name of its limit in a bucket.
type Limit struct {
	Name       string
	Definition Definition
}
