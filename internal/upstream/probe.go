package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// ErrKeyRefused: Whisp answers a call with this API key 401 or 403.
var ErrKeyRefused = errors.New("whisp refuses the API key")

// Probe asks Whisp about single API keys, and the app whether it is there: for
// whoever sets whisp-bff up. It creates nothing.
type Probe struct {
	endpoint *Endpoint
	whisp    *Whisp
}

// NewProbe reads cfg.CAFile, if one is named, and connects to nothing yet. wrap is
// given the transport that carries all that is asked.
func NewProbe(cfg WhispConfig, clock func() time.Time, logger *slog.Logger, wrap func(http.RoundTripper) http.RoundTripper) (*Probe, error) {
	cfg.Breaker.Failures = 1000 // every question is asked, whatever the one before met
	endpoint, err := NewEndpoint(cfg)
	if err != nil {
		return nil, err
	}
	deps := WhispDeps{Endpoint: endpoint, Logger: logger, Clock: clock, Metrics: NewMetrics(nil, endpoint)}
	return &Probe{endpoint, &Whisp{exchanger: newExchanger(cfg, deps, wrap(endpoint.ownTransport()))}}, nil
}

// Close ends idle connections.
func (p *Probe) Close() { p.endpoint.Close() }

// Key asks about one key, once, by registerUser with an empty body: 400 if the key
// is good, 401 or 403 if not, and no account in any case. The status is 0 if no
// answer came. The error is nil, [ErrKeyRefused], or wraps a problem that says why
// it could not be told.
func (p *Probe) Key(ctx context.Context, key secret.Text) (status int, err error) {
	a, f := p.whisp.ask(ctx, p.whisp.call(ours{
		operation: operationProbe, method: http.MethodPost, path: pathRegister,
		keyed: true, headerOnly: true, body: struct{}{},
	}, key))
	switch {
	case f != nil && f.cancelled != nil:
		return 0, f.cancelled
	case f != nil:
		return f.status, f.err
	case probedGood(a.status):
		return a.status, nil
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden:
		return a.status, ErrKeyRefused
	}
	return a.status, p.whisp.bad(operationProbe, fmt.Errorf("status %d", a.status))
}

// Connect opens one connection as a socket needs it, HTTP/1.1 all the way, and
// closes it.
func (p *Probe) Connect(ctx context.Context) error {
	conn, err := p.endpoint.DialHTTP1(ctx, "")
	if err != nil {
		return err
	}
	return conn.Close()
}

// ProbeApp asks the app for its front page, as a browser's request would come
// through, and returns the status; redirects are not followed.
func ProbeApp(ctx context.Context, cfg AppConfig, publicURL setting.URL) (status int, err error) {
	tlsConfig, err := trust(cfg.CAFile)
	if err != nil {
		return 0, fmt.Errorf("app.ca_file: %w", err)
	}
	transport := appTransport(cfg)
	transport.TLSClientConfig = tlsConfig
	defer transport.CloseIdleConnections()
	target := cfg.URL.URL
	target.Path = "/"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return 0, errors.New("url cannot be used")
	}
	if cfg.PreserveHost {
		request.Host = publicURL.Host
	}
	request.Header.Set("User-Agent", "whisp-bff")
	request.Header.Set("X-Forwarded-Host", publicURL.Host)
	request.Header.Set("X-Forwarded-Proto", publicURL.Scheme)
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, err
	}
	_ = response.Body.Close()
	return response.StatusCode, nil
}
