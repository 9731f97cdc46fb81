package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/zeroae/zael/internal/serve/config"
)

func TestRLS(t *testing.T) {
	t.Parallel()
	full := "rls: {listen: 127.0.0.1:8081, config: rules, charge_on_refusal: true, compat_metrics: true, quota_mode: never_refuse, merge_domain_configs: true, headers: {limit: L, remaining: R, reset: S}}\n"
	for _, c := range []struct {
		text           string
		listen, folder string // of the command line
		want           config.RLS
		wrong          string
	}{
		{text: full, want: config.RLS{
			Listen: "127.0.0.1:8081", Folder: "rules", ChargeOnRefusal: true, CompatMetrics: true, NeverRefuse: true, Merge: true,
			Headers: config.RLSHeaders{Limit: "L", Remaining: "R", Reset: "S"},
		}},
		{text: "rls: {listen: ':8081', config: rules, insecure: true}", want: config.RLS{Listen: ":8081", Folder: "rules", Insecure: true}},
		{listen: "127.0.0.1:1", folder: "rules", want: config.RLS{Listen: "127.0.0.1:1", Folder: "rules"}},
		{text: "rls: {listen: ':8081', config: rules}", listen: "127.0.0.1:1", want: config.RLS{Listen: "127.0.0.1:1", Folder: "rules"}},
		{text: "rls: {listen: 127.0.0.1:1, xds: {server: 'a:18001', node_id: n, cert: c, key: k, ca: d, server_name: s}}", want: config.RLS{
			Listen: "127.0.0.1:1", XDS: &config.XDS{Server: "a:18001", NodeID: "n", ServerName: "s", TLS: &config.TLS{Cert: "c", Key: "k", ClientCA: "d"}},
		}},
		{text: "rls: {listen: 127.0.0.1:1, xds: {server: 'a:18001', insecure: true}}", want: config.RLS{Listen: "127.0.0.1:1", XDS: &config.XDS{Server: "a:18001"}}},
		{text: "rls: {}", wrong: ":2: rls: needs listen"},
		{text: "rls: {listen: 127.0.0.1:8081}", wrong: ":2: rls: needs listen"},
		{text: "rls: {listen: 127.0.0.1:8081, config: rules, xds: {server: 'a:1'}}", wrong: ":2: rls: needs listen"},
		{text: "rls: {listen: 127.0.0.1:8081, xds: {server: a}}", wrong: `:2: rls.xds: server: "a" is not a host and port`},
		{text: "rls: {listen: 127.0.0.1:8081, xds: {server: 'a:1', cert: c}}", wrong: ":2: rls.xds: cert and key belong together"},
		{text: "rls: {listen: 127.0.0.1:8081, xds: {server: 'a:1', insecure: true, ca: c}}", wrong: ":2: rls.xds: insecure does not encrypt"},
		{text: "rls: {listen: 127.0.0.1, config: rules}", wrong: `:2: rls.listen: "127.0.0.1"`},
		{text: "rls: {listen: 127.0.0.1:1, config: rules, quota_mode: some}", wrong: `:2: rls.quota_mode: "some" is not any_left, never_refuse`},
		{text: "rls: {listen: 127.0.0.1:1, config: rules, header: a}", wrong: `:2: rls: unknown key "header"`},
		// Whoever reaches it may call: that has to be written.
		{text: "rls: {listen: ':8081', config: rules}", wrong: ":2: rls: :8081 would let other machines charge any limit"},
		{text: "listen: 127.0.0.1:9", listen: ":1", folder: "rules", wrong: "--rls-listen :1 would let other machines charge any limit"},
		{listen: "127.0.0.1:1", wrong: "--rls-listen and --rls-config belong together"},
		{folder: "rules", wrong: "--rls-listen and --rls-config belong together"},
		{listen: "1", folder: "rules", wrong: `--rls-listen "1"`},
	} {
		file := filepath.Join(t.TempDir(), "zael.yaml")
		if err := os.WriteFile(file, []byte("version: 1\n"+c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		s := config.Source{File: file, LookupEnv: environment, RLSListen: c.listen, RLSFolder: c.folder}
		got, err := s.Load()
		switch {
		case c.wrong != "":
			if err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%s, %s, %s: got the error %v, want %s", c.text, c.listen, c.folder, err, c.wrong)
			}
		case err != nil || !reflect.DeepEqual(*got.RLS, c.want):
			t.Errorf("%s, %s, %s: got %+v (%v), want %+v", c.text, c.listen, c.folder, got, err, c.want)
		}
	}
}
