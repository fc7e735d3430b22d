package login

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/oauth2"

	"github.com/whisp-bff/whisp-bff/internal/keyset"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

var (
	// ErrClientRefused: the provider does not know the client, or its secret is
	// another.
	ErrClientRefused = errors.New("the provider refuses client_id or client_secret")
	// ErrRedirectRefused: the provider answers an authorization request with our
	// redirect URI with an error instead of sending the browser back.
	ErrRedirectRefused = errors.New("the provider refuses the request")
	// ErrNotTold: the answer allows no conclusion.
	ErrNotTold = errors.New("the provider's answer allows no conclusion")
)

// Probe asks a provider what logins will depend on, without anybody logging in:
// for whoever sets whisp-bff up. Nothing is left behind at the provider, except in
// its logs.
type Probe struct {
	rp     *RelyingParty
	client *http.Client
	found  *provider
}

// ProviderFacts are what a provider's metadata tells.
type ProviderFacts struct {
	// S256 tells that PKCE with S256 is among its methods; Methods that it lists
	// methods at all.
	S256, Methods bool
	// UnknownScopes are those of the configuration that it does not list; nil if
	// it lists none.
	UnknownScopes []string
	Logout        bool // RP-initiated
}

// NewProbe reads the CA file, if there is one, and contacts nobody. wrap is given
// the transport that carries all that is asked. Of deps only Clock, Rand, Logger
// and PublicURL count.
func NewProbe(cfg Config, deps Deps, wrap func(http.RoundTripper) http.RoundTripper) (*Probe, error) {
	transport, err := newTransport(cfg)
	if err != nil {
		return nil, err
	}
	client := newClient(wrap(transport))
	return &Probe{client: client, rp: &RelyingParty{
		cfg: cfg, log: deps.Logger, clock: deps.Clock, rand: deps.Rand, origin: deps.PublicURL.Origin(), client: client,
	}}, nil
}

// RedirectURI is what to register at the provider.
func (p *Probe) RedirectURI() string { return p.rp.origin + CallbackPath }

// Close ends idle connections.
func (p *Probe) Close() { p.client.CloseIdleConnections() }

// Discover reads the metadata; the other methods need it to have worked.
func (p *Probe) Discover(ctx context.Context) (ProviderFacts, error) {
	m, err := fetchMetadata(ctx, p.client, p.rp.cfg.Issuer)
	if err != nil {
		return ProviderFacts{}, err
	}
	p.found = &provider{metadata: m, keySet: newKeySet(m.JWKSURI, p.client, p.rp.clock, p.rp.cfg)}
	var more struct {
		Methods []string `json:"code_challenge_methods_supported"`
		Scopes  []string `json:"scopes_supported"`
	}
	address := strings.TrimSuffix(p.rp.cfg.Issuer.String(), "/") + "/.well-known/openid-configuration"
	if err := getJSON(ctx, p.client, address, secret.Text{}, &more); err != nil {
		return ProviderFacts{}, fmt.Errorf("fetch metadata: %w", err)
	}
	facts := ProviderFacts{S256: slices.Contains(more.Methods, "S256"), Methods: len(more.Methods) > 0, Logout: m.EndSessionEndpoint != ""}
	for _, scope := range p.rp.cfg.Scopes {
		if len(more.Scopes) > 0 && !slices.Contains(more.Scopes, scope) {
			facts.UnknownScopes = append(facts.UnknownScopes, scope)
		}
	}
	return facts, nil
}

// Keys fetches the key set and counts the keys for signatures, and those of them
// that an algorithm of signing_algorithms can use.
func (p *Probe) Keys(ctx context.Context) (usable, all int, err error) {
	var document json.RawMessage
	if err := getJSON(ctx, p.client, p.found.JWKSURI, secret.Text{}, &document); err != nil {
		return 0, 0, err
	}
	keys, err := keyset.Parse(document)
	if err != nil {
		return 0, 0, err
	}
	for _, key := range keys {
		if slices.ContainsFunc(p.rp.cfg.SigningAlgorithms, key.For) {
			usable++
		}
	}
	return usable, len(keys), nil
}

// Client asks whether the provider accepts client_id and client_secret: it tries
// to redeem a code that was never given out, which a known client is told by
// invalid_grant, and another by invalid_client (RFC 6749 section 5.2). The error is
// nil, [ErrClientRefused], [ErrNotTold], or why nothing was learnt.
//
// A provider that looks at the code first refuses both alike; so it is asked a
// second time with a made-up secret, which it must refuse.
func (p *Probe) Client(ctx context.Context) error {
	code, err := p.redeem(ctx, p.rp.oauth(p.found))
	switch {
	case err != nil:
		return err
	case code == "invalid_client", code == "unauthorized_client":
		return ErrClientRefused
	case code != "invalid_grant" || p.rp.cfg.ClientSecret.Text().Empty():
		return ErrNotTold
	}
	forged := p.rp.oauth(p.found)
	if forged.ClientSecret, err = p.random(); err != nil {
		return err
	}
	if code, err = p.redeem(ctx, forged); err != nil || code != "invalid_client" {
		return errors.Join(ErrNotTold, err)
	}
	return nil
}

// redeem returns the error code that a made-up code is refused with.
func (p *Probe) redeem(ctx context.Context, oauth *oauth2.Config) (code string, err error) {
	made, err := p.random()
	if err != nil {
		return "", err
	}
	_, err = oauth.Exchange(context.WithValue(ctx, oauth2.HTTPClient, p.client), made, oauth2.VerifierOption(made+made))
	refused, ok := errors.AsType[*oauth2.RetrieveError](err)
	switch {
	case err == nil:
		return "", errors.New("the token endpoint redeems a code that was never given out")
	case !ok:
		return "", withoutURL(err)
	case refused.Response.StatusCode == http.StatusUnauthorized:
		return "invalid_client", nil // the status says so (RFC 6749 section 5.2); codes vary
	}
	return cleaned(refused.ErrorCode), nil
}

// Redirect asks whether our redirect URI is registered: an authorization request
// with prompt=none comes back to a registered one with an error (OpenID Connect
// Core 1.0 section 3.1.2.6), and must never come back to another. The error is
// nil, [ErrRedirectRefused], [ErrNotTold], or why nothing was learnt.
func (p *Probe) Redirect(ctx context.Context) error {
	made, err := p.random()
	if err != nil {
		return err
	}
	address := p.rp.oauth(p.found).AuthCodeURL(made, oauth2.S256ChallengeOption(made+made),
		oauth2.SetAuthURLParam("prompt", "none"), oauth2.SetAuthURLParam("nonce", made))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return errors.New("authorization_endpoint cannot be used")
	}
	response, err := p.client.Transport.RoundTrip(request) // no redirect is followed
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	location, err := response.Location()
	switch {
	case err == nil && setting.URL{URL: *location}.Origin() == p.rp.origin && location.Path == CallbackPath:
		return nil
	case response.StatusCode >= http.StatusBadRequest && response.StatusCode < http.StatusInternalServerError:
		return fmt.Errorf("%w with status %d", ErrRedirectRefused, response.StatusCode)
	}
	return ErrNotTold
}

// random is 32 bytes in base64, which also makes half a code verifier.
func (p *Probe) random() (string, error) {
	bytes := make([]byte, 32)
	if _, err := io.ReadFull(p.rp.rand, bytes); err != nil {
		return "", fmt.Errorf("random bytes: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(bytes), nil
}
