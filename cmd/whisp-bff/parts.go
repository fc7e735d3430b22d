package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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

// process is what every part is built with.
type process struct {
	cfg      *config.File
	logger   *slog.Logger
	clock    func() time.Time
	registry *prometheus.Registry
}

// run builds the parts, hands them to each other, and serves until ctx ends.
func run(ctx context.Context, cfg *config.File, logger *slog.Logger) error {
	p := &process{cfg: cfg, logger: logger, clock: time.Now, registry: telemetry.NewRegistry(telemetry.ReadVersion(version))}

	// One store each, so that none can push another's values out.
	var (
		sessionStore = store.NewMemory(cfg.Store, p.clock)
		accountStore = store.NewMemory(cfg.Store, p.clock) // links and grants
		usedLogins   = store.NewMemory(cfg.Store, p.clock)
	)
	provider, err := p.login(usedLogins)
	if err != nil {
		return err
	}
	sessions := session.New(cfg.Session, session.Deps{
		Store: sessionStore, Clock: p.clock, Logger: logger, Provider: refresher{provider}, PublicURL: cfg.PublicURL,
	})
	whisp, err := p.whisp()
	if err != nil {
		return err
	}
	defer whisp.endpoint.Close()
	accounts, err := p.broker(whisp.client, accountStore, sessions)
	if err != nil {
		return err
	}
	realtime, err := p.realtime(whisp, sessions)
	if err != nil {
		return err
	}
	app, err := p.app()
	if err != nil {
		return err
	}

	whispBFF, err := server.New(cfg.Server, server.Deps{
		PublicURL: cfg.PublicURL, PostLogoutPath: cfg.Login.PostLogoutPath,
		DurableLinks: accountStore.Durable(), DrainTime: cfg.Realtime.Drain.D(), AccessLog: cfg.Log.AccessLog,
		Clock: p.clock, Logger: logger, Metrics: p.registry,
	}, server.Parts{
		Login: provider, Sessions: sessions, Broker: accounts,
		WhispREST: p.whispREST(whisp, accounts, realtime), Realtime: realtime, App: app,
	})
	if err != nil {
		return err
	}
	public, admin, err := whispBFF.Listen(ctx)
	if err != nil {
		return err
	}
	return whispBFF.Run(ctx, public, admin)
}

// login is the relying party. The keys that seal logins in progress come from
// the master secrets, which all replicas have.
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
		Logger: p.logger, Clock: p.clock, Rand: rand.Reader, PublicURL: p.cfg.PublicURL, StateKeys: keys, Once: used,
	})
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

func (p *process) broker(whisp *upstream.Whisp, accounts broker.Store, sessions *session.Sessions) (*broker.Broker, error) {
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
	return broker.New(broker.Deps{
		Accounts: whisp, Tokens: whisp, Store: accounts, Sessions: sessions,
		Credentials: credentials, Mapping: mapping, Clock: p.clock, Logger: p.logger, Metrics: p.registry,
	}), nil
}

func (p *process) realtime(whisp whispParts, sessions *session.Sessions) (*sockproxy.Proxy, error) {
	return sockproxy.New(p.cfg.Realtime, sockproxy.Deps{
		Logger: p.logger, Clock: p.clock, Rand: rand.Reader, Metrics: p.registry, PublicURL: p.cfg.PublicURL,
		Whisp: p.cfg.Whisp.URL, Dialer: whisp.endpoint, Transport: whisp.endpoint.RealtimeTransport(),
		Header: upstream.WhispHeader, Cookies: whisp.cookies,
		Sessions: toucher{sessions}, Fail: server.Fail,
	})
}

func (p *process) whispREST(whisp whispParts, accounts *broker.Broker, realtime *sockproxy.Proxy) *upstream.WhispProxy {
	return upstream.NewWhispProxy(p.cfg.Whisp, upstream.WhispProxyDeps{
		WhispDeps: whisp.WhispDeps, Cookies: whisp.cookies, Fail: server.Fail,
		Events: upstream.Events{TicketIssued: realtime.TicketIssued, Passed: p.passed(accounts)},
	})
}

func (p *process) app() (*upstream.App, error) {
	clientAddress, err := server.ClientAddress(p.cfg.Server)
	if err != nil {
		return nil, err
	}
	return upstream.NewApp(p.cfg.App, upstream.AppDeps{
		Logger: p.logger, PublicURL: p.cfg.PublicURL, ClientAddress: clientAddress,
		OwnCookies: []string{session.CookieName, session.LoopbackCookieName}, Fail: server.Fail,
	})
}

// passed keeps the broker's grants true to what browsers do at Whisp themselves.
func (p *process) passed(accounts *broker.Broker) func(session, operation string, status int) {
	return func(session, operation string, status int) {
		if status < http.StatusOK || status >= http.StatusMultipleChoices {
			return
		}
		var err error
		switch operation {
		case upstream.OperationLogout, upstream.OperationLogoutAll:
			err = accounts.Forget(context.Background(), session)
		case upstream.OperationDeleteUser:
			err = accounts.ForgetAccount(context.Background(), session)
		}
		if err != nil {
			p.logger.Warn("grant not forgotten", "operation", operation, "error", err)
		}
	}
}

// refresher tells sessions in their own words that a sign-in ended.
type refresher struct{ *login.RelyingParty }

func (r refresher) Refresh(ctx context.Context, tokens identity.ProviderTokens, subject string) (identity.ProviderTokens, error) {
	renewed, err := r.RelyingParty.Refresh(ctx, tokens, subject)
	if errors.Is(err, login.ErrEnded) {
		return identity.ProviderTokens{}, fmt.Errorf("%w: %w", session.ErrNone, err)
	}
	return renewed, err
}

// toucher tells sockets in their own words that a session ended.
type toucher struct{ *session.Sessions }

func (t toucher) Touch(ctx context.Context, key string) (time.Time, error) {
	expires, err := t.Sessions.Touch(ctx, key)
	if errors.Is(err, session.ErrNone) {
		return time.Time{}, sockproxy.ErrSessionEnded
	}
	return expires, err
}
