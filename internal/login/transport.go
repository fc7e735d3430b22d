package login

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

const (
	// maxAnswer bounds every body the provider sends, in bytes. x/oauth2 reads
	// no more than this of a token answer anyway.
	maxAnswer = 1 << 20
	// maxRedirects is how many redirects on the provider's own host a GET follows.
	maxRedirects = 3
)

// newTransport dials the provider. It takes its own connection pool: the
// provider's troubles are not to touch anybody else's connections.
func newTransport(cfg Config) (*http.Transport, error) {
	transport := &http.Transport{
		Proxy:               nil, // the environment is read in internal/config only
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 16,
		MaxConnsPerHost:     64,
		// Node closes idle connections after 5 s; a POST that meets that is lost.
		IdleConnTimeout:        4 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if cfg.CAFile == "" {
		return transport, nil
	}
	pem, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("login: read ca_file: %w", err)
	}
	transport.TLSClientConfig.RootCAs = x509.NewCertPool()
	if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("login: ca_file %s has no PEM certificate", cfg.CAFile)
	}
	return transport, nil
}

// newClient bounds what comes back and keeps to the host it was sent to.
// Time is bounded by the contexts its callers pass.
func newClient(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport: boundedTransport{transport},
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			first := via[0]
			switch {
			case first.Method != http.MethodGet:
				return http.ErrUseLastResponse // a code or token must not be sent again
			case next.URL.Scheme != first.URL.Scheme || next.URL.Host != first.URL.Host:
				return errors.New("provider redirects to another host")
			case len(via) > maxRedirects:
				return errors.New("provider redirects too often")
			}
			return nil
		},
	}
}

type boundedTransport struct{ next http.RoundTripper }

func (t boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	response.Body = http.MaxBytesReader(nil, response.Body, maxAnswer)
	return response, nil
}

// statusError is an answer with an unexpected status.
type statusError struct {
	status int
	wait   time.Duration // Retry-After
}

func (e *statusError) Error() string { return "status " + strconv.Itoa(e.status) }

// getJSON fetches address into target. Its errors name neither the address nor
// anything of the body: a *[statusError], or what went wrong underneath.
func getJSON(ctx context.Context, client *http.Client, address string, bearer secret.Text, target any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return errors.New("address cannot be used")
	}
	request.Header.Set("Accept", "application/json")
	if !bearer.Empty() {
		request.Header.Set("Authorization", "Bearer "+bearer.Reveal())
	}
	response, err := client.Do(request)
	if err != nil {
		return withoutURL(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return &statusError{status: response.StatusCode, wait: retryAfter(response.Header)}
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if err := json.Unmarshal(body, target); err != nil {
		return &garbageError{cause: err}
	}
	return nil
}

// garbageError is a 200 whose body is not what it should be.
type garbageError struct{ cause error }

func (e *garbageError) Error() string { return "answer is not the JSON it should be" }
func (e *garbageError) Unwrap() error { return e.cause }

// retryAfter reads Retry-After in seconds (dates are ignored), at most a minute.
func retryAfter(header http.Header) time.Duration {
	seconds, err := strconv.ParseUint(header.Get("Retry-After"), 10, 31)
	if err != nil {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, time.Minute)
}

// withoutURL drops the URL that net/http puts into its errors: after a redirect
// it is one the provider chose.
func withoutURL(err error) error {
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return failed.Err
	}
	return err
}

// cleaned makes a provider's words fit for a log: one line, valid UTF-8, no
// control or formatting characters, at most 200 bytes.
func cleaned(text string) string {
	const limit = 200
	if len(text) > 4*limit {
		text = text[:4*limit]
	}
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "..."
	}
	return text
}
