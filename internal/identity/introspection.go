package identity

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/whisp-bff/whisp-bff/internal/flight"
	"github.com/whisp-bff/whisp-bff/internal/problem"
)

// introspectionPause is what a client is asked to wait.
const introspectionPause = 2 * time.Second

const (
	// maxKeptAnswers bounds what is kept, in bytes of JSON.
	maxKeptAnswers = 32 << 20
	// keptWeight is what a kept answer takes besides its JSON, about.
	keptWeight = 256
)

// Introspection is the source "introspection": opaque tokens that only the
// provider can read (RFC 7662).
//
// In Authorization, JWTs are left alone unless their iss is the configured
// issuer: the Whisp SDK sends Whisp's own there. In a header or cookie of our
// own every token is asked about.
//
// Answers are kept for a short time, by a hash of the token. What an answer is
// held against (times, audience, scopes, claims) is checked each time it is
// used, so a kept answer is worth no more than a fresh one. One question per
// token is under way at a time. When the endpoint gives no usable answer, nobody
// is let in: that is identity_unavailable, never "nobody objected".
//
// Not checked: possession of a key (answers with cnf are refused).
type Introspection struct {
	cfg    IntrospectionConfig
	at     place
	client *introspectionClient
	clock  func() time.Time
	log    *slog.Logger

	// good and refused are apart, so that a flood of made-up tokens does not
	// push out those of real people.
	good    *answerCache[map[string]json.RawMessage]
	refused *answerCache[error]
	flight  flight.Group[map[string]json.RawMessage]
	warned  atomic.Int64 // unix second of the last warning

	questions *prometheus.CounterVec
}

// NewIntrospection makes the source. It reads the CA file, if there is one, and
// contacts nobody.
func NewIntrospection(cfg IntrospectionConfig, deps Deps) (*Introspection, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("identity: introspection: %w", err)
	}
	if deps.Logger == nil || deps.Clock == nil || deps.Rand == nil {
		return nil, errors.New("identity: introspection: logger, clock and rand are required")
	}
	client, err := newProviderClient(deps.Transport, cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("identity: introspection: %w", err)
	}
	asks := &introspectionClient{cfg: cfg, client: client, clock: deps.Clock, rand: deps.Rand}
	if cfg.ClientAuth == authPrivateKey {
		if asks.key, err = readClientKey(cfg); err != nil {
			return nil, fmt.Errorf("identity: introspection: private_key: %w", err)
		}
	} else if cfg.ClientSecret.Text().Empty() {
		return nil, errors.New("identity: introspection: client_secret is empty")
	}
	s := &Introspection{
		cfg: cfg, at: cfg.at(), client: asks, clock: deps.Clock, log: deps.Logger,
		good:    newAnswerCache[map[string]json.RawMessage](cfg.CacheSize, maxKeptAnswers),
		refused: newAnswerCache[error](cfg.CacheSize, maxKeptAnswers),
		questions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "whisp_bff_identity_introspections_total",
			Help: "Tokens looked up by outcome: active, inactive, failed (asked), cached (not asked).",
		}, []string{"outcome"}),
	}
	if deps.Metrics != nil {
		s.questions = register(deps.Metrics, s.questions)
	}
	return s, nil
}

// Name implements [Source].
func (s *Introspection) Name() string { return "introspection" }

// Headers are the names of the headers, other than Authorization, that this
// source reads: nobody behind us needs them, and they are credentials.
func (s *Introspection) Headers() []string {
	if s.at.header == "" || s.at.shared() {
		return nil
	}
	return []string{s.at.header}
}

// Close waits for questions under way, which their timeout bounds, and closes
// idle connections. No Identify may start meanwhile.
func (s *Introspection) Close() {
	s.flight.Wait()
	s.client.client.CloseIdleConnections()
}

// ReadsAuthorization reports whether tokens may come in Authorization.
func (s *Introspection) ReadsAuthorization() bool { return s.at.shared() }

// TrustsInAuthorization reports whether the issuer is the one configured, and its
// tokens may come there.
func (s *Introspection) TrustsInAuthorization(issuer string) bool {
	return s.at.shared() && issuer == s.cfg.Issuer
}

// Identify implements [Source].
func (s *Introspection) Identify(ctx context.Context, r *http.Request) (Answer, error) {
	token, err := s.at.find(r)
	switch {
	case errors.Is(err, ErrSkip):
		return Answer{}, ErrSkip
	case err != nil:
		return Answer{}, problem.CredentialRefused().Because(err)
	case s.at.shared() && !s.ours(token):
		return Answer{}, ErrSkip
	case len(token) > maxToken || !isToken68(token):
		return Answer{}, problem.CredentialRefused().Because(fmt.Errorf("%s: not in the form of a token", s.at))
	}
	answer, refused, err := s.look(ctx, token)
	if err != nil {
		s.warn(ctx, err)
		return Answer{}, problem.IdentityUnavailable().After(introspectionPause).Because(err)
	}
	if refused == nil {
		var found Answer
		if found, refused = s.check(answer); refused == nil {
			found.Authorization = s.at.shared()
			return found, nil
		}
	}
	return Answer{}, problem.CredentialRefused().Because(refused)
}

// ours tells a token in Authorization that is for this source from a JWT of
// somebody else.
func (s *Introspection) ours(raw string) bool {
	token, err := parseToken(raw, false)
	if err != nil { // opaque, encrypted, too long: nobody else can read it, either
		return true
	}
	return token.issuer() == s.cfg.Issuer
}

// isToken68 is the form of a bearer token (RFC 6750 section 2.1).
func isToken68(token string) bool {
	text := strings.TrimRight(token, "=")
	if text == "" {
		return false
	}
	for _, c := range []byte(text) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && !strings.ContainsRune("-._~+/", rune(c)) {
			return false
		}
	}
	return true
}

// look returns the answer about a token, kept or fresh, or why one was refused a
// moment ago. Callers must not change the answer.
func (s *Introspection) look(ctx context.Context, token string) (answer map[string]json.RawMessage, refused, err error) {
	sum := sha256.Sum256([]byte(lengthPrefixed("introspection", s.cfg.URL.String(), s.cfg.Issuer, token)))
	key, now := string(sum[:]), s.clock()
	if answer, ok := s.good.get(key, now); ok {
		s.questions.WithLabelValues("cached").Inc()
		return answer, nil, nil
	}
	if refused, ok := s.refused.get(key, now); ok {
		s.questions.WithLabelValues("cached").Inc()
		return nil, refused, nil
	}
	answer, err = s.flight.Do(ctx, key, s.cfg.Timeout.D(), func(ctx context.Context) (map[string]json.RawMessage, error) {
		asked := s.clock()
		answer, err := s.client.ask(ctx, token)
		if err != nil {
			s.questions.WithLabelValues("failed").Inc()
			return nil, err
		}
		s.keep(key, answer, asked)
		return answer, nil
	})
	return answer, nil, err
}

// keep keeps an answer that was asked for at a time: a good one until its exp at
// most, of one that is refused only why, and briefly.
func (s *Introspection) keep(key string, answer map[string]json.RawMessage, asked time.Time) {
	outcome := "inactive"
	if string(answer["active"]) == "true" {
		outcome = "active"
	}
	s.questions.WithLabelValues(outcome).Inc()
	found, err := s.check(answer)
	if err != nil {
		s.refused.put(key, err, keptWeight, asked, asked.Add(s.cfg.RefusedFor.D()))
		return
	}
	till, weight := asked.Add(s.cfg.CacheFor.D()), keptWeight
	if !found.Expires.IsZero() && found.Expires.Before(till) {
		till = found.Expires
	}
	for name, value := range answer {
		weight += len(name) + len(value)
	}
	s.good.put(key, answer, weight, asked, till)
}

// check holds an answer against the configuration and the clock (RFC 7662
// section 2.2). Its errors quote nothing of the answer.
func (s *Introspection) check(answer map[string]json.RawMessage) (Answer, error) {
	if string(answer["active"]) != "true" {
		return Answer{}, errors.New("token is not active")
	}
	subject, err := textMember(answer, s.cfg.SubjectClaim)
	if err != nil || validSubject(subject) != nil {
		return Answer{}, errors.New(s.cfg.SubjectClaim + " is missing, too long or not text")
	}
	issuer, err := textMember(answer, "iss")
	if err != nil || issuer != "" && issuer != s.cfg.Issuer {
		return Answer{}, errors.New("iss is another than the one configured")
	}
	if _, bound := answer["cnf"]; bound {
		return Answer{}, errors.New("cnf binds the token to a key of the client, which is not checked here")
	}
	if err := s.checkDemands(answer); err != nil {
		return Answer{}, err
	}
	expires, err := s.checkTimes(answer)
	if err != nil {
		return Answer{}, err
	}
	raw := maps.Clone(answer)
	raw["iss"] = json.RawMessage(quoteJSON(s.cfg.Issuer))
	claims, _, err := DecodeClaims(raw)
	if err != nil {
		return Answer{}, err
	}
	return Answer{Identity: Identity{Issuer: s.cfg.Issuer, Subject: subject, Claims: claims}, Expires: expires}, nil
}

func quoteJSON(text string) []byte {
	quoted, err := json.Marshal(text)
	if err != nil { // a string: cannot fail
		panic(err)
	}
	return quoted
}

// checkDemands: who the token was made for, and what it may do.
func (s *Introspection) checkDemands(answer map[string]json.RawMessage) error {
	audience, err := textOrList(answer["aud"])
	if err != nil {
		return errors.New("aud is no text or list of texts")
	}
	if len(s.cfg.Audience) > 0 && !slices.ContainsFunc(audience, func(one string) bool { return slices.Contains(s.cfg.Audience, one) }) {
		return errors.New("aud is missing, or none of those configured")
	}
	client, err := textMember(answer, "client_id")
	if err != nil || len(s.cfg.ClientIDs) > 0 && !slices.Contains(s.cfg.ClientIDs, client) {
		return errors.New("client_id is missing, or none of those configured")
	}
	scope, err := textMember(answer, "scope")
	if err != nil {
		return err
	}
	granted := strings.Fields(scope)
	for _, wanted := range s.cfg.Scopes {
		if !slices.Contains(granted, wanted) {
			return errors.New("scope lacks one that is required")
		}
	}
	return checkRequired(s.cfg.RequiredClaims, answer)
}

func (s *Introspection) checkTimes(answer map[string]json.RawMessage) (expires time.Time, err error) {
	now, leeway := s.clock(), s.cfg.ClockLeeway.D()
	expires, ends, err := TimeClaim(answer, "exp")
	if err != nil {
		return time.Time{}, err
	}
	notBefore, begins, err := TimeClaim(answer, "nbf")
	switch {
	case err != nil:
		return time.Time{}, err
	case ends && !now.Add(-leeway).Before(expires):
		return time.Time{}, errors.New("exp is past")
	case begins && notBefore.After(now.Add(leeway)):
		return time.Time{}, errors.New("nbf is in the future")
	}
	return expires, nil
}

// warn logs at most one line per ten seconds: the request's own line has every
// failure, this one wakes an operator.
func (s *Introspection) warn(ctx context.Context, cause error) {
	if errors.Is(cause, context.Canceled) { // a browser that left
		return
	}
	now, last := s.clock().Unix(), s.warned.Load()
	if now-last >= 0 && now-last < 10 || !s.warned.CompareAndSwap(last, now) {
		return
	}
	s.log.WarnContext(ctx, "introspection gives no usable answer", "error", cause)
}
