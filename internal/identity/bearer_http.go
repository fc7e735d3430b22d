package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/whisp-bff/whisp-bff/internal/keyset"
)

const (
	// maxMetadata bounds a discovery document, in bytes.
	maxMetadata = 256 << 10
	// maxRedirects is how many redirects on the provider's own origin a GET follows.
	maxRedirects = 3
	// keyRetryPause is the pause after a first failed fetch of keys.
	keyRetryPause = time.Second
)

// newProviderClient talks to a token issuer through a connection pool of its
// own, unless it is given a transport. GETs follow redirects on the same origin
// only, everything else follows none: a token must not be sent on. Time and size
// are bounded by the callers.
func newProviderClient(transport http.RoundTripper, caFile string) (*http.Client, error) {
	if transport == nil {
		own := &http.Transport{
			Proxy:               nil, // the environment is read in internal/config only
			DialContext:         (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout: 3 * time.Second,
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: 16,
			MaxConnsPerHost:     64,
			// Node closes idle connections after 5 s; a POST that meets that is lost.
			IdleConnTimeout:        4 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		}
		if caFile != "" {
			pem, err := os.ReadFile(caFile) //nolint:gosec // the operator names the file
			if err != nil {
				return nil, fmt.Errorf("read ca_file: %w", err)
			}
			own.TLSClientConfig.RootCAs = x509.NewCertPool()
			if !own.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("ca_file %s has no PEM certificate", caFile)
			}
		}
		transport = own
	}
	return &http.Client{Transport: transport, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		first := via[0]
		switch {
		case first.Method != http.MethodGet:
			return http.ErrUseLastResponse
		case next.URL.Scheme != first.URL.Scheme || next.URL.Host != first.URL.Host:
			return errors.New("answer redirects to another host")
		case len(via) > maxRedirects:
			return errors.New("answer redirects too often")
		}
		return nil
	}}, nil
}

// statusError is an answer with an unexpected status.
type statusError struct{ status int }

func (e *statusError) Error() string { return "answer has status " + strconv.Itoa(e.status) }

// get reads a document of at most limit bytes. Its errors name neither the
// address nor anything of the answer.
func get(ctx context.Context, client *http.Client, address string, limit int64) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errors.New("address cannot be used")
	}
	request.Header.Set("Accept", "application/json, */*;q=0.5")
	response, err := client.Do(request)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer func() { _ = response.Body.Close() }() // read to its end or given up
	if response.StatusCode != http.StatusOK {
		return nil, &statusError{response.StatusCode}
	}
	return readBounded(response.Body, limit)
}

func readBounded(from io.Reader, limit int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(from, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if int64(len(body)) > limit {
		return nil, errors.New("answer is too large")
	}
	return body, nil
}

// withoutURL drops the URL that net/http puts into its errors: after a redirect
// it is one the provider chose.
func withoutURL(err error) error {
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return failed.Err
	}
	return err
}

// lengthPrefixed joins fields so that no two lists give the same text.
func lengthPrefixed(fields ...string) string {
	var b strings.Builder
	for _, field := range fields {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(field)))
		b.Write(size[:])
		b.WriteString(field)
	}
	return b.String()
}

// keyLog tells operators how fetching keys goes.
type keyLog struct {
	log     *slog.Logger
	fetches *prometheus.CounterVec
}

func newKeyLog(deps Deps) *keyLog {
	l := &keyLog{log: deps.Logger, fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "whisp_bff_identity_key_fetches_total",
		Help: "Fetches of token issuers' keys by issuer, as configured, and outcome (ok, failed).",
	}, []string{"issuer", "outcome"})}
	if deps.Metrics != nil {
		l.fetches = register(deps.Metrics, l.fetches)
	}
	return l
}

// watch counts fetches and logs those that fail; the key set makes sure that
// these are few.
func (l *keyLog) watch(issuer string, fetch func(context.Context) ([]keyset.Key, error)) func(context.Context) ([]keyset.Key, error) {
	return func(ctx context.Context) ([]keyset.Key, error) {
		keys, err := fetch(ctx)
		if err != nil {
			l.fetches.WithLabelValues(issuer, "failed").Inc()
			l.log.WarnContext(ctx, "token issuer's keys not fetched", "issuer", issuer, "error", err)
			return nil, err
		}
		l.fetches.WithLabelValues(issuer, "ok").Inc()
		return keys, nil
	}
}
