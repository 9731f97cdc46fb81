package browser_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/zeroae/zael"
)

// hour makes an hour of traffic: callers with different habits, on three models and one endpoint.
func (s *site) hour() {
	s.Helper()
	ctx := s.Context()
	random := rand.New(rand.NewPCG(1, 2))
	set := func(scope zael.Scope, limits ...zael.Limit) { s.ok(s.limiter.SetLimits(ctx, scope, limits)) }
	set(zael.Scope{}, zael.PerMinute("rpm", 60))
	set(zael.Scope{Resource: "gpt-4"}, zael.PerMinute("rpm", 40), zael.PerMinute("tpm", 40_000).WithBurst(60_000), zael.EachDay("rpd", 1500))
	set(zael.Scope{Resource: "claude-sonnet"}, zael.PerMinute("rpm", 50), zael.EachMonth("usd", 50_000_000))
	set(zael.Scope{Entity: "team-a/batch", Resource: "gpt-4"}, zael.PerMinute("rpm", 12), zael.PerMinute("tpm", 20_000), zael.AtOnce("parallel", 4))
	for _, e := range []zael.Entity{
		{ID: "team-a", Name: "Team A"},
		{ID: "team-b", Name: "Team B"},
		{ID: "team-a/batch", ParentID: "team-a", Cascade: true, Metadata: map[string]string{"plan": "gold", "owner": "ann"}},
		{ID: "team-a/web", ParentID: "team-a"},
		{ID: "team-b/chat", ParentID: "team-b"},
	} {
		_, err := s.limiter.CreateEntity(ctx, e)
		s.ok(err)
	}
	set(zael.Scope{Entity: "team-a", Resource: "gpt-4"}, zael.PerMinute("rpm", 30), zael.PerMinute("tpm", 200_000))
	stored := func(entity, resource string, amounts zael.Amounts) zael.Request {
		return zael.Request{Entity: entity, Resource: resource, UseStoredLimits: true, Consume: amounts}
	}
	for minute := range 60 {
		rise := 1 + minute/20
		s.ask(6+random.IntN(6)+4*rise, stored("team-a/batch", "gpt-4", zael.Amounts{"tpm": 200 + random.Int64N(900)}))
		s.ask(4+random.IntN(8), stored("team-a/web", "gpt-4", zael.Amounts{"tpm": 100 + random.Int64N(400)}))
		s.ask(5+random.IntN(20)*rise/2, stored("team-b/chat", "claude-sonnet", zael.Amounts{"usd": 1000 + random.Int64N(40_000)}))
		s.ask(random.IntN(5), stored("key-7f3a", "gpt-4", zael.Amounts{"tpm": 1500}))
		s.ask(2+random.IntN(9), zael.Request{Entity: "203.0.113.9", Resource: "POST /login", Limits: []zael.Limit{zael.PerMinute("tries", 5)}})
		if minute == 40 {
			s.ask(60, stored("team-b/chat", "claude-sonnet", zael.Amounts{"usd": 9000}))
		}
		s.forward(time.Minute)
	}
	s.mu.Lock()
	s.behind = 0
	s.mu.Unlock()
	lease, err := s.limiter.Acquire(ctx, stored("team-a/batch", "gpt-4", zael.Amounts{"tpm": 500, "parallel": 3}))
	if err == nil {
		s.Cleanup(func() { _ = lease.Commit(ctx) })
	}
	s.ask(9, zael.Request{Entity: "203.0.113.9", Resource: "POST /login", Limits: []zael.Limit{zael.PerMinute("tries", 5)}})
	s.ask(50, stored("key-7f3a", "gpt-4", zael.Amounts{"tpm": 1500}))
	s.ok(s.limiter.SetSwitch(ctx, zael.Scope{Entity: "team-b"}, zael.Disabled, zael.AdminOptions{}))
}

// Screenshots of all pages go to the folder that ZAEL_SCREENSHOTS names, if it is set. Each page
// has to fit the width of the screen all the same.
func TestScreens(t *testing.T) {
	t.Parallel()
	folder := os.Getenv("ZAEL_SCREENSHOTS")
	s := newSite(t, false, time.Hour)
	s.hour()
	for _, screen := range []struct {
		name          string
		width, height int64
		dark          bool
	}{{"wide", 1280, 860, false}, {"dark", 1280, 860, true}, {"phone", 390, 844, false}, {"phone-dark", 390, 844, true}} {
		if screen.name != "phone" && folder == "" {
			continue // on others there is more room
		}
		b := s.open("/", screen.width, screen.height)
		scheme := "light"
		if screen.dark {
			scheme = "dark"
		}
		_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		s.ok(err)
		b.see("Sign in")
		b.shoot(folder, screen.name, "login")
		b.signIn("ops")
		for _, page := range []struct{ name, hash, see string }{
			{"now", "#/", "Near or at a limit"},
			{"entities", "#/entities", "team-a/batch"},
			{"entity", "#/entity/team-a%2Fbatch", "held"},
			{"resources", "#/resources", "claude-sonnet"},
			{"resource", "#/resource/gpt-4", "Entities by use"},
			{"limits", "#/limits", "60000"},
			{"usage", "#/usage?resource=gpt-4", "acquires:"},
			{"audit", "#/audit", "disabled"},
			{"nobody", "#/entity/nobody", "Ask for something"},
		} {
			b.script(fmt.Sprintf("location.hash = %q", page.hash))
			b.see(page.see)
			b.until(`document.querySelector(".dot.live") !== null`)
			if over := value[float64](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
				t.Errorf("%s on %s: is %v pixels wider than the screen", page.name, screen.name, over)
			}
			if page.name == "resource" {
				b.until(`document.getElementById("capacity-limit").value !== ""`)
				b.button("Read")
				b.see("are available to")
			}
			b.shoot(folder, screen.name, page.name)
		}
		b.script(`location.hash = "#/entity/team-a%2Fbatch"`)
		b.see("held")
		b.button("Set limits …")
		b.see("Limits, one a line")
		b.shoot(folder, screen.name, "edit")
	}
}

func (b *tab) shoot(folder, screen, page string) {
	b.Helper()
	if folder == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	b.ok(err)
	b.ok(os.WriteFile(filepath.Join(folder, screen+"-"+page+".png"), png, 0o600))
}
