//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/oidcsim"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

var siteConfig = template.Must(template.New("whisp-bff").Parse(`
public_url: http://{{.Public}}
app:
  url: http://{{.App}}
login:
  issuer: {{.Issuer}}
  client_id: web
  client_secret: {value: {{.ClientSecret}}}
whisp:
  url: {{.Whisp}}
{{- if .CAFile}}
  ca_file: {{.CAFile}}
{{- end}}
  api_keys:
    - {value: {{.APIKey}}}
account:
  master_secrets:
    - {value: {{.MasterSecret}}}
server: {listen: "{{.Public}}", admin_listen: "{{.Admin}}", pprof: {{.Pprof}}}
realtime: {drain: 0s, max_tunnels_per_user: 0, connection_rate: 0}
log: {access_log: {{.AccessLog}}}
`))

// siteOptions choose what a site is for.
type siteOptions struct {
	accessLog bool
	pprof     bool
	// sockets puts the upstream in Whisp's place instead of the simulator: it
	// echoes, and costs less than the proxies it stands behind.
	sockets bool
	// tls puts a TLS end between; for sockets only.
	tls bool
}

// site is a configuration of whisp-bff and the provider and Whisp it names,
// which run in this process.
type site struct {
	lab    *lab
	binary candidate
	config string // path
	dir    string
	public netip.AddrPort
	admin  netip.AddrPort
	client *http.Client
}

func (l *lab) newSite(b candidate, opts siteOptions) (*site, error) {
	s := &site{lab: l, binary: b, client: &http.Client{
		Timeout:       10 * time.Second,
		Transport:     &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	l.stops = append(l.stops, s.client.CloseIdleConnections)
	var err error
	if s.public, err = freePort(); err != nil {
		return nil, err
	}
	if s.admin, err = freePort(); err != nil {
		return nil, err
	}
	clientSecret, apiKey := randomSecret(), randomSecret()
	provider, err := oidcsim.New(oidcsim.Config{
		Clients: []oidcsim.Client{{
			ID: "web", Secret: clientSecret, RedirectURIs: []string{"http://" + s.public.String() + "/auth/callback"},
		}},
		TrustLoginHint: true, Clock: time.Now, Rand: rand.Reader,
	})
	if err != nil {
		return nil, err
	}
	issuer, err := l.serve(provider)
	if err != nil {
		return nil, err
	}
	if err := provider.SetIssuer(issuer); err != nil {
		return nil, err
	}
	whisp, caFile, err := l.whisp(apiKey, opts)
	if err != nil {
		return nil, err
	}
	if s.dir, err = l.subdirectory("whisp-bff-"); err != nil {
		return nil, err
	}
	var text strings.Builder
	if err := siteConfig.Execute(&text, map[string]any{
		"Public": s.public, "Admin": s.admin, "App": l.upstream, "Issuer": issuer, "Whisp": whisp, "CAFile": caFile,
		"ClientSecret": clientSecret.Reveal(), "APIKey": apiKey.Reveal(), "MasterSecret": randomSecret().Reveal(),
		"Pprof": opts.pprof, "AccessLog": opts.accessLog,
	}); err != nil {
		return nil, err
	}
	s.config = filepath.Join(s.dir, "config.yaml")
	return s, os.WriteFile(s.config, []byte(text.String()), 0o600)
}

// whisp returns the URL of what stands in Whisp's place, and the file with the CA
// that vouches for it, if it speaks TLS.
func (l *lab) whisp(apiKey secret.Text, opts siteOptions) (url, caFile string, err error) {
	switch {
	case opts.tls:
		return "https://" + l.tls.address.String(), l.tls.caFile, nil
	case opts.sockets:
		return "http://" + l.upstream.String(), "", nil
	}
	simulator := whispsim.New(whispsim.Config{APIKeys: []secret.Text{apiKey}, JWTLife: time.Hour, RecordLimit: -1})
	l.stops = append(l.stops, simulator.Close)
	url, err = l.serve(simulator)
	return url, "", err
}

func randomSecret() secret.Text { return secret.New(rand.Text() + rand.Text()) }

// serve serves handler on a free port until the lab closes, and returns its URL.
func (l *lab) serve(handler http.Handler) (string, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	l.stops = append(l.stops, func() { _ = server.Close() })
	go func() { _ = server.Serve(listener) }() // ends with Close
	return "http://" + listener.Addr().String(), nil
}

// exec starts whisp-bff with the site's configuration, and does not wait.
func (s *site) exec() (*process, error) {
	return start(s.binary.name, s.public, filepath.Join(s.dir, "stderr.log"), s.binary.path, "--config", s.config)
}

// start starts whisp-bff and waits until it is ready. The lab stops it.
func (s *site) start(ctx context.Context) (*process, error) {
	p, err := s.exec()
	if err != nil {
		return nil, err
	}
	s.lab.stops = append(s.lab.stops, p.stop)
	return p, p.until(ctx, 5*time.Millisecond, func() bool { return s.ready(ctx) })
}

func (s *site) ready(ctx context.Context) bool {
	answer, err := s.get(ctx, "http://"+s.admin.String()+"/readyz")
	return err == nil && answer.code == http.StatusOK
}

// fetched is an answer whose body was read.
type fetched struct {
	code     int
	status   string
	location string
	cookies  []*http.Cookie
	body     string
}

func (s *site) get(ctx context.Context, url string, cookies ...*http.Cookie) (fetched, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fetched{}, err
	}
	for _, cookie := range cookies {
		request.AddCookie(cookie)
	}
	answer, err := s.client.Do(request)
	if err != nil {
		return fetched{}, err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	return fetched{
		code: answer.StatusCode, status: answer.Status, location: answer.Header.Get("Location"),
		cookies: answer.Cookies(), body: string(body),
	}, err
}

// login signs alice in as her browser would, and returns the session cookie as
// it stands in a Cookie header.
func (s *site) login(ctx context.Context) (string, error) {
	begun, err := s.get(ctx, "http://"+s.public.String()+"/auth/login?return_to=/")
	if err != nil {
		return "", err
	}
	chosen, err := s.get(ctx, begun.location+"&login_hint=alice")
	if err != nil {
		return "", fmt.Errorf("login at the provider, after %s: %w", begun.status, err)
	}
	finished, err := s.get(ctx, chosen.location, begun.cookies...)
	if err != nil {
		return "", fmt.Errorf("login's callback, after %s: %w", chosen.status, err)
	}
	for _, cookie := range finished.cookies {
		if strings.HasSuffix(cookie.Name, "whisp-session") {
			return cookie.Name + "=" + cookie.Value, nil
		}
	}
	return "", fmt.Errorf("login ended with %s and without a session: %s", finished.status, finished.body)
}

func (s *site) mallocs(ctx context.Context) (float64, error) {
	return s.metric(ctx, "go_memstats_mallocs_total")
}

// metric returns the value of a metric without labels, or of one series: its
// name and labels as /metrics writes them.
func (s *site) metric(ctx context.Context, name string) (float64, error) {
	answer, err := s.get(ctx, "http://"+s.admin.String()+"/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(answer.body) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}
