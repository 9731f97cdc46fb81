package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/awsconf"
	"github.com/zeroae/zael/postgresstore"
	"github.com/zeroae/zael/redisstore"
	"github.com/zeroae/zael/stores"
)

// A storeFlags has the store of a command, and how long the command waits for it.
type storeFlags struct {
	url       string
	timeout   time.Duration
	principal string // for the audit log; only of commands that make changes

	settings []string // set to true in the URL of a store in DynamoDB
}

// addStore gives cmd the flags --store and --timeout.
func addStore(cmd *cobra.Command, timeout time.Duration) *storeFlags {
	s := addStoreFlags(cmd, timeout)
	completeStore(cmd)
	return s
}

func addStoreFlags(cmd *cobra.Command, timeout time.Duration) *storeFlags {
	s := new(storeFlags)
	f := cmd.Flags()
	f.StringVar(&s.url, "store", "", "`URL` of the store: sqlite:PATH, dynamodb://NAME, redis://HOST, postgres://HOST/DATABASE or memory: (default: $ZAEL_STORE, else a SQLite file in your data directory)")
	f.DurationVar(&s.timeout, "timeout", timeout, "give up if the store takes longer than this")
	_ = cmd.RegisterFlagCompletionFunc("timeout", cobra.NoFileCompletions)
	return s
}

// addServed is addStore for a command that also works through a server.
func addServed(cmd *cobra.Command, timeout time.Duration) *storeFlags {
	s := addStoreFlags(cmd, timeout)
	completeStore(cmd, "http://", "https://")
	flag := cmd.Flags().Lookup("store")
	flag.Usage = strings.Replace(flag.Usage, " or memory:", ", memory:, or the address of a server, such as http://127.0.0.1:8080", 1)
	return s
}

// addPrincipal gives cmd the flag --principal.
func (a *app) addPrincipal(cmd *cobra.Command, s *storeFlags) {
	cmd.Flags().StringVar(&s.principal, "principal", "", "`WHO` makes the change, for the audit log (default: USER@HOST)")
	_ = cmd.RegisterFlagCompletionFunc("principal", cobra.NoFileCompletions)
}

func completeStore(cmd *cobra.Command, more ...string) {
	_ = cmd.RegisterFlagCompletionFunc("store", cobra.FixedCompletions(
		append([]string{"memory:", "sqlite:", "dynamodb://"}, more...), cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
}

// storeTimeout is the default timeout of commands that manage what is stored.
const storeTimeout = 30 * time.Second

// storeURL returns the URL of a command's store.
func (a *app) storeURL(s *storeFlags) (string, error) {
	if s.url != "" {
		return s.url, nil
	}
	if url := a.getenv("ZAEL_STORE"); url != "" {
		return url, nil
	}
	dir, err := a.dataDir()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("creating the directory of the default store: %w", err)
	}
	return "sqlite:" + filepath.Join(dir, "zael.db"), nil
}

// dataDir returns the user's directory for data of zael; on Linux, that of the XDG Base
// Directory Specification.
func (a *app) dataDir() (string, error) {
	parent := ""
	switch runtime.GOOS {
	case "windows":
		parent = a.getenv("LocalAppData")
	case "darwin":
		if home := a.getenv("HOME"); home != "" {
			parent = filepath.Join(home, "Library", "Application Support")
		}
	default:
		parent = a.getenv("XDG_DATA_HOME")
		if home := a.getenv("HOME"); home != "" && !filepath.IsAbs(parent) {
			parent = filepath.Join(home, ".local", "share")
		}
	}
	if !filepath.IsAbs(parent) {
		return "", errors.New("there is no home directory for the default store: use --store, or set ZAEL_STORE")
	}
	return filepath.Join(parent, "zael"), nil
}

// openStore opens a store, which the caller closes. Settings are added to the URL of a
// store that has them.
func openStore(ctx context.Context, url string, settings ...string) (stores.Store, error) {
	if isServer(url) {
		return nil, usagef("--store %q is a server, and this command needs the store itself: use the URL that the server has, such as sqlite:PATH or dynamodb://NAME", stores.Redact(url))
	}
	full := url
	scheme, _, _ := strings.Cut(url, ":")
	if inDynamoDB := strings.HasPrefix(url, awsconf.Scheme); inDynamoDB || redisstore.IsScheme(scheme) || postgresstore.IsScheme(scheme) {
		for _, setting := range settings {
			if !inDynamoDB && setting != "virtual_time" {
				continue
			}
			separator := "?"
			if strings.Contains(full, "?") {
				separator = "&"
			}
			full += separator + setting + "=true"
		}
	}
	s, err := stores.Open(ctx, full)
	var invalid *zael.ValidationError
	switch {
	case err == nil:
		return s, nil
	case errors.As(err, &invalid):
		return nil, usagef("--store %q %s", stores.Redact(url), invalid.Reason)
	}
	return nil, err
}

// open opens the store of the flags within their timeout.
func (a *app) open(ctx context.Context, s *storeFlags) (stores.Store, error) {
	if s.timeout <= 0 {
		return nil, usagef("--timeout %v is not above 0", s.timeout)
	}
	url, err := a.storeURL(s)
	if err != nil {
		return nil, err
	}
	within, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	store, err := openStore(within, url, s.settings...)
	return store, late(ctx, s, err)
}

// late adds zael.ErrUnavailable to err if the store did not answer in time.
func late(ctx context.Context, s *storeFlags, err error) error {
	if errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, zael.ErrUnavailable) && ctx.Err() == nil {
		return fmt.Errorf("%w: no answer within %v: %w", zael.ErrUnavailable, s.timeout, err)
	}
	return err
}

// manage opens the store, or calls the server, and calls f with a limiter on it, all within the
// timeout of the flags. It takes a *zael.ValidationError for one about the command line.
func (a *app) manage(ctx context.Context, s *storeFlags, f func(ctx context.Context, l limiter) error) error {
	l, closeAll, err := a.limiter(ctx, s)
	if err != nil {
		return err
	}
	defer closeAll()
	within, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return ofFlags(late(ctx, s, f(within, l)))
}

// limiter returns the limiter of the flags, and a function that lets go of it.
func (a *app) limiter(ctx context.Context, s *storeFlags) (l limiter, closeAll func(), err error) {
	url, err := a.storeURL(s)
	if err != nil {
		return nil, nil, err
	}
	if isServer(url) {
		if s.principal != "" {
			return nil, nil, usagef("--principal: a server names the token in its audit log: leave it out")
		}
		c, err := a.dial(s, url)
		if err != nil {
			return nil, nil, err
		}
		return c, c.Close, nil
	}
	store, err := a.open(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	closeAll = func() { _ = store.Close(context.WithoutCancel(ctx)) }
	direct, err := zael.New(store, &zael.Config{Timeout: s.timeout, Principal: a.who(s)})
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	return direct, closeAll, nil
}

// who returns the principal of changes.
func (a *app) who(s *storeFlags) string {
	if s.principal != "" {
		return s.principal
	}
	name := a.getenv("USER")
	if u, err := user.Current(); name == "" && err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// ofFlags returns err with flags instead of fields, if it is a *zael.ValidationError.
func ofFlags(err error) error {
	var v *zael.ValidationError
	if !errors.As(err, &v) {
		return err
	}
	flag, ok := map[string]string{
		"Request.Entity": "--entity", "Query.Entity": "--entity", "Scope.Entity": "--entity",
		"UsageQuery.Entity": "--entity", "AuditQuery.Entity": "--entity",
		"Entity.ID": "entity", "Entity.Name": "--name", "Entity.ParentID": "--parent", "Entity.Metadata": "--metadata",
		"Request.Resource": "--resource", "Query.Resource": "--resource", "Scope.Resource": "--resource",
		"UsageQuery.Resource": "--resource", "resource": "--resource", "limit": "--limit-name", "names": "--limit-name", "namespace": "namespace",
		"Request.Limits": "--limit", "Query.Limits": "--limit", "limits": "--limit",
		"Request.ParentLimits": "--parent-limit", "Query.ParentLimits": "--parent-limit",
		"Request.Consume": "--consume", "amounts": "--consume",
		"AdminOptions.IdempotencyKey": "--idempotency-key", "Idempotency-Key": "--idempotency-key",
		// What a server calls them.
		"address": "--store", "Config.Token": "ZAEL_TOKEN", "Config.Timeout": "--timeout", "entity": "--entity", "parent_limits": "--parent-limit",
		"consume": "--consume", "max_wait": "--max-wait", "id": "entity", "parent_id": "--parent", "metadata": "--metadata",
		"limit_name": "--limit-name", "limit_names": "--limit-name", "to": "--to", "lease": "--consume",
		"UsageQuery.To": "--to", "AuditQuery.To": "--to",
	}[v.Field]
	if !ok {
		return &usageError{err}
	}
	if s, ok := v.Value.(string); ok {
		return usagef("%s %q %s", flag, s, v.Reason)
	}
	return usagef("%s %v %s", flag, v.Value, v.Reason)
}
