package api

import (
	"errors"
	"io"
	"net/http"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/strictjson"
)

// read reads the body of the request into b.
func (c *call) read(b *buffer) error {
	most := c.env.Config().Max.Body
	if c.r.ContentLength > most {
		return &http.MaxBytesError{Limit: most}
	}
	b.in = b.in[:0]
	for {
		if len(b.in) == cap(b.in) {
			b.in = append(b.in, 0)[:len(b.in)]
		}
		n, err := c.r.Body.Read(b.in[len(b.in):cap(b.in)])
		b.in = b.in[:len(b.in)+n]
		switch {
		case int64(len(b.in)) > most:
			return &http.MaxBytesError{Limit: most}
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return bodyError(err)
		}
	}
}

// bodyError returns the error of a body that cannot be read to its end.
func bodyError(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return err
	}
	return invalid("body", "cannot be read to its end")
}

// object reads the body of the request, an object, and nothing else. member reads the value
// of each member.
func (c *call) object(member func(r *strictjson.Reader, name string) error) error {
	b := c.buffer()
	defer c.recycle(b)
	if err := c.read(b); err != nil {
		return err
	}
	return readObject(b.in, member)
}

func readObject(body []byte, member func(r *strictjson.Reader, name string) error) error {
	r := strictjson.NewReader(body)
	err := r.Object(func(name []byte) error { return member(&r, string(name)) })
	if err == nil {
		err = r.End()
	}
	if e, ok := errors.AsType[*strictjson.Error](err); ok && e.Field == "" {
		e.Field = "body"
	}
	return err
}

// unknownMember returns the error of a member that a body does not have.
func unknownMember() error {
	return strictjson.Invalid("is not a known member: /v1/openapi.json lists those of each path")
}

// readInto reads a value by a method of the Reader.
func readInto[T any](to *T, read func() (T, error)) error {
	v, err := read()
	*to = v
	return err
}

// readAmounts reads an object of amounts.
func readAmounts(r *strictjson.Reader, to *zael.Amounts) error {
	amounts := zael.Amounts{}
	err := r.Object(func(name []byte) error {
		n, err := r.Int64()
		amounts[string(name)] = n
		return err
	})
	*to = amounts
	return err
}

// readStrings reads an array of strings.
func readStrings(r *strictjson.Reader, to *[]string) error {
	all := []string{}
	err := r.Array(func() error {
		s, err := r.String()
		all = append(all, s)
		return err
	})
	*to = all
	return err
}

// readLimits reads an array of limits as text, such as "rpm=100/min".
func readLimits(r *strictjson.Reader, to *[]zael.Limit) error {
	limits := []zael.Limit{}
	err := r.Array(func() error {
		s, err := r.String()
		if err != nil {
			return err
		}
		l, err := zael.ParseLimit(s)
		if err != nil {
			return strictjson.Invalid(reasonOf(err))
		}
		limits = append(limits, l)
		return nil
	})
	*to = limits
	return err
}

// reasonOf returns what is wrong with a value, without its name.
func reasonOf(err error) string {
	if v, ok := errors.AsType[*zael.ValidationError](err); ok {
		return v.Reason
	}
	return err.Error()
}

// failureModes are the failure modes by name; "inherit" is that of the next scope.
//
//nolint:gochecknoglobals // a constant table
var failureModes = map[string]zael.FailureMode{"closed": zael.FailClosed, "open": zael.FailOpen, "inherit": 0}

// readFailureMode reads the name of a failure mode.
func readFailureMode(r *strictjson.Reader, to *zael.FailureMode) error {
	s, err := r.String()
	if err != nil {
		return err
	}
	mode, ok := failureModes[s]
	if !ok {
		return strictjson.Invalid("is not closed, open or inherit")
	}
	*to = mode
	return nil
}
