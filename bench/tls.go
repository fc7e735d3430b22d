//go:build linux

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"text/template"
	"time"
)

// tlsEnd is what makes the upstream one that speaks TLS: an nginx of its own, one
// worker, which decrypts and passes on (with the http module, since nginx has its
// stream module only where somebody loads it). It is the same one for everybody
// who is compared, and what it costs is nobody's: a second hop, and some of the
// processors that the measured server would have liked.
type tlsEnd struct {
	*process
	caFile string // who vouches for it
}

// tlsName is the host name in its certificate, besides its address.
const tlsName = "localhost"

var tlsEndConfig = template.Must(template.New("TLS end").Parse(`
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {{.Dir}}/nginx.pid;
error_log {{.Dir}}/error.log warn;
{{if .Root}}user root;{{end}}
events { worker_connections 16384; }
http {
	access_log off;
	client_body_temp_path {{.Dir}}/body;
	proxy_temp_path {{.Dir}}/proxy;
	fastcgi_temp_path {{.Dir}}/fastcgi;
	uwsgi_temp_path {{.Dir}}/uwsgi;
	scgi_temp_path {{.Dir}}/scgi;
	keepalive_requests 100000000;
	tcp_nodelay on;
	map $http_upgrade $upgrading {
		default upgrade;
		''      '';
	}
	upstream plain {
		server {{.Upstream}};
		keepalive 64;
	}
	server {
		listen {{.Listen}} ssl backlog=4096;
		ssl_certificate {{.Dir}}/chain.pem;
		ssl_certificate_key {{.Dir}}/key.pem;
		ssl_protocols TLSv1.2 TLSv1.3;
		ssl_session_cache shared:bench:10m;
		location / {
			proxy_pass http://plain;
			proxy_http_version 1.1;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection $upgrading;
			proxy_set_header Host $http_host;
			proxy_read_timeout 10m;
			proxy_send_timeout 10m;
		}
	}
}
`))

// measureTLS prints the figures of sockets where the way to Whisp is encrypted
// and Whisp's certificate is checked. They have no targets.
func measureTLS(ctx context.Context, l *lab, p plan, out *report) error {
	if err := l.startTLSEnd(ctx); err != nil {
		return err
	}
	p.echoRounds = p.rounds // no target, no need to tell small differences
	used, started := l.tls.cpu(), time.Now()
	if err := (realtime{lab: l, plan: p, out: out, tls: true, suffix: ", TLS"}).measure(ctx); err != nil {
		return err
	}
	share := (l.tls.cpu() - used).Seconds() / time.Since(started).Seconds()
	out.line("  The upstream's TLS end took %.0f %% of one CPU meanwhile, pauses included.", 100*share)
	return nil
}

func (l *lab) startTLSEnd(ctx context.Context) error {
	dir, err := l.subdirectory("tls-")
	if err != nil {
		return err
	}
	address, err := freePort()
	if err != nil {
		return err
	}
	if err := writeCertificates(dir); err != nil {
		return err
	}
	end, err := l.runNginx(ctx, dir, address, tlsEndConfig, map[string]any{
		"Dir": dir, "Root": os.Geteuid() == 0, "Upstream": l.upstream, "Listen": address,
	})
	if err != nil {
		return err
	}
	l.tls = &tlsEnd{process: end, caFile: filepath.Join(dir, "ca.pem")}
	return nil
}

// writeCertificates makes a certificate authority for a day, ca.pem, and a
// server certificate of its, chain.pem and key.pem.
func writeCertificates(dir string) error {
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench CA"},
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: tlsName},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{tlsName}, IPAddresses: []net.IP{netip.MustParseAddr("127.0.0.1").AsSlice()},
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, &leafKey.PublicKey, caKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		return err
	}
	write := func(name, kind string, der []byte) error {
		return os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
	}
	return errors.Join(write("ca.pem", "CERTIFICATE", caDER), write("chain.pem", "CERTIFICATE", leafDER), write("key.pem", "PRIVATE KEY", keyDER))
}
