package server_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/whisp-bff/whisp-bff/internal/access"
	"github.com/whisp-bff/whisp-bff/internal/broker"
	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/login"
	"github.com/whisp-bff/whisp-bff/internal/oidcsim"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/server"
	"github.com/whisp-bff/whisp-bff/internal/session"
	"github.com/whisp-bff/whisp-bff/internal/setting"
	"github.com/whisp-bff/whisp-bff/internal/sockproxy"
	"github.com/whisp-bff/whisp-bff/internal/store"
	"github.com/whisp-bff/whisp-bff/internal/telemetry"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

const (
	publicHost   = "app.example.com"
	publicOrigin = "https://" + publicHost
	apiKey       = "wk-live-0123456789abcdef-never-to-be-seen"
	clientSecret = "client-secret-never-to-be-seen"
	masterSecret = "master-secret-of-more-than-32-bytes-never-to-be-seen"
)

// stack is the whole product in one process, in front of a simulated Whisp, a
// simulated provider and an app, each on a loopback listener. The public URL is
// https, as in production: a load balancer that ends TLS is what tests play.
type stack struct {
	base, admin string // where the listeners are, http://127.0.0.1:port
	whisp       *whispsim.Server
	provider    *oidcsim.Provider
	app         *app
	stopApp     func()
	clock       *clock
	logs        *logs
	metrics     *prometheus.Registry
	client      *http.Client
	server      *server.Server
	broker      *broker.Broker
	storeDown   atomic.Bool  // of sessions and used logins
	stop        func() error // shuts down; may be called again

	mu      sync.Mutex
	secrets []string // besides the constants: whatever must be in no log
	seen    strings.Builder
}

// setup is what a test may want different.
type setup struct {
	server     server.Config
	session    session.Config
	access     access.Config
	sources    func(*stack, *session.Sessions) []identity.Source // nil: our own sessions
	strip      []string                                          // headers of the sources
	noLogin    bool
	whisp      upstream.WhispConfig
	sim        whispsim.Config
	account    broker.AccountConfig
	app        http.HandlerFunc
	appURL     string // in place of app
	realtime   sockproxy.Config
	quiet      bool // no access log: benchmarks
	providerUp func() bool
	noChecks   bool // benchmarks keep no record of answers
	hangs      bool // shutdown cannot be complete
	tune       func(*server.Server)
}

func start(t testing.TB, changes ...func(*setup)) *stack {
	t.Helper()
	s := &stack{clock: &clock{}, logs: &logs{}, metrics: prometheus.NewRegistry()}
	conf := setup{
		server: server.DefaultConfig(), session: session.DefaultConfig(), access: access.DefaultConfig(), whisp: upstream.DefaultWhispConfig(), account: broker.DefaultAccountConfig(),
		realtime: sockproxy.DefaultConfig(), providerUp: func() bool { return true },
	}
	conf.server.Listen, conf.server.AdminListen = "127.0.0.1:0", "127.0.0.1:0"
	conf.server.ShutdownTimeout = setting.Duration(5 * time.Second)
	conf.realtime.Drain = 0
	conf.realtime.MaxFrameRate = 200
	conf.realtime.HandshakeTimeout = setting.Duration(time.Second)
	conf.whisp.Retries = 0
	conf.whisp.RefreshPatience = 0
	for _, change := range changes {
		change(&conf)
	}
	s.app = &app{handler: conf.app}
	s.startPeers(t, &conf)
	s.startServer(t, conf)
	api, err := described()
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 300}
	s.client = &http.Client{
		Transport:     &describedTransport{transport, api, s, t},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       20 * time.Second,
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := s.stop(); err != nil && !conf.hangs {
			t.Errorf("shutdown: %v", err)
		}
		if !conf.noChecks {
			s.verifySecrecy(t)
		}
	})
	return s
}

// startPeers starts Whisp, the provider and the app.
func (s *stack) startPeers(t testing.TB, conf *setup) {
	t.Helper()
	conf.sim.APIKeys = []secret.Text{secret.New(apiKey)}
	conf.sim.Clock, conf.sim.Rand = s.clock.now, rand.Reader
	s.whisp = whispsim.New(conf.sim)
	whisp := httptest.NewServer(s.whisp)
	t.Cleanup(func() { s.whisp.Close(); whisp.Close() })
	conf.whisp.URL = setting.MustURL(whisp.URL)
	conf.whisp.APIKeys = []setting.Secret{setting.SecretValue(apiKey)}

	var err error
	s.provider, err = oidcsim.New(oidcsim.Config{
		Clients: []oidcsim.Client{{
			ID: "web", Secret: secret.New(clientSecret),
			RedirectURIs:           []string{publicOrigin + "/auth/callback"},
			PostLogoutRedirectURIs: []string{publicOrigin + "/"},
			BackChannelLogoutURI:   publicOrigin + "/auth/backchannel-logout",
		}},
		HTTP:  &http.Client{Transport: toPublic{s}},
		Clock: s.clock.now, Rand: rand.Reader, TrustLoginHint: true, RefreshWithoutScope: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	up := conf.providerUp
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !up() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		s.provider.ServeHTTP(w, r)
	}))
	t.Cleanup(provider.Close)
	if err := s.provider.SetIssuer(provider.URL); err != nil {
		t.Fatal(err)
	}

	backend := httptest.NewServer(s.app)
	s.stopApp = backend.Close
	t.Cleanup(backend.Close)
	s.app.url = backend.URL
	if conf.appURL != "" {
		s.app.url = conf.appURL
	}
}

// startServer wires the parts as cmd/whisp-bff does, and serves.
func (s *stack) startServer(t testing.TB, conf setup) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	public := setting.MustURL(publicOrigin)
	logger := telemetry.NewLogger(telemetry.Config{Level: "debug", Format: "json"}, s.logs)
	if conf.quiet {
		logger = slog.New(slog.DiscardHandler)
	}
	sessionStore := outage{store.NewMemory(store.DefaultConfig(), s.clock.now), &s.storeDown}
	grantStore := store.NewMemory(store.DefaultConfig(), s.clock.now)
	onceStore := outage{store.NewMemory(store.DefaultConfig(), s.clock.now), &s.storeDown}

	master := secret.New(masterSecret)
	stateKey, err := broker.DeriveKey(master, "login state")
	must(err)
	credentials, err := broker.NewCredentials([]secret.Text{master})
	must(err)
	mapping, err := broker.NewMapping(conf.account)
	must(err)

	loginConfig := login.DefaultConfig()
	loginConfig.Issuer = setting.MustURL(s.provider.Issuer())
	loginConfig.ClientID, loginConfig.ClientSecret = "web", setting.SecretValue(clientSecret)
	party, err := login.New(loginConfig, login.Deps{
		Logger: logger, Clock: s.clock.now, Rand: rand.Reader, PublicURL: public,
		StateKeys: []secret.Text{stateKey}, Once: onceStore,
	})
	must(err)
	sessions := session.New(conf.session, session.Deps{
		Store: sessionStore, Clock: s.clock.now, Logger: logger, Provider: refresher{party}, PublicURL: public,
	})
	endpoint, err := upstream.NewEndpoint(conf.whisp)
	must(err)
	deps := upstream.WhispDeps{
		Endpoint: endpoint, Logger: logger, Clock: s.clock.now, Rand: rand.Reader,
		Metrics: upstream.NewMetrics(s.metrics, endpoint),
	}
	whisp, err := upstream.NewWhisp(conf.whisp, deps)
	must(err)
	devices := session.NewDevices(conf.session, session.Deps{
		Store: sessionStore, Clock: s.clock.now, Logger: logger, PublicURL: public,
	})
	holders := session.Holders{Sessions: sessions, Devices: devices}
	sources := []identity.Source{sessions}
	if conf.sources != nil {
		sources = conf.sources(s, sessions)
	}
	chain, err := identity.NewChain(sources...)
	must(err)
	must(conf.access.Validate())
	policy := access.NewPolicy(conf.access)
	assertions, err := access.NewAssertions(conf.access.Assertion, publicOrigin, []secret.Text{master}, s.clock.now)
	must(err)
	accounts := broker.New(conf.account, broker.Deps{
		Accounts: whisp, Tokens: whisp, Store: grantStore, Sessions: holders,
		Credentials: credentials, Mapping: mapping, Clock: s.clock.now, Logger: logger, Metrics: s.metrics,
	})
	s.broker = accounts
	cookies := upstream.NewBalancerCookies(public, s.clock.now)
	realtime, err := sockproxy.New(conf.realtime, sockproxy.Deps{
		Logger: logger, Clock: s.clock.now, Rand: rand.Reader, Metrics: s.metrics, PublicURL: public, AllowedOrigins: conf.server.AllowedOrigins,
		Whisp: conf.whisp.URL, Dialer: endpoint, Transport: endpoint.RealtimeTransport(),
		Header: upstream.WhispHeader, Cookies: cookies, Sessions: toucher{holders}, Fail: server.Fail,
	})
	must(err)
	rest := upstream.NewWhispProxy(conf.whisp, upstream.WhispProxyDeps{
		WhispDeps: deps, Cookies: cookies, Renewals: accounts, Fail: server.Fail,
		Events: upstream.Events{
			TicketIssued: realtime.TicketIssued,
			Refused:      func(holder string, jwt secret.Text) { _ = accounts.Refused(context.Background(), holder, jwt) },
		},
	})
	address, err := server.ClientAddress(conf.server)
	must(err)
	appConfig := upstream.DefaultAppConfig()
	appConfig.URL = setting.MustURL(s.app.url)
	appProxy, err := upstream.NewApp(appConfig, upstream.AppDeps{
		Logger: logger, PublicURL: public, ClientAddress: address,
		StripHeaders: slices.Concat(conf.strip, policy.Headers(), assertions.Headers()),
		OwnCookies:   []string{session.CookieName, session.DeviceCookieName}, Fail: server.Fail,
	})
	must(err)
	must(conf.server.Validate())
	if conf.noLogin {
		party = nil
	}
	s.server, err = server.New(conf.server, server.Deps{
		PublicURL: public, Clock: s.clock.now, Logger: logger, Metrics: s.metrics,
	}, server.Parts{
		Login: party, Sessions: sessions, Devices: devices, Identity: chain, Policy: policy, Assertions: assertions, Broker: accounts, WhispREST: rest, Realtime: realtime, App: appProxy,
		PostLogoutPath: "/", Denied: []string{upstream.OperationChangeUsername}, DrainTime: conf.realtime.Drain.D(), AccessLog: !conf.quiet,
	})
	must(err)
	if conf.tune != nil {
		conf.tune(s.server)
	}
	s.run(t, endpoint.Close, party)
}

func (s *stack) run(t testing.TB, closeEndpoint func(), party *login.RelyingParty) {
	t.Helper()
	publicListener, adminListener, err := s.server.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.base, s.admin = "http://"+publicListener.Addr().String(), "http://"+adminListener.Addr().String()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() {
		background, stop := context.WithCancel(context.WithoutCancel(ctx))
		var wg sync.WaitGroup
		if party != nil {
			wg.Go(func() { party.Run(background) })
		}
		err := s.server.Run(ctx, publicListener, adminListener)
		stop()
		wg.Wait()
		closeEndpoint()
		ended <- err
	}()
	s.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(20 * time.Second):
			return errors.New("does not end")
		}
	})
}

// waitReady waits until /readyz says so.
func (s *stack) waitReady(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); s.readyStatus(t) != http.StatusOK; {
		if time.Now().After(deadline) {
			t.Fatal("not ready")
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (s *stack) readyStatus(t testing.TB) int {
	t.Helper()
	return s.get(t, s.admin+"/readyz").status
}

// clock is the wall clock, moved.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

// refresher and toucher are cmd/whisp-bff's.
type refresher struct{ *login.RelyingParty }

func (r refresher) Refresh(ctx context.Context, tokens identity.ProviderTokens, subject string) (identity.ProviderTokens, error) {
	renewed, err := r.RelyingParty.Refresh(ctx, tokens, subject)
	if errors.Is(err, login.ErrEnded) {
		return identity.ProviderTokens{}, fmt.Errorf("%w: %w", session.ErrNone, err)
	}
	return renewed, err
}

type toucher struct{ session.Holders }

func (t toucher) Touch(ctx context.Context, key string) (time.Time, error) {
	expires, err := t.Holders.Touch(ctx, key)
	if errors.Is(err, session.ErrNone) {
		return time.Time{}, sockproxy.ErrSessionEnded
	}
	return expires, err
}

// app is the customer's app: it remembers what reached it.
type app struct {
	url     string
	handler http.HandlerFunc // nil: 200 "app"

	mu   sync.Mutex
	seen []*http.Request
}

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kept := r.Clone(context.WithoutCancel(r.Context()))
	kept.Body = nil
	a.mu.Lock()
	a.seen = append(a.seen, kept)
	if len(a.seen) > 2000 {
		a.seen = a.seen[1000:]
	}
	a.mu.Unlock()
	if a.handler != nil {
		a.handler(w, r)
		return
	}
	_, _ = w.Write([]byte("app"))
}

// requests returns what the app saw since the last call.
func (a *app) requests() []*http.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	seen := a.seen
	a.seen = nil
	return seen
}

// dial opens a connection to the public listener.
func (s *stack) dial(t testing.TB) net.Conn {
	t.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(s.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
