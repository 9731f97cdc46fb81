package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// Load reads the files and returns what a server needs. Nothing older than TLS 1.2 is spoken.
func (t *TLS) Load() (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"}}
	if t.ClientCA == "" {
		return c, nil
	}
	pem, err := os.ReadFile(t.ClientCA)
	if err != nil {
		return nil, err
	}
	c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	if !c.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: holds no certificate in PEM", t.ClientCA)
	}
	return c, nil
}

// Files returns the paths of the files.
func (t *TLS) Files() []string {
	files := []string{t.Cert, t.Key}
	if t.ClientCA != "" {
		files = append(files, t.ClientCA)
	}
	return files
}
