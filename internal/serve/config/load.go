package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/yamlfile"
)

// MaxBytes bounds the size of a file.
const MaxBytes = 1 << 20

// A Source is where a configuration comes from: a file, if there is one, and a command line
// that prevails over it.
type Source struct {
	File          string // its path; empty: there is none
	Listen, Store string // instead of the file's, unless empty
	Insecure      bool   // without tokens, addresses of other machines are allowed

	RLSListen, RLSFolder string // of the rate limit service, instead of the file's, unless empty
	LookupEnv            func(name string) (value string, ok bool)
}

// An Error is about a configuration that cannot be used. It names every mistake in a line of
// its own: FILE:LINE: REASON.
type Error struct{ cause error }

// Error implements error.
func (e *Error) Error() string { return e.cause.Error() }

// Unwrap returns the mistakes.
func (e *Error) Unwrap() error { return e.cause }

// NewError returns an *Error about a configuration, or nil if err is nil.
func NewError(err error) error {
	if err == nil {
		return nil
	}
	return &Error{err}
}

// Load reads and checks the configuration. Its error is an *Error.
func (s *Source) Load() (*Config, error) {
	c, err := s.load()
	if err != nil {
		return nil, &Error{err}
	}
	return c, nil
}

func (s *Source) load() (*Config, error) {
	c, lines := Default(), map[string]int{}
	if s.File != "" {
		text, err := readFile(s.File)
		if err != nil {
			return nil, err
		}
		if c, lines, err = parse(text, s.LookupEnv); err != nil {
			return nil, yamlfile.Named(s.File, "\n", err)
		}
	}
	if s.Listen != "" {
		if err := checkAddress(s.Listen); err != nil {
			return nil, fmt.Errorf("--listen %q %w", s.Listen, err)
		}
		delete(lines, "listen")
	}
	c.Listen, c.Store, c.Insecure = cmp.Or(s.Listen, c.Listen), cmp.Or(s.Store, c.Store), s.Insecure
	if err := s.setRLS(c, lines); err != nil {
		return nil, err
	}
	if err := errors.Join(s.checkExposure(c, lines), s.checkTLS(c, lines), s.checkRLS(c, lines)); err != nil {
		return nil, err
	}
	return c, nil
}

// readFile reads a file of at most MaxBytes.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > MaxBytes:
		return nil, fmt.Errorf("%s: is larger than 1 MiB", path)
	}
	return text, nil
}

// Parse reads and checks the text of a file. Its errors are of type *yamlfile.Error, joined if
// there are several.
func Parse(text []byte, lookupEnv func(string) (string, bool)) (*Config, error) {
	c, _, err := parse(text, lookupEnv)
	return c, err
}

func parse(text []byte, lookupEnv func(string) (string, bool)) (*Config, map[string]int, error) {
	document, err := yamlfile.Document(bytes.NewReader(text), "version: 1 is enough")
	if err != nil {
		return nil, nil, err
	}
	p := &parser{config: Default(), lookupEnv: lookupEnv, lines: map[string]int{}, limits: map[string][]zael.Limit{}}
	if err := noAliases(document); err != nil {
		return nil, nil, err
	}
	if err := errors.Join(p.document(document), p.checkRoutes()); err != nil {
		return nil, nil, err
	}
	return p.config, p.lines, nil
}

// checkTLS returns an error unless the files of the certificate can be used.
func (s *Source) checkTLS(c *Config, lines map[string]int) error {
	if c.TLS == nil {
		return nil
	}
	if _, err := c.TLS.Load(); err != nil {
		return yamlfile.Named(s.File, "\n", yamlfile.Errorf(lines["tls"], "tls: %w", err))
	}
	return nil
}

// checkExposure returns an error if other machines could call without a token, unless the command
// line allows it.
func (s *Source) checkExposure(c *Config, lines map[string]int) error {
	if c.Insecure || len(c.Tokens) > 0 {
		return nil
	}
	var errs []error
	for _, a := range []struct{ key, address string }{{"listen", c.Listen}, {"metrics_listen", c.MetricsListen}} {
		if a.address == "" || Loopback(a.address) {
			continue
		}
		const reason = "would let other machines in without a token: add tokens ('zael token new'), listen on 127.0.0.1, or say --insecure"
		if line, ok := lines[a.key]; ok {
			errs = append(errs, yamlfile.Named(s.File, "\n", yamlfile.Errorf(line, "%s: %s %s", a.key, a.address, reason)))
		} else {
			errs = append(errs, fmt.Errorf("--listen %s %s", a.address, reason))
		}
	}
	return errors.Join(errs...)
}
