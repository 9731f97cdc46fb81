//go:build !unix

package sqlitestore

// Access is not checked on this system: the engine reports an error.

func writable(string) error { return nil }

func ownerOf(string) string { return "" }

func currentUser() string { return "this user" }
