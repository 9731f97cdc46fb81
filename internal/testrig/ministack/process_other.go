//go:build !unix || aix || solaris

package ministack

import "errors"

// supported is false: nothing below is reached.
const supported = false

func (s *Server) start(string, int, string) error { return errors.ErrUnsupported }

func (s *Server) end() {}
