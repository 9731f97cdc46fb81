package redisstore

// What the tests look at of the inside.

// OwnNamespace returns the name of the store's namespace.
func (s *Store) OwnNamespace() string { return s.config.Namespace }
