package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/keyset"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// keysUnavailablePause is what a client is asked to wait.
const keysUnavailablePause = 5 * time.Second

// Bearer is the source "bearer": JWTs of trusted issuers, verified here
// (RFC 7519, RFC 7515, with the advice of RFC 8725).
//
// Which issuer's rules apply is decided by the token's iss, before anything is
// verified, and by where the token stands; they are then the only rules it is
// held against. In Authorization, tokens of other issuers are left alone: the
// Whisp SDK sends Whisp's own there, and opaque ones are for introspection. In a
// header or cookie of our own every token must pass.
//
// Nothing is kept of a token: each request verifies anew, which costs some 50 to
// 100 µs, so there is no cache that could outlive a withdrawn key. Not checked:
// revocation (a JWT is good until exp), and possession of a key (tokens with cnf
// are refused).
type Bearer struct {
	places  []place // in the order of the configuration
	trusted map[place]map[string]*trusted
	log     *keyLog
	close   []func()
}

// trusted is one issuer at one place.
type trusted struct {
	cfg   BearerConfig // complete
	types []string     // cfg.Types, folded as typ is
	clock func() time.Time
	keys  keySource
	alb   *albKeySource // nil unless the preset is aws_alb; then it is keys, too
}

// keySource verifies with the keys of one issuer; [keyset.Set] is the usual one.
type keySource interface {
	// Verify returns nil, or an error that wraps [keyset.ErrNoKey] or
	// [keyset.ErrUnavailable].
	Verify(ctx context.Context, kid, alg string, check func(key any) bool) error
}

// NewBearer makes the source from at least one issuer. It reads files and
// contacts nobody: keys are fetched when the first token needs them. The errors of
// the configuration have paths like "[1].audience".
func NewBearer(list []BearerConfig, deps Deps) (*Bearer, error) {
	if err := ValidateBearer(list); err != nil {
		return nil, fmt.Errorf("identity: bearer: %w", err)
	}
	if deps.Logger == nil || deps.Clock == nil {
		return nil, errors.New("identity: bearer: logger and clock are required")
	}
	b := &Bearer{trusted: map[place]map[string]*trusted{}, log: newKeyLog(deps)}
	for i, cfg := range list {
		cfg = cfg.complete()
		t, err := b.trust(cfg, deps)
		if err != nil {
			b.Close()
			return nil, fmt.Errorf("identity: bearer%s: %w", element("", i), err)
		}
		at := placeOf(cfg.Header, cfg.Cookie)
		if b.trusted[at] == nil {
			b.places = append(b.places, at)
			b.trusted[at] = map[string]*trusted{}
		}
		b.trusted[at][cfg.Issuer] = t
	}
	return b, nil
}

// ValidateBearer validates a whole list: each element, and that no two are for
// the same tokens.
func ValidateBearer(list []BearerConfig) error {
	var problems setting.Problems
	if len(list) == 0 {
		problems.Add("", "is empty", "list at least one issuer, or take bearer out of sources")
	}
	seen := map[string]bool{}
	for i, cfg := range list {
		problems.Include(element("", i), cfg.Validate())
		cfg = cfg.complete()
		key := lengthPrefixed(placeOf(cfg.Header, cfg.Cookie).String(), cfg.Issuer)
		if seen[key] {
			problems.Add(element("", i), "has issuer and place of another", "merge the two, so that it is clear which rules a token is held against")
		}
		seen[key] = true
	}
	return problems.Err()
}

// Name implements [Source].
func (b *Bearer) Name() string { return "bearer" }

// Close ends fetches under way and idle connections. Identify fails afterwards
// when it needs keys it does not have.
func (b *Bearer) Close() {
	for _, one := range b.close {
		one()
	}
}

// Headers are the names of the headers, other than Authorization, that this
// source reads: nobody behind us needs them, and they are credentials.
func (b *Bearer) Headers() []string {
	var names []string
	for _, at := range b.places {
		if at.header != "" && !at.shared() {
			names = append(names, at.header)
		}
	}
	return names
}

// ReadsAuthorization reports whether tokens may come in Authorization.
func (b *Bearer) ReadsAuthorization() bool {
	return slices.ContainsFunc(b.places, place.shared)
}

// TrustsInAuthorization reports whether the issuer is configured for Authorization.
func (b *Bearer) TrustsInAuthorization(issuer string) bool {
	return slices.ContainsFunc(b.places, func(at place) bool { return at.shared() && b.trusted[at][issuer] != nil })
}

// Identify implements [Source].
func (b *Bearer) Identify(ctx context.Context, r *http.Request) (Answer, error) {
	for _, at := range b.places {
		raw, err := at.find(r)
		if errors.Is(err, ErrSkip) {
			continue
		}
		if err != nil {
			return Answer{}, problem.CredentialRefused().Because(err)
		}
		answer, err := b.check(ctx, at, raw)
		if errors.Is(err, ErrSkip) {
			continue
		}
		answer.Authorization = at.shared()
		return answer, err
	}
	return Answer{}, ErrSkip
}

// check verifies the token that stands at a place. Its error is [ErrSkip] or a
// problem.
func (b *Bearer) check(ctx context.Context, at place, raw string) (Answer, error) {
	issuers := b.trusted[at]
	t, token, err := route(issuers, raw)
	if at.shared() && (errors.Is(err, errOpaque) || err == nil && t == nil) {
		return Answer{}, ErrSkip
	}
	if err == nil && t == nil {
		err = errors.New("iss is none of those configured here")
	}
	if err != nil {
		return Answer{}, problem.CredentialRefused().Because(fmt.Errorf("%s: %w", at, err))
	}
	answer, err := t.verify(ctx, token)
	switch {
	case errors.Is(err, keyset.ErrUnavailable):
		return Answer{}, problem.IdentityUnavailable().After(keysUnavailablePause).Because(fmt.Errorf("issuer %s: %w", t.cfg.Issuer, err))
	case err != nil:
		return Answer{}, problem.CredentialRefused().Because(fmt.Errorf("issuer %s: %w", t.cfg.Issuer, err))
	}
	return answer, nil
}

// route takes a token apart and finds the one issuer it claims to be of; nil if
// that is none of those given.
func route(issuers map[string]*trusted, raw string) (*trusted, signedToken, error) {
	padded := false
	for _, t := range issuers {
		padded = padded || t.alb != nil
	}
	token, err := parseToken(raw, padded)
	if err != nil {
		return nil, signedToken{}, err
	}
	if padded {
		token = token.withHeaderClaims()
	}
	t := issuers[token.issuer()]
	if t != nil && t.alb == nil && strings.Contains(token.signed, "=") {
		return nil, signedToken{}, errors.New("token has padding")
	}
	return t, token, nil
}

// verify checks cheap things before costly ones.
func (t *trusted) verify(ctx context.Context, token signedToken) (Answer, error) {
	alg, kid, err := t.checkHeader(token.header)
	if err != nil {
		return Answer{}, err
	}
	if t.alb != nil {
		if err := t.alb.checkHeader(token.header); err != nil {
			return Answer{}, err
		}
	}
	// The claims are not trusted yet, but what they are refused for now would
	// be refused after the signature as well, and costs nobody a fetch of keys.
	subject, expires, err := t.checkClaims(token.claims)
	if err != nil {
		return Answer{}, err
	}
	method := methods[alg]
	if err := t.keys.Verify(ctx, kid, alg, func(key any) bool {
		return method.fits(key) && method.Verify(token.signed, token.signature, key) == nil
	}); err != nil {
		return Answer{}, err
	}
	claims, _, err := DecodeClaims(token.claims)
	if err != nil {
		return Answer{}, err
	}
	return Answer{Identity: Identity{Issuer: t.cfg.Issuer, Subject: subject, Claims: claims}, Expires: expires}, nil
}

func foldTypes(types []string) []string {
	folded := slices.Clone(types)
	for i, typ := range folded {
		folded[i] = strings.TrimPrefix(strings.ToLower(typ), "application/")
	}
	return folded
}
