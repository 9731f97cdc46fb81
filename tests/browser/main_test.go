package browser_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve"
	"github.com/zeroae/zael/internal/serve/access"
	"github.com/zeroae/zael/internal/serve/api"
	"github.com/zeroae/zael/internal/serve/config"
	"github.com/zeroae/zael/internal/serve/dashboard"
	"github.com/zeroae/zael/internal/serve/live"
	"github.com/zeroae/zael/internal/testrig/needs"
	"github.com/zeroae/zael/memstore"
)

// patience ends a step that hangs, and nothing else: the machine may be slow.
const patience = 2 * time.Minute

// chromium is the browser of all tests, started once.
var chromium struct {
	once  sync.Once
	ctx   context.Context
	close func()
	err   error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if chromium.close != nil {
		chromium.close()
	}
	os.Exit(code)
}

func startChromium() {
	fetch := exec.Command("../../tools/chromium/fetch")
	fetch.Stderr = os.Stderr
	program, err := fetch.Output()
	if err != nil {
		chromium.err = fmt.Errorf("the dashboard is tested in Chromium, Debian's package chromium: tools/chromium/fetch: %w", err)
		return
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(strings.TrimSpace(string(program))), chromedp.NoSandbox, chromedp.Flag("lang", "en-US"), chromedp.Env("TZ=UTC", "LANG=en_US.UTF-8"),
		chromedp.Flag("font-render-hinting", "none"),
		chromedp.WSURLReadTimeout(patience),
	)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	chromium.ctx, chromium.err = ctx, chromedp.Do(ctx) //nolint:fatcontext // it is the browser's, for all tests
	chromium.close = func() { cancel(); stop() }
}

// A site is the dashboard over a limiter whose clock can be behind that of the machine.
type site struct {
	*testing.T

	limiter *zael.Limiter
	url     string

	mu     sync.Mutex
	behind time.Duration
}

// The tokens of a site.
var tokens = map[string]access.Principal{
	"ops":    {Name: "ops", Role: access.Admin},
	"viewer": {Name: "viewer", Role: access.Read},
	"team-a": {Name: "team-a", Role: access.Read, Prefix: "team-a/"},
	"web":    {Name: "web", Role: access.Acquire},
}

// tokenOf returns the text of a token of a site.
func tokenOf(name string) string { return "zael_" + strings.Repeat(name[:1], 43) }

func (s *site) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(-s.behind)
}

// forward brings the clock nearer to that of the machine.
func (s *site) forward(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behind = max(0, s.behind-d)
}

// newSite serves a dashboard. With open it needs no token.
func newSite(t *testing.T, open bool, behind time.Duration) *site {
	t.Helper()
	needs.Engine(t)
	s := &site{T: t, behind: behind}
	store := memstore.New(&memstore.Config{Usage: true})
	recorder := live.New(s.clock)
	var err error
	s.limiter, err = zael.New(store, &zael.Config{Clock: s.clock, Observer: recorder, Principal: "deploy"})
	s.ok(err)
	settings := &config.Config{Max: config.Max{Body: 1 << 20, Wait: time.Minute}}
	log := slog.New(slog.NewTextHandler(&bytes.Buffer{}, nil))
	handler, err := api.New(&serve.Env{
		Limiter: s.limiter, Store: store, Live: recorder, Log: log, Config: func() *config.Config { return settings },
		Wait: func() (func(), bool) { return func() {}, true }, Draining: make(chan struct{}),
	})
	s.ok(err)
	rules := access.Rules{}
	if !open {
		for name, p := range tokens {
			rules.Tokens = append(rules.Tokens, access.Token{Principal: p, Hash: access.HashOf(tokenOf(name))})
		}
	}
	guard, err := access.NewGuard(rules, log, func(string) {})
	s.ok(err)
	page, err := dashboard.New()
	s.ok(err)
	guarded, free := guard.Handler(handler), guard.Public(page)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if page.Covers(r.URL.Path) {
			free.ServeHTTP(w, r)
			return
		}
		guarded.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *site) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// ask asks n times for a request.
func (s *site) ask(n int, req zael.Request) {
	s.Helper()
	for range n {
		if err := s.limiter.Allow(s.Context(), req); err != nil && !errors.Is(err, zael.ErrExceeded) && !errors.Is(err, zael.ErrDisabled) {
			s.Fatal(err)
		}
	}
}

// A tab is a page of the browser that nobody else uses.
type tab struct {
	*site

	ctx context.Context

	mu       sync.Mutex
	problems []string // violations of the policy, exceptions and errors of the console
}

// open opens a page of the site in a new tab with a profile of its own.
func (s *site) open(path string, width, height int64) *tab {
	s.Helper()
	chromium.once.Do(startChromium)
	s.ok(chromium.err)
	tabContext, cancel := chromedp.NewContext(chromium.ctx, chromedp.WithNewBrowserContext())
	s.Cleanup(cancel)
	s.ok(chromedp.Do(tabContext)) // the browser ends with the context of the first call
	b := &tab{site: s, ctx: tabContext}
	s.ok(chromedp.Listen(tabContext, b.listen))
	_, err := chromedp.Call(tabContext, cdplog.Enable, cdp.Empty{})
	s.ok(err)
	b.do(chromedp.EmulateViewport(width, height), chromedp.Navigate(s.url+path))
	s.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, p := range b.problems {
			s.Errorf("the browser says: %s", p)
		}
	})
	return b
}

// listen notes what is wrong with the page. That a call was refused is none.
func (b *tab) listen(event any) {
	problem := ""
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		problem = e.ExceptionDetails.Text
		if thrown := e.ExceptionDetails.Exception; thrown != nil {
			problem += " " + thrown.Description
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			for _, a := range e.Args {
				problem += fmt.Sprint(a.Value) + a.Description + " "
			}
		}
	case *cdplog.EventEntryAdded:
		if e.Entry.Source != cdplog.EntrySourceNetwork && e.Entry.Level != cdplog.EntryLevelVerbose && e.Entry.Level != cdplog.EntryLevelInfo {
			problem = fmt.Sprintf("%s: %s", e.Entry.Source, e.Entry.Text)
		}
	}
	if problem != "" {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.problems = append(b.problems, problem)
	}
}

// takeProblems returns what was wrong until now, which is expected.
func (b *tab) takeProblems() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := strings.Join(b.problems, "\n")
	b.problems = nil
	return all
}

func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.broken(err)
	}
}

// broken ends the test, and says what the page shows.
func (b *tab) broken(err error) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), 5*time.Second)
	defer cancel()
	text, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText`))
	b.Fatalf("%v; the page says:\n%s\n%s", err, text, b.takeProblems())
}

// see waits until the page shows all texts.
func (b *tab) see(texts ...string) {
	b.Helper()
	for _, text := range texts {
		b.until(fmt.Sprintf(`document.body.innerText.includes(%q)`, text))
	}
}

// gone waits until the page does not show a text any more.
func (b *tab) gone(text string) {
	b.Helper()
	b.until(fmt.Sprintf(`!document.body.innerText.includes(%q)`, text))
}

// until waits until an expression is true. The page's policy forbids it to make functions of
// text, so the expression is a part of what is evaluated.
func (b *tab) until(expression string) {
	b.Helper()
	wait := `new Promise((done) => {
		const look = () => { if (` + expression + `) done(true); else setTimeout(look, 20); };
		look();
	})`
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](wait, chromedp.EvalAwaitPromise)); err != nil {
		b.broken(fmt.Errorf("%s: %w", expression, err))
	}
}

// value returns what an expression is.
func value[T any](b *tab, expression string) T {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.broken(fmt.Errorf("%s: %w", expression, err))
	}
	return v
}

// script runs statements in the page.
func (b *tab) script(statements string) {
	b.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](statements))
}

// button presses a button by its text, in the dialog if one is open.
func (b *tab) button(text string) {
	b.Helper()
	find := fmt.Sprintf(`[...(document.querySelector("dialog") ?? document).querySelectorAll("button")].find((x) => x.textContent.trim() === %q && x.offsetParent !== null)`, text)
	b.until("!!" + find)
	b.script(find + ".click()")
}

// signIn types a token.
func (b *tab) signIn(name string) {
	b.Helper()
	b.see("Sign in")
	b.do(chromedp.SendKeys("#token", tokenOf(name)+"\n"))
}
