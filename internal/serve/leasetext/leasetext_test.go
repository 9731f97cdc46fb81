package leasetext_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve/leasetext"
	"github.com/zeroae/zael/memstore"
)

func keys(tb testing.TB, secrets ...byte) *leasetext.Keys {
	tb.Helper()
	var all [][]byte
	for _, s := range secrets {
		all = append(all, bytes.Repeat([]byte{s}, leasetext.LeastKey))
	}
	k, err := leasetext.New(all...)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func lease(tb testing.TB) *zael.DetachedLease {
	tb.Helper()
	l, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		tb.Fatal(err)
	}
	p := zael.MustPolicy("gpt-4", zael.PerMinute("rpm", 100), zael.PerMinute("tpm", 40_000), zael.AtOnce("parallel", 20))
	d, err := l.AcquireDetached(tb.Context(), p.For("key-1", 1, 500, 1), zael.DetachOptions{Principal: "web"})
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func TestText(t *testing.T) {
	t.Parallel()
	d := lease(t)
	old, both, other := keys(t, 1), keys(t, 2, 1), keys(t, 2)
	text, err := old.Text(d)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("a lease on three limits has %d characters", len(text))
	for _, k := range []*leasetext.Keys{old, both} {
		if got, err := k.Parse(text); err != nil || got.ID() != d.ID() || got.Principal() != "web" {
			t.Errorf("got %+v (%v), want the lease", got, err)
		}
	}
	if _, err := other.Parse(text); !errors.Is(err, leasetext.ErrText) {
		t.Errorf("got %v, want ErrText without the key", err)
	}
	signed, err := both.Text(d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Parse(signed); err != nil {
		t.Errorf("got %v, want it signed with the first key", err)
	}
}

// TestChangedText: no other text than the one that was written is a lease.
func TestChangedText(t *testing.T) {
	t.Parallel()
	k := keys(t, 1)
	text, err := k.Text(lease(t))
	if err != nil {
		t.Fatal(err)
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for i := range text {
		for _, c := range []byte{alphabet[(strings.IndexByte(alphabet, text[i])+1)%64], '=', '\n', ' '} {
			if _, err := k.Parse(text[:i] + string(c) + text[i+1:]); !errors.Is(err, leasetext.ErrText) {
				t.Fatalf("character %d as %q: got %v, want ErrText", i, c, err)
			}
		}
		if _, err := k.Parse(text[:i]); !errors.Is(err, leasetext.ErrText) {
			t.Fatalf("the first %d characters: got %v, want ErrText", i, err)
		}
	}
	for _, other := range []string{text + "\n", text + "A", "\n" + text, text[:20] + "\n" + text[20:], strings.Repeat("A", leasetext.MaxText+1)} {
		if _, err := k.Parse(other); !errors.Is(err, leasetext.ErrText) {
			t.Errorf("%.40q…: got %v, want ErrText", other, err)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	for _, secrets := range [][][]byte{nil, {nil}, {bytes.Repeat([]byte{1}, leasetext.LeastKey), []byte("short")}} {
		if _, err := leasetext.New(secrets...); err == nil {
			t.Errorf("%q: got no error", secrets)
		}
	}
	if _, err := keys(t, 1).Text(nil); err == nil {
		t.Error("no lease: got no error")
	}
}

func FuzzParse(f *testing.F) {
	k := keys(f, 1)
	text, err := k.Text(lease(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add("")
	f.Add(text[:len(text)/2])
	f.Fuzz(func(t *testing.T, other string) {
		d, err := k.Parse(other)
		if err != nil {
			return
		}
		if again, err := k.Text(d); err != nil || again != other {
			t.Errorf("%q: got a lease with another text, %q (%v)", other, again, err)
		}
	})
}
