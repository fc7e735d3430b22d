package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/whisp-bff/whisp-bff/internal/flight"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

const (
	// maxAppAnswer bounds the app's answer, in bytes.
	maxAppAnswer = 64 << 10
	// nobodyFor is how long "nobody" counts at most: some apps sign people in
	// without a new cookie, and the page that follows must see it.
	nobodyFor = time.Second
	// maxAppAnswers and maxAppAnswersSize (bytes) bound what is kept, whatever
	// cookies are sent.
	maxAppAnswers     = 10_000
	maxAppAnswersSize = 16 << 20
	// askingHeader marks our question. A request that comes in with it is one
	// that came back to us: the question went to whisp-bff instead of the app.
	askingHeader = "X-Whisp-Bff-Asks"
)

// AppSite is the customer's app and how browsers reach it.
type AppSite struct {
	// PublicURL is the address browsers use; the app is told it by
	// X-Forwarded-Host and -Proto, so that it looks for the right cookies
	// (Auth.js has others for https) and builds the right URLs.
	PublicURL setting.URL
	// URL, CAFile and PreserveHost are app.url, app.ca_file and
	// app.preserve_host; they count where url is a path.
	URL          setting.URL
	CAFile       string
	PreserveHost bool
	// OwnCookies are names, besides those that begin with "whisp-" after their
	// prefix, of cookies that are never sent to the app.
	OwnCookies []string
}

// AppSession is the source "app_session": it asks the app itself. The app's
// who-am-I endpoint gets the browser's session cookies, and nothing else of the
// request; its JSON says who is signed in.
//
//	no listed cookie in the request                        skipped
//	2xx JSON with a subject                                that is who
//	400, 401, 403, 404, 410, 419, 431, a redirect, no      nobody: session_required
//	  JSON (a login page), null, no subject
//	5xx, 429, other answers, broken JSON, too large,       identity_unavailable
//	  too slow, unreachable, from a shared cache
//
// "Nobody" ends the search like a refusal does, but is none: many apps set
// their session cookie before anybody signs in.
//
// An answer counts for a few seconds, for exactly the cookies it was given
// for: the key is a hash over the question and all cookies sent, each with its
// length. For one key one question is under way at a time. The Set-Cookie of the
// answer is deliberately dropped: it may be another tab's, and an answer from
// the cache has none. An app that rolls its session forward does so when the
// browser itself calls it.
//
// It is not checked that the subject is never reassigned, nor that the app
// tells the truth: it is trusted with who its users are.
type AppSession struct {
	cfg     AppSessionConfig
	deps    Deps
	request http.Request // cloned for each question
	own     []string     // site.OwnCookies
	subject claimPath
	expires claimPath // nil: none
	claims  map[string]claimPath

	transport http.RoundTripper
	pool      *http.Transport // transport, if it is ours
	flights   flight.Group[appAnswer]
	cache     *answerCache[appAnswer]
	outcomes  *prometheus.CounterVec
}

// NewAppSession reads the CA file, if one is named, and connects to nothing yet.
// The caller must call [AppSession.Close] in the end.
func NewAppSession(cfg AppSessionConfig, site AppSite, deps Deps) (*AppSession, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("identity.app_session: %w", err)
	}
	target, err := cfg.target(site.URL)
	if err != nil {
		return nil, fmt.Errorf("identity.app_session: url %w", err)
	}
	if (setting.URL{URL: *target}).Origin() == site.PublicURL.Origin() {
		return nil, errors.New("identity.app_session: url is whisp-bff itself: write the app's own address, or a path on app.url")
	}
	s := &AppSession{
		cfg: cfg, deps: deps, own: site.OwnCookies, claims: map[string]claimPath{}, cache: newAnswerCache[appAnswer](maxAppAnswers, maxAppAnswersSize),
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "whisp_bff_identity_app_session_total", Help: "Answers to who is signed in to the app, by outcome: someone, nobody, unavailable, cached.",
		}, []string{"outcome"}),
	}
	if err := s.mapping(cfg); err != nil {
		return nil, fmt.Errorf("identity.app_session: %w", err)
	}
	s.prepare(cfg, site, target)
	if s.transport = deps.Transport; s.transport == nil {
		if s.pool, err = appSessionTransport(cfg, site); err != nil {
			return nil, fmt.Errorf("identity.app_session: %w", err)
		}
		s.transport = s.pool
	}
	if deps.Metrics != nil {
		s.outcomes = register(deps.Metrics, s.outcomes)
	}
	return s, nil
}

func (s *AppSession) mapping(cfg AppSessionConfig) (err error) {
	if s.subject, err = parseClaimPath(cfg.Subject); err != nil {
		return fmt.Errorf("subject %w", err)
	}
	if cfg.Expires != "" {
		if s.expires, err = parseClaimPath(cfg.Expires); err != nil {
			return fmt.Errorf("expires %w", err)
		}
	}
	for claim, text := range cfg.Claims {
		if s.claims[claim], err = parseClaimPath(text); err != nil {
			return fmt.Errorf("claims.%s %w", claim, err)
		}
	}
	return nil
}

// prepare makes the question, which is the same for everybody but for Cookie.
func (s *AppSession) prepare(cfg AppSessionConfig, site AppSite, target *url.URL) {
	header := http.Header{
		"Accept":        {"application/json"},
		"Cache-Control": {"no-cache"}, // a shared cache could have somebody else's answer
		"User-Agent":    {"whisp-bff"},
		// Frameworks answer 401 instead of a login page to this one.
		"X-Requested-With":  {"XMLHttpRequest"},
		"X-Forwarded-Host":  {site.PublicURL.Host},
		"X-Forwarded-Proto": {site.PublicURL.Scheme},
		askingHeader:        {"1"},
	}
	if cfg.Method == http.MethodPost {
		header.Set("Origin", site.PublicURL.Origin())
	}
	for name, value := range cfg.Headers {
		header.Set(name, value)
	}
	for name, value := range cfg.SecretHeaders {
		header.Set(name, value.Text().Reveal())
	}
	s.request = http.Request{Method: cfg.Method, URL: target, Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	if s.request.Host = target.Host; cfg.onApp() && site.PreserveHost {
		s.request.Host = site.PublicURL.Host
	}
}

// appSessionTransport has connections of its own, so that questions neither wait
// for the app's long answers nor take their connections.
func appSessionTransport(cfg AppSessionConfig, site AppSite) (*http.Transport, error) {
	trusted := &tls.Config{MinVersion: tls.VersionTLS12}
	file := cfg.CAFile
	if file == "" && cfg.onApp() {
		file = site.CAFile
	}
	if file != "" {
		pem, err := os.ReadFile(file) //nolint:gosec // the operator names the file
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		trusted.RootCAs = x509.NewCertPool()
		if !trusted.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file: no certificate found in %s", file)
		}
	}
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: cfg.Timeout.D(), KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:     trusted,
		TLSHandshakeTimeout: cfg.Timeout.D(),
		MaxConnsPerHost:     cfg.MaxConnections,
		MaxIdleConnsPerHost: cfg.MaxConnections,
		// Node closes idle connections after 5 s; closing first avoids the race.
		IdleConnTimeout:        4 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
	}, nil
}

// Close waits for questions under way, at most timeout, and ends idle
// connections. No Identify may start meanwhile.
func (s *AppSession) Close() {
	s.flights.Wait()
	if s.pool != nil {
		s.pool.CloseIdleConnections()
	}
}

// Name implements [Source].
func (s *AppSession) Name() string { return "app_session" }

// Identify implements [Source].
func (s *AppSession) Identify(ctx context.Context, r *http.Request) (Answer, error) {
	cookies := s.cookies(r.Header["Cookie"])
	if len(cookies) == 0 {
		return Answer{}, ErrSkip
	}
	if r.Header.Get(askingHeader) != "" {
		return Answer{}, problem.CredentialRefused().Because(errors.New("the question who is signed in came back: app_session.url leads to whisp-bff itself"))
	}
	key := s.key(cookies)
	if known, ok := s.cache.get(key, s.deps.Clock()); ok {
		s.outcomes.WithLabelValues("cached").Inc()
		return known.result()
	}
	answer, err := s.flights.Do(ctx, key, s.cfg.Timeout.D(), func(ctx context.Context) (appAnswer, error) {
		answer, err := s.ask(ctx, cookies)
		s.outcomes.WithLabelValues(outcomeOf(answer, err)).Inc()
		if err == nil {
			s.keep(key, answer)
		}
		return answer, err
	})
	if err != nil {
		if _, known := errors.AsType[*problem.Problem](err); known {
			return Answer{}, err
		}
		return Answer{}, problem.IdentityUnavailable().Because(err)
	}
	return answer.result()
}

// keep remembers an answer for the configured time, not beyond the session's end.
func (s *AppSession) keep(key string, answer appAnswer) {
	life := s.cfg.Cache.D()
	if answer.nobody != nil {
		life = min(life, nobodyFor)
	}
	now := s.deps.Clock()
	until := now.Add(life)
	if end := answer.answer.Expires; !end.IsZero() && end.Before(until) {
		until = end
	}
	s.cache.put(key, answer, answer.weight, now, until)
}

func outcomeOf(answer appAnswer, err error) string {
	switch {
	case err != nil:
		return "unavailable"
	case answer.nobody != nil:
		return "nobody"
	}
	return "someone"
}

// appAnswer is what the app said.
type appAnswer struct {
	answer Answer
	nobody error // why it is nobody; nil if it is someone
	weight int   // bytes of JSON it came from
}

// result gives each caller claims of its own.
func (a appAnswer) result() (Answer, error) {
	if a.nobody != nil {
		return Answer{}, a.nobody
	}
	answer := a.answer
	answer.Identity.Claims = maps.Clone(answer.Identity.Claims)
	return answer, nil
}

// cookies picks the listed ones, byte for byte and in their order, as pairs
// "name=value". None at all if all of them are empty.
func (s *AppSession) cookies(lines []string) []string {
	var pairs []string
	filled := false
	for _, line := range lines {
		for pair := range strings.SplitSeq(line, ";") {
			pair = strings.Trim(pair, " \t")
			name, value, found := strings.Cut(pair, "=")
			if name = strings.TrimRight(name, " \t"); found && s.listed(name) {
				pairs = append(pairs, pair)
				filled = filled || strings.Trim(value, " \t") != ""
			}
		}
	}
	if !filled {
		return nil
	}
	return pairs
}

func (s *AppSession) listed(name string) bool {
	if ownCookie(name) || slices.Contains(s.own, name) {
		return false
	}
	for _, pattern := range s.cfg.Cookies {
		if prefix, open := strings.CutSuffix(pattern, "*"); name == pattern || open && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
