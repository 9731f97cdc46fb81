// Package sdk has the tests of package llm with the SDKs of the providers. It is a module
// of its own, so that they bind no user of zael.
package sdk
