//go:build !unix

package sqlitestore

// What stands in the way of a file is not looked for here.

func writable(string) error { return nil }

func ownerOf(string) string { return "" }

func currentUser() string { return "this user" }
