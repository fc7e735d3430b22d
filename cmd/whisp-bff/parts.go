package main

import (
	"context"
	"crypto/rand"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/whisp-bff/whisp-bff/internal/access"
	"github.com/whisp-bff/whisp-bff/internal/broker"
	"github.com/whisp-bff/whisp-bff/internal/config"
	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/login"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/server"
	"github.com/whisp-bff/whisp-bff/internal/session"
	"github.com/whisp-bff/whisp-bff/internal/sockproxy"
	"github.com/whisp-bff/whisp-bff/internal/store"
	"github.com/whisp-bff/whisp-bff/internal/telemetry"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
)

// ownCookies neither reach the app nor may be set by it.
var ownCookies = []string{
	session.CookieName, session.LoopbackCookieName, session.DeviceCookieName, session.LoopbackDeviceCookieName,
}

// process is what every part is built with.
type process struct {
	cfg      *config.File
	logger   *slog.Logger
	clock    func() time.Time
	registry *prometheus.Registry
}

// run builds the parts, hands them to each other, and serves until ctx ends.
// reload reads the configuration anew.
func run(ctx context.Context, cfg *config.File, reload func() (*config.File, error), logger *slog.Logger) error {
	p := &process{cfg: cfg, logger: logger, clock: time.Now, registry: telemetry.NewRegistry(telemetry.ReadVersion(version))}

	stores, err := p.openStores(ctx)
	if err != nil {
		return err
	}
	defer stores.close()
	endings := newEndings(stores, p.logger)
	provider, err := p.login(stores.logins)
	if err != nil {
		return err
	}
	holders := p.holders(stores.sessions, provider, endings)
	whisp, err := p.whisp()
	if err != nil {
		return err
	}
	defer whisp.endpoint.Close()
	accounts, err := p.broker(whisp.client, stores.accounts, holders)
	if err != nil {
		return err
	}
	realtime, err := p.realtime(whisp, holders, stores)
	if err != nil {
		return err
	}
	endings.tunnels, endings.grants = realtime, accounts
	defer endings.listen(ctx)()
	sources, err := p.identity(holders.Sessions)
	if err != nil {
		return err
	}
	defer sources.close()
	policy := access.NewPolicy(cfg.Access)
	assertions, err := p.assertions()
	if err != nil {
		return err
	}
	app, err := p.app(slices.Concat(sources.headers, policy.Headers(), assertions.Headers()))
	if err != nil {
		return err
	}

	whispBFF, err := server.New(cfg.Server, server.Deps{
		PublicURL: cfg.PublicURL, Ended: endings.announce, Clock: p.clock, Logger: logger, Metrics: p.registry,
	}, server.Parts{
		Login: provider, Sessions: holders.Sessions, Devices: holders.Devices,
		Identity: sources.chain, Policy: policy, Assertions: assertions,
		Broker: accounts, WhispREST: p.whispREST(whisp, selfService{accounts, holders, logger}, realtime), Realtime: realtime, App: app,
		PostLogoutPath: cfg.Login.PostLogoutPath, Denied: p.denied(stores.accounts.Durable()),
		DrainTime: cfg.Realtime.Drain.D(), AccessLog: cfg.Log.AccessLog,
	})
	if err != nil {
		return err
	}
	if provider != nil {
		defer inBackground(context.WithoutCancel(ctx), provider.Run)()
	}
	defer inBackground(ctx, newKeyFiles(cfg, reload, whisp.client.SetKeys, logger).watch, accounts.Run)()
	return listenAndRun(ctx, whispBFF)
}

func listenAndRun(ctx context.Context, whispBFF *server.Server) error {
	public, admin, err := whispBFF.Listen(ctx)
	if err != nil {
		return err
	}
	return whispBFF.Run(ctx, public, admin)
}

// inBackground runs tasks until ctx ends or stop is called, which waits for them.
func inBackground(ctx context.Context, tasks ...func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, task := range tasks {
		wg.Go(func() { task(ctx) })
	}
	return func() { cancel(); wg.Wait() }
}

// stores are where everything is kept. In memory each has its own bound, so that
// none can push another's values out; Redis is one for all.
type stores struct {
	sessions, accounts, logins store.Store
	opened                     []store.Store
}

func (s *stores) close() {
	for _, opened := range s.opened {
		_ = opened.Close() // nothing can be lost: values are written when they are set
	}
}

func (p *process) openStores(ctx context.Context) (*stores, error) {
	s := &stores{}
	for _, into := range []*store.Store{&s.sessions, &s.accounts, &s.logins} {
		if p.cfg.Store.Kind == store.KindRedis && len(s.opened) > 0 {
			*into = s.opened[0]
			continue
		}
		opened, err := store.Open(ctx, p.cfg.Store, p.clock, store.Deps{Logger: p.logger, Metrics: p.registry, Recent: []string{session.StorePrefix}})
		if err != nil {
			s.close()
			return nil, err
		}
		s.opened = append(s.opened, opened)
		*into = opened
	}
	return s, nil
}

// shared reports whether other replicas use the same store.
func (s *stores) shared() bool { return s.sessions == s.accounts }

// tickets returns nil, for a table in the process, unless the store is shared.
func (s *stores) tickets(cfg sockproxy.Config, clock func() time.Time) sockproxy.Tickets {
	if !s.shared() {
		return nil
	}
	return session.NewTickets(s.sessions, clock, cfg.TicketLife.D())
}

// admissions returns nil unless there may be other replicas.
func (s *stores) admissions() sockproxy.Admissions {
	if !s.shared() {
		return nil
	}
	return session.NewAdmissions(s.sessions)
}

// denied are the operations at Whisp that browsers may not use. Renaming needs a
// durable store: after a restart the account could not be found again.
func (p *process) denied(durable bool) []string {
	var denied []string
	own := p.cfg.Account.SelfService
	if own.ChangeUsername == broker.Deny || !durable {
		denied = append(denied, upstream.OperationChangeUsername)
	}
	if own.DeleteUser == broker.Deny {
		denied = append(denied, upstream.OperationDeleteUser)
	}
	return denied
}

// login is the relying party, nil if nobody signs in here. The keys that seal
// logins in progress come from the master secrets, which all replicas have.
func (p *process) login(used login.Once) (*login.RelyingParty, error) {
	if !p.cfg.Identity.Uses(identity.SourceSession) {
		return nil, nil
	}
	var keys []secret.Text
	for _, master := range p.cfg.Account.MasterSecrets {
		key, err := broker.DeriveKey(master.Text(), "login state")
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return login.New(p.cfg.Login, login.Deps{
		Logger: p.logger, Clock: p.clock, Rand: rand.Reader, PublicURL: p.cfg.PublicURL, StateKeys: keys, Once: used, Metrics: p.registry,
	})
}

// holders are what grants and tunnels belong to.
func (p *process) holders(kept session.Store, provider *login.RelyingParty, endings *endings) session.Holders {
	deps := session.Deps{Store: kept, Clock: p.clock, Logger: p.logger, PublicURL: p.cfg.PublicURL}
	devices := session.NewDevices(p.cfg.Session, deps)
	deps.Ended = endings.ended
	if provider != nil {
		deps.Provider = refresher{provider}
	}
	return session.Holders{Sessions: session.New(p.cfg.Session, deps), Devices: devices}
}

// identitySources are who may say who is asking.
type identitySources struct {
	chain *identity.Chain
	// headers are credentials and identity headers that must reach nobody else.
	headers []string
	closers []func()
}

func (s *identitySources) close() {
	for _, closer := range s.closers {
		closer()
	}
}

func (p *process) identity(sessions *session.Sessions) (*identitySources, error) {
	cfg := p.cfg.Identity
	deps := identity.Deps{Logger: p.logger, Clock: p.clock, Rand: rand.Reader, Metrics: p.registry}
	found := &identitySources{}
	var sources []identity.Source
	for _, name := range cfg.Sources {
		var source identity.Source
		var err error
		switch name {
		case identity.SourceSession:
			source = sessions
		case identity.SourceBearer:
			source, err = identity.NewBearer(cfg.Bearer, deps)
		case identity.SourceIntrospection:
			source, err = identity.NewIntrospection(cfg.Introspection, deps)
		case identity.SourceForwarded:
			source, err = identity.NewForwarded(cfg.Forwarded, deps)
		case identity.SourceAppSession:
			source, err = identity.NewAppSession(cfg.AppSession, identity.AppSite{
				PublicURL: p.cfg.PublicURL, URL: p.cfg.App.URL, CAFile: p.cfg.App.CAFile, PreserveHost: p.cfg.App.PreserveHost,
				OwnCookies: ownCookies,
			}, deps)
		}
		if err != nil {
			found.close()
			return nil, err
		}
		sources = append(sources, source)
		if closer, ok := source.(interface{ Close() }); ok {
			found.closers = append(found.closers, closer.Close)
		}
		if reader, ok := source.(interface{ Headers() []string }); ok {
			found.headers = append(found.headers, reader.Headers()...)
		}
	}
	var err error
	found.chain, err = identity.NewChain(sources...)
	return found, err
}

// assertions sign what the app is told; nil if it is not to be told that way.
func (p *process) assertions() (*access.Assertions, error) {
	cfg := p.cfg.Access.Assertion
	if cfg.Audience == "" {
		cfg.Audience = p.cfg.App.URL.String()
	}
	var keys []secret.Text
	for _, master := range p.cfg.Account.MasterSecrets {
		key, err := broker.DeriveKey(master.Text(), "assertion")
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return access.NewAssertions(cfg, p.cfg.PublicURL.Origin(), keys, p.clock)
}

// whispParts are what talks to Whisp.
type whispParts struct {
	upstream.WhispDeps
	endpoint *upstream.Endpoint
	client   *upstream.Whisp
	cookies  upstream.BalancerCookies
}

func (p *process) whisp() (whispParts, error) {
	endpoint, err := upstream.NewEndpoint(p.cfg.Whisp)
	if err != nil {
		return whispParts{}, err
	}
	deps := upstream.WhispDeps{
		Endpoint: endpoint, Logger: p.logger, Clock: p.clock, Rand: rand.Reader,
		Metrics: upstream.NewMetrics(p.registry, endpoint),
	}
	client, err := upstream.NewWhisp(p.cfg.Whisp, deps)
	return whispParts{deps, endpoint, client, upstream.NewBalancerCookies(p.cfg.PublicURL, p.clock)}, err
}

func (p *process) broker(whisp *upstream.Whisp, accounts broker.Store, holders session.Holders) (*broker.Broker, error) {
	var masters []secret.Text
	for _, master := range p.cfg.Account.MasterSecrets {
		masters = append(masters, master.Text())
	}
	credentials, err := broker.NewCredentials(masters)
	if err != nil {
		return nil, err
	}
	mapping, err := broker.NewMapping(p.cfg.Account)
	if err != nil {
		return nil, err
	}
	return broker.New(p.cfg.Account, broker.Deps{
		Accounts: whisp, Tokens: whisp, Store: accounts, Sessions: holders,
		Credentials: credentials, Mapping: mapping, Clock: p.clock, Logger: p.logger, Metrics: p.registry,
	}), nil
}

func (p *process) realtime(whisp whispParts, holders session.Holders, s *stores) (*sockproxy.Proxy, error) {
	return sockproxy.New(p.cfg.Realtime, sockproxy.Deps{
		Logger: p.logger, Clock: p.clock, Rand: rand.Reader, Metrics: p.registry, PublicURL: p.cfg.PublicURL,
		AllowedOrigins: p.cfg.Server.AllowedOrigins,
		Whisp:          p.cfg.Whisp.URL, Dialer: whisp.endpoint, Transport: whisp.endpoint.RealtimeTransport(),
		Header: upstream.WhispHeader, Cookies: whisp.cookies,
		Sessions: toucher{holders}, Tickets: s.tickets(p.cfg.Realtime, p.clock), Admissions: s.admissions(), Fail: server.Fail,
	})
}

func (p *process) whispREST(whisp whispParts, own selfService, realtime *sockproxy.Proxy) *upstream.WhispProxy {
	return upstream.NewWhispProxy(p.cfg.Whisp, upstream.WhispProxyDeps{
		WhispDeps: whisp.WhispDeps, Cookies: whisp.cookies, Fail: server.Fail,
		Events: upstream.Events{TicketIssued: realtime.TicketIssued, Passed: own.passed, Renamed: own.renamed},
	})
}

func (p *process) app(strip []string) (*upstream.App, error) {
	clientAddress, err := server.ClientAddress(p.cfg.Server)
	if err != nil {
		return nil, err
	}
	return upstream.NewApp(p.cfg.App, upstream.AppDeps{
		Logger: p.logger, PublicURL: p.cfg.PublicURL, ClientAddress: clientAddress,
		StripHeaders: strip, OwnCookies: ownCookies, Fail: server.Fail,
	})
}
