package main

import (
	"context"
	"crypto/rand"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
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

// start is what a serving process begins with.
type start struct {
	cfg     *config.File
	source  *source // that cfg was read from
	hangups <-chan os.Signal
	logger  *slog.Logger
	level   *telemetry.Level // of logger
}

// resident are the parts that hold what people have open.
type resident struct {
	accounts *broker.Broker
	realtime *sockproxy.Proxy
}

// process is what every part is built with.
type process struct {
	cfg      *config.File
	logger   *slog.Logger
	clock    func() time.Time
	registry *prometheus.Registry
}

// run builds the parts, hands them to each other, and serves until ctx ends.
func run(ctx context.Context, started start) error {
	p := &process{
		cfg: started.cfg, logger: started.logger, clock: time.Now,
		registry: telemetry.NewRegistry(telemetry.ReadVersion(version)),
	}
	h := &house{process: p, level: started.level, over: make(chan struct{})}
	var err error
	if h.stores, err = p.openStores(ctx); err != nil {
		return err
	}
	defer h.stores.close()
	endings := newEndings(h.stores, p.logger)
	h.holders = p.holders(h.stores.sessions, &h.provider, endings)
	if h.whisp, err = p.whisp(); err != nil {
		return err
	}
	defer h.whisp.endpoint.Close()
	if h.resident.accounts, err = p.broker(h.whisp.client, h.stores.accounts, h.holders); err != nil {
		return err
	}
	if h.resident.realtime, err = p.realtime(h.whisp, h.holders, h.stores); err != nil {
		return err
	}
	endings.tunnels, endings.grants = h.resident.realtime, h.resident.accounts
	defer endings.listen(ctx)()
	if h.current, err = p.build(ctx, h, &generation{}, nil); err != nil {
		return err
	}
	defer h.close()
	h.provider.Store(h.current.parts.Login)
	h.server, err = server.New(p.cfg.Server, server.Deps{
		PublicURL: p.cfg.PublicURL, Ended: endings.announce, Clock: p.clock, Logger: p.logger, Metrics: p.registry,
	}, h.current.parts)
	if err != nil {
		return err
	}
	reloads := newReloader(started, h.adopt, p)
	defer inBackground(ctx, reloads.run, h.resident.accounts.Run)()
	return listenAndRun(ctx, h.server)
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

// login is the relying party. The keys that seal logins in progress come from the
// master secrets, which all replicas have.
func (p *process) login(used login.Once) (*login.RelyingParty, error) {
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
func (p *process) holders(kept session.Store, provider *atomic.Pointer[login.RelyingParty], endings *endings) session.Holders {
	deps := session.Deps{Store: kept, Clock: p.clock, Logger: p.logger, PublicURL: p.cfg.PublicURL}
	devices := session.NewDevices(p.cfg.Session, deps)
	deps.Ended = endings.ended
	if p.cfg.Identity.Uses(identity.SourceSession) {
		deps.Provider = refresher{provider}
	}
	return session.Holders{Sessions: session.New(p.cfg.Session, deps), Devices: devices}
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
		WhispDeps: whisp.WhispDeps, Cookies: whisp.cookies, Renewals: own.accounts, Fail: server.Fail,
		Events: upstream.Events{TicketIssued: realtime.TicketIssued, Passed: own.passed, Renamed: own.renamed, Refused: own.refused},
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
