package login

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/oauth2"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

const (
	// quickDiscovery bounds the one attempt of a login that finds no metadata.
	quickDiscovery = 3 * time.Second
	// Discovery that fails is tried again after firstPause, doubled up to lastPause.
	firstPause = 500 * time.Millisecond
	lastPause  = 30 * time.Second
	// maxHint is the longest ID token kept as id_token_hint: the hint goes into
	// a URL, and servers refuse long ones.
	maxHint = 4096
)

// Once remembers that something happened.
type Once interface {
	// SetIfAbsent stores value under key for ttl and reports true, or reports
	// false if the key was there.
	SetIfAbsent(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error)
	// Has reports whether the key is there.
	Has(ctx context.Context, key string) (bool, error)
}

// Deps is what a [RelyingParty] needs from outside; all but Transport and Metrics are required.
type Deps struct {
	Logger *slog.Logger
	Clock  func() time.Time
	// Rand must be safe for use by several goroutines, as crypto/rand.Reader is.
	Rand io.Reader
	// PublicURL is where browsers reach us; only its origin is used.
	PublicURL setting.URL
	// StateKeys seal logins in progress: 32 bytes each, newest first, the same
	// on every replica.
	StateKeys []secret.Text
	Once      Once
	// Transport carries requests to the provider; if nil, New makes one from the
	// configuration. It must not follow redirects itself.
	Transport http.RoundTripper
	// Metrics may be nil: then nothing is counted.
	Metrics prometheus.Registerer
}

// RelyingParty does logins at one provider. All methods may be called at the same
// time, before, during and after Run.
type RelyingParty struct {
	cfg    Config
	log    *slog.Logger
	clock  func() time.Time
	rand   io.Reader
	origin string
	keys   stateKeys
	jar    cookieJar
	once   Once
	client *http.Client
	ready  prometheus.Gauge

	discovering chan struct{} // holds one value while somebody discovers
	lastFailure time.Time     // guarded by discovering
	provider    atomic.Pointer[provider]
}

// provider is what discovery found. It is never changed, only replaced.
type provider struct {
	metadata
	keySet *keySet
}

// New makes a relying party. It reads the CA file, if there is one, and contacts
// nobody.
func New(cfg Config, deps Deps) (*RelyingParty, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	if deps.Logger == nil || deps.Clock == nil || deps.Rand == nil || deps.Once == nil {
		return nil, errors.New("login: logger, clock, rand and once are required")
	}
	if deps.PublicURL.Empty() || deps.PublicURL.Scheme != "https" && !deps.PublicURL.Loopback() {
		return nil, errors.New("login: public URL must be https, or http on a loopback address")
	}
	keys, err := newStateKeys(deps.StateKeys)
	if err != nil {
		return nil, err
	}
	transport := deps.Transport
	if transport == nil {
		if transport, err = newTransport(cfg); err != nil {
			return nil, err
		}
	}
	counts, err := newMetrics(deps.Metrics)
	if err != nil {
		return nil, fmt.Errorf("login: register metrics: %w", err)
	}
	return &RelyingParty{
		cfg: cfg, log: deps.Logger, clock: deps.Clock, rand: deps.Rand, once: deps.Once,
		origin:      deps.PublicURL.Origin(),
		keys:        keys,
		jar:         cookieJar{secure: deps.PublicURL.Scheme == "https"},
		client:      newClient(observedTransport{transport, counts, deps.Clock}),
		ready:       counts.ready,
		discovering: make(chan struct{}, 1),
	}, nil
}

// Run discovers the provider, again and again until it works, and then keeps
// metadata and keys fresh. It returns when ctx ends. Call it once.
func (rp *RelyingParty) Run(ctx context.Context) {
	defer rp.client.CloseIdleConnections()
	failures := 0
	for {
		pause := rp.cfg.RefreshInterval.D()
		if err := rp.refresh(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			pause = min(firstPause<<min(failures, 16), lastPause)
			failures++
			rp.log.WarnContext(ctx, "identity provider not discovered", "failures", failures, "ready", rp.Ready() == nil, "error", err)
		} else {
			if failures > 0 {
				rp.log.InfoContext(ctx, "identity provider discovered", "failures", failures)
			}
			failures = 0
		}
		timer := time.NewTimer(rp.jitter(pause))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// jitter returns between half of pause and all of it, so that replicas do not
// ask in step.
func (rp *RelyingParty) jitter(pause time.Duration) time.Duration {
	var b [1]byte
	if _, err := io.ReadFull(rp.rand, b[:]); err != nil {
		return pause
	}
	return pause/2 + pause/2*time.Duration(b[0])/255
}

// Ready returns nil once the provider has been discovered. It stays nil when the
// provider goes away later: the metadata is still good.
func (rp *RelyingParty) Ready() error {
	if rp.provider.Load() == nil {
		return errors.New("identity provider not discovered yet")
	}
	return nil
}

// refresh discovers and fetches the keys, also when that was done before.
func (rp *RelyingParty) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, rp.cfg.Timeout.D())
	defer cancel()
	if err := rp.lockDiscovery(ctx); err != nil {
		return err
	}
	defer func() { <-rp.discovering }()
	found, err := rp.discover(ctx)
	if err != nil {
		return err
	}
	if err := found.keySet.Refresh(ctx); err != nil {
		// Logins try again by themselves, so this does not make us unready.
		return fmt.Errorf("fetch keys: %w", err)
	}
	return nil
}

// discovered returns the provider, after one quick attempt if need be. The error
// is a problem.
func (rp *RelyingParty) discovered(ctx context.Context) (*provider, error) {
	if found := rp.provider.Load(); found != nil {
		return found, nil
	}
	ctx, cancel := context.WithTimeout(ctx, min(quickDiscovery, rp.cfg.Timeout.D()))
	defer cancel()
	if err := rp.lockDiscovery(ctx); err != nil {
		return nil, problem.ProviderUnavailable().After(quickDiscovery).Because(err)
	}
	defer func() { <-rp.discovering }()
	if found := rp.provider.Load(); found != nil {
		return found, nil
	}
	if since := rp.clock().Sub(rp.lastFailure); since >= 0 && since < time.Second {
		return nil, problem.ProviderUnavailable().After(quickDiscovery).Because(errors.New("discovery failed a moment ago"))
	}
	found, err := rp.discover(ctx)
	if err != nil {
		return nil, problem.ProviderUnavailable().After(quickDiscovery).Because(err)
	}
	return found, nil
}

// lockDiscovery makes discovery one at a time, without ignoring ctx.
func (rp *RelyingParty) lockDiscovery(ctx context.Context) error {
	select {
	case rp.discovering <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for discovery: %w", ctx.Err())
	}
}

// discover fetches metadata and publishes it; the caller holds discovering. Keys
// already known stay, unless the key set has moved.
func (rp *RelyingParty) discover(ctx context.Context) (*provider, error) {
	m, err := fetchMetadata(ctx, rp.client, rp.cfg.Issuer)
	if err != nil {
		if !errors.Is(ctx.Err(), context.Canceled) { // a browser that left says nothing about the provider
			rp.lastFailure = rp.clock()
		}
		return nil, err
	}
	found := &provider{metadata: m}
	if before := rp.provider.Load(); before != nil && before.JWKSURI == m.JWKSURI {
		found.keySet = before.keySet
	} else {
		found.keySet = newKeySet(m.JWKSURI, rp.client, rp.clock, rp.cfg)
	}
	rp.provider.Store(found)
	rp.ready.Set(1)
	return found, nil
}

// oauth returns the client side of the code flow at p.
func (rp *RelyingParty) oauth(p *provider) *oauth2.Config {
	return &oauth2.Config{
		ClientID:     rp.cfg.ClientID,
		ClientSecret: rp.cfg.ClientSecret.Text().Reveal(),
		RedirectURL:  rp.origin + CallbackPath,
		Scopes:       rp.cfg.Scopes,
		Endpoint:     oauth2.Endpoint{AuthURL: p.AuthorizationEndpoint, TokenURL: p.TokenEndpoint, AuthStyle: rp.authStyle(p)},
	}
}

// authStyle decides how to send the client secret before anything is sent.
// x/oauth2's own detection tries both ways, which burns the code, or the
// refresh token, at providers that revoke what is used twice.
func (rp *RelyingParty) authStyle(p *provider) oauth2.AuthStyle {
	switch {
	case rp.cfg.ClientSecret.Text().Empty(), rp.cfg.TokenEndpointAuth == "post":
		return oauth2.AuthStyleInParams
	case rp.cfg.TokenEndpointAuth == "basic", len(p.TokenAuthMethods) == 0: // basic is the default of Discovery 1.0
		return oauth2.AuthStyleInHeader
	case slices.Contains(p.TokenAuthMethods, "client_secret_basic"), !slices.Contains(p.TokenAuthMethods, "client_secret_post"):
		return oauth2.AuthStyleInHeader
	}
	return oauth2.AuthStyleInParams
}

// LogoutURL returns where to send the browser so that it is logged out at the
// provider too (RP-Initiated Logout 1.0). ok is false if the provider offers no
// such thing or has not been discovered. The URL contains the ID token: redirect
// to it, but never log it.
func (rp *RelyingParty) LogoutURL(idToken secret.Text) (address string, ok bool) {
	found := rp.provider.Load()
	if found == nil || found.EndSessionEndpoint == "" {
		return "", false
	}
	u, err := url.Parse(found.EndSessionEndpoint)
	if err != nil {
		return "", false
	}
	query := u.Query()
	query.Set("client_id", rp.cfg.ClientID)
	query.Set("post_logout_redirect_uri", rp.origin+rp.cfg.PostLogoutPath)
	if !idToken.Empty() && len(idToken.Reveal()) <= maxHint {
		query.Set("id_token_hint", idToken.Reveal())
	}
	u.RawQuery = query.Encode()
	return u.String(), true
}
