//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

// nginxConfig is nginx doing whisp-bff's work as an administrator would
// configure it: one worker, connections to the upstream kept, no session
// checked. keepalive_requests is raised because nginx otherwise closes every
// connection after 1,000 requests, which would be measured, too.
var nginxConfig = template.Must(template.New("nginx").Parse(`
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {{.Dir}}/nginx.pid;
error_log {{.Dir}}/error.log warn;
{{if .Root}}user root;{{end}}
events { worker_connections 16384; }
http {
	access_log {{if .AccessLog}}{{.Dir}}/access.log{{else}}off{{end}};
	client_body_temp_path {{.Dir}}/body;
	proxy_temp_path {{.Dir}}/proxy;
	fastcgi_temp_path {{.Dir}}/fastcgi;
	uwsgi_temp_path {{.Dir}}/uwsgi;
	scgi_temp_path {{.Dir}}/scgi;
	keepalive_requests 100000000;
	keepalive_timeout 120s;
	tcp_nodelay on;
	upstream backend {
		server {{.Upstream}};
		keepalive 64;
		keepalive_requests 100000000;
	}
	server {
		listen {{.Listen}} backlog=4096;
		location / {
			proxy_pass http://backend;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_set_header Host $http_host;
			proxy_set_header X-Forwarded-For $remote_addr;
			proxy_set_header X-Forwarded-Host $http_host;
			proxy_set_header X-Forwarded-Proto $scheme;
		}
		location = /plain {
			default_type application/json;
			return 200 '{{.Plain}}';
		}
		location /api/wsConnect {
{{- if .CAFile}}
			proxy_pass https://{{.TLSEnd}};
			proxy_ssl_verify on;
			proxy_ssl_trusted_certificate {{.CAFile}};
			proxy_ssl_name {{.TLSName}};
{{- else}}
			proxy_pass http://{{.Upstream}};
{{- end}}
			proxy_http_version 1.1;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection "upgrade";
			proxy_set_header Host $http_host;
			proxy_read_timeout 10m;
			proxy_send_timeout 10m;
		}
	}
}
`))

// startNginx starts nginx on a free port. The lab stops it.
func (l *lab) startNginx(ctx context.Context, opts siteOptions) (*process, error) {
	dir, err := l.subdirectory("nginx-")
	if err != nil {
		return nil, err
	}
	address, err := freePort()
	if err != nil {
		return nil, err
	}
	values := map[string]any{
		"Dir": dir, "Root": os.Geteuid() == 0, "AccessLog": opts.accessLog,
		"Upstream": l.upstream, "Listen": address, "Plain": plainBody, "CAFile": "",
	}
	if opts.tls {
		values["TLSEnd"], values["TLSName"], values["CAFile"] = l.tls.address, tlsName, l.tls.caFile
	}
	return l.runNginx(ctx, dir, address, nginxConfig, values)
}

// runNginx starts nginx with a configuration. The lab stops it.
func (l *lab) runNginx(ctx context.Context, dir string, address netip.AddrPort, config *template.Template, values map[string]any) (*process, error) {
	var text strings.Builder
	if err := config.Execute(&text, values); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		return nil, err
	}
	p, err := start("nginx", address, filepath.Join(dir, "error.log"), l.nginx, "-c", path, "-p", dir, "-e", filepath.Join(dir, "error.log"))
	if err != nil {
		return nil, err
	}
	l.stops = append(l.stops, p.stop)
	return p, p.until(ctx, 5*time.Millisecond, func() bool {
		conn, err := net.Dial("tcp", address.String()) //nolint:noctx // loopback
		if err == nil {
			_ = conn.Close()
		}
		return err == nil && len(p.pids()) > 1
	})
}

// nginxVersion is what nginx calls itself, such as nginx/1.22.1.
func (l *lab) nginxVersion() string {
	said, err := command(l.nginx, "-v")
	_, version, ok := strings.Cut(said, "nginx version: ")
	if err != nil || !ok {
		return fmt.Sprintf("nginx (version unknown: %v)", err)
	}
	return strings.TrimSpace(version)
}
