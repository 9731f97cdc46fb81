// Package dashboard serves the page of the daemon: static files that hold no data. What the
// page shows it reads from the JSON API, with a token that is typed into it.
package dashboard

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
	"strings"

	"github.com/zeroae/zael/internal/serve/problem"
)

//go:embed static
var static embed.FS

const (
	folder = "static/"
	below  = "/dashboard/" // where files are served; the page itself is /
)

// policy has the page load nothing but its own files, and make elements by no text.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// A file is one that is served.
type file struct {
	mediaType string
	tag       string // changes when the text does
	text      []byte
}

// A Handler serves the page. Its methods may be called concurrently.
type Handler struct{ files map[string]file }

// New returns a Handler.
func New() (*Handler, error) {
	h := &Handler{files: map[string]file{}}
	entries, err := static.ReadDir(strings.TrimSuffix(folder, "/"))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		text, err := static.ReadFile(folder + e.Name())
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(text)
		f := file{mediaType: mediaTypes()[path.Ext(e.Name())], tag: `"` + hex.EncodeToString(sum[:12]) + `"`, text: text}
		if e.Name() == "index.html" {
			h.files["/"] = f
		} else {
			h.files[below+e.Name()] = f
		}
	}
	return h, nil
}

func mediaTypes() map[string]string {
	return map[string]string{
		".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
	}
}

// Covers reports whether a path is one of the page's.
func (h *Handler) Covers(p string) bool {
	_, ok := h.files[p]
	return ok
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := h.files[r.URL.Path]
	if !ok {
		problem.Write(w, problem.NotFound, "there is no such file")
		return
	}
	header := w.Header()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		problem.Write(w, problem.NoMethod, "the page takes GET and HEAD, not "+r.Method)
		return
	}
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Cache-Control", "no-cache") // asked again each time, and answered by the tag
	header.Set("Etag", f.tag)
	if r.Header.Get("If-None-Match") == f.tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	header.Set("Content-Type", f.mediaType)
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		_, _ = w.Write(f.text)
	}
}
