package browser_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/zeroae/zael"
)

// Whoever has no token, a wrong one, or one for something else does not get in; a token is in
// no address and leaves with the tab.
func TestSigningIn(t *testing.T) {
	t.Parallel()
	s := newSite(t, false, 0)
	s.ask(3, zael.Request{Entity: "key-1", Resource: "r", Limits: []zael.Limit{zael.PerDay("rpm", 2)}})
	b := s.open("/#/limits", 1000, 700)
	b.see("Sign in")
	b.do(chromedp.SendKeys("#token", "zael_wrong\n"))
	b.see("The server does not know this token.")
	if got := value[string](b, `JSON.stringify([...Object.values(sessionStorage), ...Object.values(localStorage), document.cookie])`); got != `[""]` {
		t.Errorf("after a wrong token: the browser keeps %s, want nothing", got)
	}
	b.do(chromedp.Clear("#token"), chromedp.SendKeys("#token", tokenOf("web")+"\n"))
	b.see("has the role acquire")
	b.do(chromedp.Clear("#token"), chromedp.SendKeys("#token", tokenOf("viewer")+"\n"))
	b.see("No limits are stored") // the page that was asked for
	if got := value[string](b, `location.href + document.cookie + JSON.stringify(localStorage)`); strings.Contains(got, "zael_") {
		t.Errorf("signed in: got %s, want the token in no address, cookie or lasting store", got)
	}
	b.do(chromedp.Reload()) // the same tab
	b.see("No limits are stored")
	b.script(`location.hash = "#/entity/key-1"`)
	b.see("rpm=2/d")
	if got := value[string](b, `[...document.querySelectorAll("button")].map((x) => x.textContent).join()`); strings.Contains(got, "…") {
		t.Errorf("with the role read: got the buttons %q, want none that changes something", got)
	}
	b.button("Sign out")
	b.see("Sign in")
	b.do(chromedp.Reload())
	b.see("Sign in")
}

// A token with a prefix sees its own entities, and no resource as a whole.
func TestPrefix(t *testing.T) {
	t.Parallel()
	s := newSite(t, false, 0)
	limits := []zael.Limit{zael.PerDay("rpm", 2)}
	for _, entity := range []string{"team-a/1", "team-b/1"} {
		s.ask(3, zael.Request{Entity: entity, Resource: "r", Limits: limits})
		_, err := s.limiter.CreateEntity(t.Context(), zael.Entity{ID: entity})
		s.ok(err)
	}
	b := s.open("/", 1000, 700)
	b.signIn("team-a")
	b.see("team-a/1", "0 of 2 left")
	b.gone("Requests a minute")
	b.script(`location.hash = "#/entities"`)
	b.see("Created", "team-a/1")
	if text := value[string](b, `document.body.innerText`); strings.Contains(text, "team-b") || strings.Contains(text, "Resources") {
		t.Errorf("with a prefix: got %q, want its own entities alone", text)
	}
	b.script(`location.hash = "#/resource/r"`) // which it may not see
	b.see("Near or at a limit")
	b.script(`location.hash = "#/entity/team-b%2F1"`)
	b.see("may not read team-b/1")
}

// Without a token on this machine the page is there at once; what is asked of the server is
// seen without a reload; an empty page says what to do.
func TestLive(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, 0)
	b := s.open("/", 1000, 700)
	b.see("Nothing was asked of this replica yet", "curl -s "+s.url+"/v1/acquire")
	body := `{"entity":"key-1","resource":"gpt-4","limits":["rpm=3/d"]}`
	for i := range 5 {
		resp, err := http.Post(s.url+"/v1/acquire", "application/json", strings.NewReader(body))
		s.ok(err)
		s.ok(resp.Body.Close())
		if want := map[bool]int{true: 200, false: 429}[i < 3]; resp.StatusCode != want {
			t.Errorf("request %d: got %d, want %d", i, resp.StatusCode, want)
		}
	}
	b.see("key-1", "0 of 3 left", "rpm=3/d", "Refused by limit")
	b.until(`document.querySelector(".tile.admitted .value").textContent === "3" && document.querySelector(".tile.refused .value").textContent === "2"`)
	s.ask(2, zael.Request{Entity: "key-2", Resource: "gpt-4", Limits: []zael.Limit{zael.PerDay("rpm", 2)}})
	b.see("key-2")

	// What has the focus keeps it when the page is told news.
	b.script(`[...document.querySelectorAll(".near-table a")].find((a) => a.textContent === "key-1").focus()`)
	s.ask(1, zael.Request{Entity: "key-3", Resource: "gpt-4", Limits: []zael.Limit{zael.PerDay("rpm", 1)}})
	b.see("key-3")
	s.ask(9, zael.Request{Entity: "key-2", Resource: "gpt-4", Limits: []zael.Limit{zael.PerDay("rpm", 2)}}) // now it is the first
	b.until(`document.querySelector(".near-table tbody a").textContent === "key-2"`)
	if got := value[string](b, `document.activeElement.textContent`); got != "key-1" {
		t.Errorf("after news: got the focus on %q, want key-1", got)
	}

	// While the page is hidden it asks nothing.
	b.script(`Object.defineProperty(document, "visibilityState", {value: "hidden", configurable: true});
		document.dispatchEvent(new Event("visibilitychange"));
		window.asked = 0;
		const before = window.fetch;
		window.fetch = (...all) => { window.asked++; return before(...all); };`)
	b.until(`new Promise((done) => setTimeout(() => done(true), 2500))`)
	if got := value[int](b, `window.asked`); got > 1 { // one may have been about to begin
		t.Errorf("hidden for longer than it waits between two calls: got %d calls, want none", got)
	}
	b.script(`Object.defineProperty(document, "visibilityState", {value: "visible", configurable: true});
		document.dispatchEvent(new Event("visibilitychange"));`)
	b.until(`window.asked > 1`)
}

// An administrator sets limits, tops up, resets, disables and deletes; mistakes are named.
func TestEdits(t *testing.T) {
	t.Parallel()
	s := newSite(t, false, 0)
	ctx := t.Context()
	b := s.open("/#/limits", 1100, 800)
	b.signIn("ops")
	b.see("No limits are stored")
	b.button("Set limits …")
	b.do(chromedp.SendKeys("#edit-resource", "gpt-4"), chromedp.SendKeys("#edit-limits", "rpm=100/fortnight"))
	b.button("Set limits")
	b.see("limits[0]") // the field of the mistake; the dialog stays
	b.do(chromedp.SetValue("#edit-limits", "rpm=100/d\nrpd=1000 each day\nparallel=5 at once"))
	b.button("Set limits")
	b.see("rpd=1000 each day")
	limits, err := s.limiter.Limits(ctx, zael.Scope{Resource: "gpt-4"})
	if err != nil || len(limits) != 3 {
		t.Fatalf("stored: got %v (%v), want three limits", limits, err)
	}
	lease, err := s.limiter.Acquire(ctx, zael.Request{Entity: "key 1/ü", Resource: "gpt-4", UseStoredLimits: true, Consume: zael.Amounts{"rpm": 60, "rpd": 900, "parallel": 2}})
	s.ok(err)
	b.script(`location.hash = "#/entity/key%201%2F%C3%BC"`)
	b.see("40 of 100 left", "100 of 1,000 left", "2 of 5 held", "stored for everybody on gpt-4", "resets in", "Was not created")

	b.button("Top up …")
	b.until(`document.getElementById("edit-limit")?.options.length === 2`) // no slots
	b.do(chromedp.SetValue("#edit-limit", "rpd"), chromedp.SendKeys("#edit-amount", "50"))
	b.button("Top up")
	b.see("150 of 1,000 left", "topped up a bucket")
	b.button("Reset …")
	b.button("Reset")
	b.see("1,000 of 1,000 left", "reset a bucket")
	s.ok(lease.Commit(ctx))

	b.button("Disable or enable …")
	b.until(`document.querySelector("dialog input[value=inherit]")?.checked`)
	b.script(`document.querySelector("dialog input[value=disabled]").click()`)
	b.button("Set the switch")
	b.see("Disabled: all requests are refused")
	if err := s.limiter.Allow(ctx, zael.Request{Entity: "key 1/ü", Resource: "gpt-4", UseStoredLimits: true}); err == nil || !strings.Contains(err.Error(), "disabled") {
		t.Errorf("disabled: got %v, want it refused", err)
	}

	b.button("Set limits …")
	b.do(chromedp.SendKeys("#edit-resource", "gpt-4"), chromedp.SendKeys("#edit-limits", "free=unlimited"))
	b.button("Set limits")
	b.see("Yes, nothing else shall hold there") // which has to be said
	b.do(chromedp.SetValue("#edit-limits", "rpm=7/min"))
	b.button("Set limits")
	b.see("do not bind any more", "rpd=1000 each day of everybody on gpt-4")
	b.button("Close")
	b.see("on gpt-4", "rpm=7/min")
	b.button("Delete …")
	b.see("Delete the limits of key 1/ü on gpt-4?")
	b.button("Delete")
	b.see("None: those of the resource hold", "deleted limits")
	events, err := s.limiter.Audit(ctx, zael.AuditQuery{Entity: "key 1/ü"})
	if err != nil || len(events) != 5 || events[0].Principal != "ops" {
		t.Errorf("audit: got %d events (%v), want 5 by the token's name", len(events), err)
	}

	b.script(`location.hash = "#/entities"`)
	b.see("No entity was created")
	b.button("Create …")
	b.do(chromedp.SetValue("#edit-id", "child"), chromedp.SendKeys("#edit-parent", "key 1/ü"))
	b.button("Create")
	b.see("Parent key 1/ü")
	b.script(`location.hash = "#/entity/key%201%2F%C3%BC"`)
	b.see("Children")
}

// Names are text, whatever they look like.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, 0)
	name := `<img src=x onerror="window.hacked=1">'"&amp;` + strings.Repeat("W", 200)
	limits := []zael.Limit{zael.PerDay("rpm", 1)}
	s.ok(s.limiter.SetLimits(t.Context(), zael.Scope{Entity: name, Resource: name}, limits))
	_, err := s.limiter.CreateEntity(t.Context(), zael.Entity{ID: name, Name: name, Metadata: map[string]string{name: name}})
	s.ok(err)
	s.ask(3, zael.Request{Entity: name, Resource: name, UseStoredLimits: true})
	s.ask(1, zael.Request{Entity: "..", Resource: "..", Limits: limits})
	b := s.open("/", 390, 800)
	b.see(name)
	for _, view := range []string{"entities", "limits", "resources", "audit", "usage?resource=" + escape(name), "entity/" + escape(name), "resource/" + escape(name)} {
		b.script(fmt.Sprintf(`location.hash = "#/%s"`, view))
		b.until(`document.querySelector("main h1") !== null`)
		b.until(fmt.Sprintf(`document.body.innerText.includes(%q) || [...document.querySelectorAll("input")].some((i) => i.value === %q)`, name, name))
		if over := value[float64](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
			t.Errorf("%s: is %v pixels wider than the screen", view, over)
		}
	}
	b.script(`location.hash = "#/entity/.."`)
	b.see("A browser cannot send the name")
	b.script(`location.hash = "#/entity/%"`) // no name at all
	b.until(`document.querySelector("main h1") !== null`)
	if got := value[bool](b, `window.hacked === undefined && document.querySelector("main img") === null`); !got {
		t.Error("a name became an element")
	}
}

func escape(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

// The page's policy holds: what tries to run text or to reach others is stopped, and said.
func TestPolicy(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, 0)
	b := s.open("/", 1000, 700)
	b.see("Nothing was asked")
	for _, attempt := range []string{
		`document.body.innerHTML = "<b>x</b>"`,
		`document.body.append(Object.assign(document.createElement("script"), {textContent: "window.hacked = 1"}))`,
		`document.body.setAttribute("onclick", "window.hacked = 1"); document.body.click()`,
		`document.body.append(Object.assign(document.createElement("img"), {src: "http://127.0.0.1:1/x"}))`,
		`fetch("http://127.0.0.1:1/").catch(() => {})`,
	} {
		b.script(`try { ` + attempt + ` } catch {}`)
	}
	b.until(`window.hacked === undefined`)
	var all string
	for deadline := time.Now().Add(patience); strings.Count(all, "\n") < 4 && time.Now().Before(deadline); {
		b.until(`true`)
		all += b.takeProblems() + "\n"
		all = strings.TrimLeft(strings.ReplaceAll(all, "\n\n", "\n"), "\n")
	}
	for _, want := range []string{"TrustedHTML", "script", "img-src", "connect-src"} {
		if !strings.Contains(all, want) {
			t.Errorf("violations: got %s, want %s among them", all, want)
		}
	}
}

// All can be done with the keyboard: skip to the content, go through the views, choose a minute
// of a chart, edit, and leave a dialog.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, 10*time.Minute)
	for range 10 {
		s.ask(2, zael.Request{Entity: "key-1", Resource: "gpt-4", Limits: []zael.Limit{zael.PerMinute("rpm", 1)}})
		s.forward(time.Minute)
	}
	s.ask(2, zael.Request{Entity: "key-1", Resource: "other", Limits: []zael.Limit{zael.PerDay("rpd", 1)}})
	b := s.open("/", 1000, 700)
	b.see("Requests by the minute")
	focused := func() string {
		return value[string](b, `(document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent).slice(0, 40)`)
	}
	tab := func(until string) {
		t.Helper()
		var seen []string
		for range 40 {
			b.do(chromedp.KeyEvent(kb.Tab))
			if seen = append(seen, focused()); strings.HasPrefix(seen[len(seen)-1], until) {
				return
			}
		}
		t.Fatalf("by Tab: got to %q, want %q", seen, until)
	}
	tab("Skip to the content")
	tab("Now")
	tab("Requests by the minute in the last hour")
	b.do(chromedp.KeyEvent(kb.End))
	b.until(`/^\d\d:\d\d$/.test(document.querySelector(".legend .when").textContent)`)
	legend := ""
	for range 40 { // a slow machine may be minutes ahead of the last requests
		b.do(chromedp.KeyEvent(kb.ArrowLeft))
		if legend = value[string](b, `document.querySelector(".legend").innerText`); strings.Contains(legend, "admitted 1") && strings.Contains(legend, "refused 1") {
			break
		}
	}
	if !strings.Contains(legend, "admitted 1") || !strings.Contains(legend, "refused 1") {
		t.Errorf("the minutes before: got %q, want 1 admitted and 1 refused", legend)
	}
	b.do(chromedp.KeyEvent(kb.Escape))
	b.until(`document.querySelector(".legend .when").textContent === "last hour"`)
	tab("key-1")
	b.do(chromedp.KeyEvent(kb.Enter))
	b.see("Limits stored for this entity")
	tab("Set limits …")
	b.do(chromedp.KeyEvent(kb.Enter))
	b.see("Limits, one a line")
	b.do(chromedp.KeyEvent(kb.Escape))
	b.gone("Limits, one a line")
	if got := focused(); got != "Set limits …" {
		t.Errorf("after the dialog: got the focus on %q, want the button that opened it", got)
	}
}

// When the server goes away the page says so, and goes on when it is back.
func TestServerAway(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, 0)
	b := s.open("/", 1000, 700)
	b.see("Nothing was asked", "This replica since")
	b.script(`window.real = window.fetch; window.fetch = () => Promise.reject(new TypeError("away"));`)
	b.see("No answer, trying again")
	b.script(`window.fetch = window.real`)
	s.ask(1, zael.Request{Entity: "key-9", Resource: "r", Limits: []zael.Limit{zael.PerDay("rpm", 1)}})
	b.see("key-9", "This replica since")
}
