package oidcsim

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Endpoint names one of the provider's endpoints, relative to the issuer.
type Endpoint string

// The endpoints, as the discovery document names them.
const (
	Discovery  Endpoint = "/.well-known/openid-configuration"
	JWKS       Endpoint = "/jwks"
	Authorize  Endpoint = "/authorize"
	Token      Endpoint = "/token"
	Userinfo   Endpoint = "/userinfo"
	EndSession Endpoint = "/end-session"

	// login is where the login page's buttons post to.
	login Endpoint = "/login"
)

// Provider is an OpenID Provider as an [http.Handler]. Everything it knows is
// in memory. All methods may be called at any time, also while it serves.
type Provider struct {
	cfg     Config
	clients map[string]Client
	mux     map[Endpoint]http.HandlerFunc
	csrf    *http.CrossOriginProtection

	mu       sync.Mutex
	issuer   string
	base     string // path of the issuer, no trailing slash
	people   []*Person
	disabled map[string]bool // by person id
	keys     []signingKey    // newest first; older ones stay published
	sessions map[string]*ssoSession
	codes    map[string]*grantedCode
	access   map[string]*accessToken
	refresh  map[string]*refreshToken
	faults   Faults
	requests map[Endpoint]int
}

// New returns a provider. It starts nothing and has nothing to close.
func New(cfg Config) (*Provider, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("oidcsim: %w", err)
	}
	p := &Provider{
		cfg:      cfg,
		clients:  map[string]Client{},
		csrf:     http.NewCrossOriginProtection(),
		disabled: map[string]bool{},
		sessions: map[string]*ssoSession{},
		codes:    map[string]*grantedCode{},
		access:   map[string]*accessToken{},
		refresh:  map[string]*refreshToken{},
		requests: map[Endpoint]int{},
	}
	p.mux = map[Endpoint]http.HandlerFunc{
		Discovery:  p.serveDiscovery,
		JWKS:       p.serveJWKS,
		Authorize:  p.serveAuthorize,
		Token:      p.serveToken,
		Userinfo:   p.serveUserinfo,
		EndSession: p.serveEndSession,
		login:      p.serveLogin,
	}
	for _, client := range cfg.Clients {
		p.clients[client.ID] = client
	}
	for _, person := range cfg.People {
		p.people = append(p.people, person.clone())
	}
	if cfg.Issuer != "" {
		if err := p.SetIssuer(cfg.Issuer); err != nil {
			return nil, err
		}
	}
	if err := p.RotateKey(); err != nil {
		return nil, err
	}
	return p, nil
}

// SetIssuer says under which URL the provider is reached. Tokens already given
// keep the old issuer.
func (p *Provider) SetIssuer(issuer string) error {
	if err := validIssuer(issuer); err != nil {
		return fmt.Errorf("oidcsim: %w", err)
	}
	u, err := url.Parse(issuer)
	if err != nil {
		return fmt.Errorf("oidcsim: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.issuer, p.base = issuer, u.Path
	return nil
}

// Issuer returns the issuer.
func (p *Provider) Issuer() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.issuer
}

// Requests returns how many requests an endpoint has had, refused and
// faulty ones included.
func (p *Provider) Requests(endpoint Endpoint) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests[endpoint]
}

// ServeHTTP implements [http.Handler].
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	path, under := strings.CutPrefix(r.URL.Path, p.base)
	endpoint := Endpoint(path)
	handler := p.mux[endpoint]
	if handler != nil {
		p.requests[endpoint]++
	}
	if fault := p.faults.Endpoints[endpoint]; fault != nil {
		handler = fault
	}
	p.mu.Unlock()

	if !under || handler == nil {
		p.errorPage(w, http.StatusNotFound, "There is nothing here.")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	handler(w, r)
}

func (p *Provider) serveDiscovery(w http.ResponseWriter, r *http.Request) {
	if !method(w, r, http.MethodGet) {
		return
	}
	p.mu.Lock()
	issuer, faults := p.issuer, p.faults
	p.mu.Unlock()
	document := map[string]any{
		"issuer":                                issuer,
		"authorization_endpoint":                issuer + string(Authorize),
		"token_endpoint":                        issuer + string(Token),
		"userinfo_endpoint":                     issuer + string(Userinfo),
		"jwks_uri":                              issuer + string(JWKS),
		"end_session_endpoint":                  issuer + string(EndSession),
		"response_types_supported":              []string{"code"},
		"response_modes_supported":              []string{"query"},
		"grant_types_supported":                 []string{"authorization_code", "refresh_token"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{p.cfg.Algorithm},
		"scopes_supported":                      []string{"openid", "profile", "email", "offline_access"},
		"claims_supported":                      []string{"sub", "name", "given_name", "family_name", "preferred_username", "email", "email_verified", "groups"},
		"code_challenge_methods_supported":      []string{"S256"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post", "none"},
		"prompt_values_supported":               []string{"none", "login", "select_account"},

		"authorization_response_iss_parameter_supported": true,
		"backchannel_logout_supported":                   p.cfg.HTTP != nil,
		"backchannel_logout_session_supported":           p.cfg.HTTP != nil,
	}
	if faults.Metadata != nil {
		faults.Metadata(document)
	}
	writeJSON(w, http.StatusOK, document)
}

// SetClaims replaces the claims of a person; the next token and userinfo answer
// have them. It reports whether there is such a person.
func (p *Provider) SetClaims(personID string, claims map[string]any) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	person := p.person(personID)
	if person == nil {
		return false
	}
	person.Claims = maps.Clone(claims)
	return true
}

// Disable does what an administrator does to somebody who left: ends the
// person's SSO sessions, tokens and codes, and refuses further logins.
func (p *Provider) Disable(personID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.disabled[personID] = true
	maps.DeleteFunc(p.sessions, func(_ string, s *ssoSession) bool { return s.person == personID })
	maps.DeleteFunc(p.codes, func(_ string, c *grantedCode) bool { return c.grant.person == personID })
	maps.DeleteFunc(p.access, func(_ string, t *accessToken) bool { return t.grant.person == personID })
	maps.DeleteFunc(p.refresh, func(_ string, t *refreshToken) bool { return t.grant.person == personID })
}

// Enable takes Disable back; what was ended stays ended.
func (p *Provider) Enable(personID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.disabled, personID)
}

// person finds a person; p.mu is held.
func (p *Provider) person(id string) *Person {
	for _, person := range p.people {
		if person.ID == id {
			return person
		}
	}
	return nil
}

// sweep forgets what has expired; p.mu is held. Called before anything is added.
func (p *Provider) sweep(now time.Time) {
	maps.DeleteFunc(p.sessions, func(_ string, s *ssoSession) bool { return !now.Before(s.expires) })
	// A used code is remembered for a while, to notice that it is used twice.
	maps.DeleteFunc(p.codes, func(_ string, c *grantedCode) bool { return now.After(c.expires.Add(time.Hour)) })
	maps.DeleteFunc(p.access, func(_ string, t *accessToken) bool { return !now.Before(t.expires) })
	maps.DeleteFunc(p.refresh, func(_ string, t *refreshToken) bool { return !now.Before(t.expires) })
}

// random returns 256 random bits in base64url.
func (p *Provider) random() string {
	var b [32]byte
	if _, err := io.ReadFull(p.cfg.Rand, b[:]); err != nil {
		panic(fmt.Errorf("oidcsim: random source: %w", err)) // a broken Rand is a bug of the test
	}
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	encoded, err := json.Marshal(body)
	if err != nil {
		http.Error(w, "cannot encode the answer", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(encoded)
}

func method(w http.ResponseWriter, r *http.Request, allowed ...string) bool {
	for _, m := range allowed {
		if r.Method == m {
			return true
		}
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	return false
}
