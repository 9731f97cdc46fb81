package config

import (
	"encoding"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/zeroae/zael/internal/yamlfile"
)

// expand returns a text or, of one that is ${NAME}, the value of an environment variable.
func (p *parser) expand(name string, n *yaml.Node) (string, error) {
	text, err := yamlfile.Text(name, n)
	if err != nil || !strings.Contains(text, "${") {
		return text, err
	}
	variable, ok := strings.CutPrefix(text, "${")
	variable, closed := strings.CutSuffix(variable, "}")
	if !ok || !closed || strings.ContainsAny(variable, "${}") || variable == "" {
		return "", yamlfile.Errorf(n.Line, "%s: an environment variable is the whole value, as ${NAME}", name)
	}
	value, ok := p.lookupEnv(variable)
	if !ok || value == "" {
		return "", yamlfile.Errorf(n.Line, "%s: the environment variable %s is not set", name, variable)
	}
	return value, nil
}

func (p *parser) text(to *string) yamlfile.Reader {
	return func(name string, _, n *yaml.Node) (err error) {
		*to, err = p.expand(name, n)
		return err
	}
}

// each reads a list.
func each(read func(n *yaml.Node) error) yamlfile.Reader {
	return func(name string, _, n *yaml.Node) error {
		if n.Kind != yaml.SequenceNode {
			return yamlfile.Errorf(n.Line, "%s: not a list", name)
		}
		var errs []error
		for _, item := range n.Content {
			errs = append(errs, read(item))
		}
		return errors.Join(errs...)
	}
}

func unmarshal(to encoding.TextUnmarshaler) yamlfile.Reader {
	return func(name string, _, n *yaml.Node) error {
		text, err := yamlfile.Text(name, n)
		if err == nil {
			if err = to.UnmarshalText([]byte(text)); err != nil {
				err = yamlfile.Errorf(n.Line, "tokens: %s", err)
			}
		}
		return err
	}
}

func (p *parser) duration(to *time.Duration, least, most time.Duration) yamlfile.Reader {
	return func(name string, _, n *yaml.Node) error {
		text, err := p.expand(name, n)
		if err != nil {
			return err
		}
		d, err := time.ParseDuration(text)
		if err != nil || d < least || d > most {
			return yamlfile.Errorf(n.Line, "%s: %q is not a time from %v to %v, such as 30s or 2m", name, text, least, most)
		}
		*to = d
		return nil
	}
}

func whole(to *int, least, most int) yamlfile.Reader {
	return func(name string, _, n *yaml.Node) error {
		text, err := yamlfile.Text(name, n)
		if err != nil {
			return err
		}
		i, err := strconv.Atoi(text)
		if err != nil || i < least || i > most {
			return yamlfile.Errorf(n.Line, "%s: %q is not a whole number from %d to %d", name, text, least, most)
		}
		*to = i
		return nil
	}
}

// size reads a number of bytes, such as 512, 32KiB or 1MiB.
func size[N int | int64](to *N, least, most N) yamlfile.Reader {
	return func(name string, _, n *yaml.Node) error {
		text, err := yamlfile.Text(name, n)
		if err != nil {
			return err
		}
		digits, unit := text, int64(1)
		for suffix, bytes := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
			if rest, ok := strings.CutSuffix(text, suffix); ok {
				digits, unit = rest, bytes
			}
		}
		i, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 32)
		if err != nil || i*unit < int64(least) || i*unit > int64(most) {
			return yamlfile.Errorf(n.Line, "%s: %q is not a size from %s to %s", name, text, sizeText(int64(least)), sizeText(int64(most)))
		}
		*to = N(i * unit)
		return nil
	}
}

func sizeText(bytes int64) string {
	switch {
	case bytes >= 1<<30:
		return strconv.FormatInt(bytes>>30, 10) + "GiB"
	case bytes >= 1<<20:
		return strconv.FormatInt(bytes>>20, 10) + "MiB"
	default:
		return strconv.FormatInt(bytes>>10, 10) + "KiB"
	}
}

func (p *parser) address(to *string) yamlfile.Reader {
	return func(name string, key, n *yaml.Node) error {
		text, err := p.expand(name, n)
		if err != nil || text == "" && name == "metrics_listen" {
			return err
		}
		if err := checkAddress(text); err != nil {
			return yamlfile.Errorf(n.Line, "%s: %q %s", name, text, err)
		}
		*to, p.lines[name] = text, key.Line
		return nil
	}
}

// checkAddress returns an error about an address to listen on. A name would be one or another
// address, as the network says.
func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err == nil && host != "" && host != "localhost" {
		_, err = netip.ParseAddr(host)
	}
	if err != nil {
		return errors.New("is not an address and port, such as 127.0.0.1:8080 or :8080 for all networks")
	}
	return nil
}
