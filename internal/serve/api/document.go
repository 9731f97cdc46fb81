package api

import (
	_ "embed"
	"net/http"
)

//go:embed openapi.json
var openAPI []byte

// document serves GET /v1/openapi.json.
func (c *call) document() error {
	h := c.w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	c.w.WriteHeader(http.StatusOK)
	_, _ = c.w.Write(openAPI)
	return nil
}
