package main

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/whisp-bff/whisp-bff/internal/access"
	"github.com/whisp-bff/whisp-bff/internal/config"
	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/login"
	"github.com/whisp-bff/whisp-bff/internal/server"
	"github.com/whisp-bff/whisp-bff/internal/session"
	"github.com/whisp-bff/whisp-bff/internal/telemetry"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
)

// A running process takes a new configuration in one step, see [house.adopt].
// Parts are of two kinds:
//
//   - those that hold what must not be lost (stores, sessions, grants, tunnels,
//     breakers, listeners) live as long as the process, in a house. What they can
//     change they prepare first and then take into use.
//   - all others are built for one configuration, in a generation, and replaced
//     together. One whose settings are the same goes over to the next generation
//     with its connections and fetched keys.
//
// Everything that can fail comes before anything that changes.

// house is what lives as long as the process.
type house struct {
	*process
	stores   *stores
	holders  session.Holders
	whisp    whispParts
	resident resident
	level    *telemetry.Level
	// provider is the relying party that sessions are refreshed with; nil if
	// nobody signs in here.
	provider atomic.Pointer[login.RelyingParty]

	server  *server.Server
	current *generation
	// retiring are earlier generations whose requests are not done.
	retiring sync.WaitGroup
	over     chan struct{} // closed when there will be no request any more
}

// changes are the keys in which a configuration differs from the one before; nil
// means that there was none.
type changes []string

// under reports whether any of the sections or keys changed.
func (c changes) under(sections ...string) bool {
	return c == nil || slices.ContainsFunc(c, func(key string) bool {
		return slices.ContainsFunc(sections, func(section string) bool {
			return key == section || strings.HasPrefix(key, section+".")
		})
	})
}

// adopt takes a configuration into use, or nothing of it. One at a time may call
// it. Requests that have begun end as they began; sockets stay open.
func (h *house) adopt(ctx context.Context, cfg *config.File, changed changes) error {
	p := *h.process
	p.cfg = cfg
	next, err := p.build(ctx, h, h.current, changed)
	if err != nil {
		return err
	}
	useClient, errClient := h.whisp.client.Prepare(cfg.Whisp)
	useEndpoint, errEndpoint := func() {}, error(nil)
	if changed.under("whisp.ca_file", "whisp.timeouts", "whisp.max_connections") {
		useEndpoint, errEndpoint = h.whisp.endpoint.Prepare(cfg.Whisp)
	}
	site, errSite := h.server.Prepare(cfg.Server, next.parts)
	if err := errors.Join(errClient, errEndpoint, errSite); err != nil {
		next.close()
		return err
	}

	// From here on nothing can fail.
	useEndpoint()
	useClient()
	h.resident.realtime.SetLimits(cfg.Realtime)
	h.resident.realtime.SetAllowedOrigins(cfg.Server.AllowedOrigins)
	h.level.Use(cfg.Log)
	h.provider.Store(next.parts.Login)
	unused, before := h.server.Use(site), h.current
	h.process, h.current = &p, next
	h.retiring.Go(func() {
		select {
		case <-unused:
		case <-h.over:
		}
		before.close()
	})
	return nil
}

// close ends all generations, after the server has ended.
func (h *house) close() {
	close(h.over)
	h.retiring.Wait()
	h.current.close()
}

// shared is a part that generations hand on while nothing that it was built from
// changes. The last that lets go closes it.
type shared[T any] struct {
	value T
	users atomic.Int32
	close func()
}

// generation is what was built for one configuration.
type generation struct {
	login   *shared[*login.RelyingParty]
	sources map[string]*shared[identity.Source]
	app     *shared[*upstream.App]
	parts   server.Parts
	held    []func() // let go of the parts above
}

// close lets go of the parts. No request may be using them through this
// generation.
func (g *generation) close() {
	for _, letGo := range g.held {
		letGo()
	}
}

// hold takes a part over from the generation before if it can be, or builds one.
func hold[T any](g *generation, before *shared[T], rebuild bool, build func() (T, func(), error)) (*shared[T], error) {
	part := before
	if rebuild || before == nil {
		value, closing, err := build()
		if err != nil {
			return nil, err
		}
		part = &shared[T]{value: value, close: closing}
	}
	part.users.Add(1)
	g.held = append(g.held, func() {
		if part.users.Add(-1) == 0 {
			part.close()
		}
	})
	return part, nil
}

// build makes the generation of p.cfg. before is an empty one at the start. In
// use is nothing of it until [house.adopt] says so.
func (p *process) build(ctx context.Context, h *house, before *generation, changed changes) (_ *generation, err error) {
	g := &generation{sources: map[string]*shared[identity.Source]{}}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	if p.cfg.Identity.Uses(identity.SourceSession) {
		if g.login, err = hold(g, before.login, changed.under("login"), func() (*login.RelyingParty, func(), error) {
			return p.successor(ctx, h, before)
		}); err != nil {
			return nil, err
		}
		g.parts.Login = g.login.value
	}
	chain, headers, err := p.identity(h.holders.Sessions, g, before, changed)
	if err != nil {
		return nil, err
	}
	policy := access.NewPolicy(p.cfg.Access)
	assertions, err := p.assertions()
	if err != nil {
		return nil, err
	}
	strip := slices.Concat(headers, policy.Headers(), assertions.Headers())
	if g.app, err = hold(g, before.app, changed.under("app", "access", "identity", "server.trusted_proxies"), func() (*upstream.App, func(), error) {
		app, err := p.app(strip)
		return app, func() { app.Close() }, err
	}); err != nil {
		return nil, err
	}
	g.parts = server.Parts{
		Login: g.parts.Login, Sessions: h.holders.Sessions, Devices: h.holders.Devices,
		Identity: chain, Policy: policy, Assertions: assertions,
		Broker: h.resident.accounts, Realtime: h.resident.realtime, App: g.app.value,
		WhispREST:      p.whispREST(h.whisp, selfService{h.resident.accounts, h.holders, p.logger}, h.resident.realtime),
		PostLogoutPath: p.cfg.Login.PostLogoutPath, Denied: p.denied(h.stores.accounts.Durable()),
		DrainTime: p.cfg.Realtime.Drain.D(), AccessLog: p.cfg.Log.AccessLog,
	}
	return g, nil
}

// successor is a relying party that knows what the one before it knew.
func (p *process) successor(ctx context.Context, h *house, before *generation) (*login.RelyingParty, func(), error) {
	party, err := p.login(once{h.stores.logins})
	if err != nil {
		return nil, nil, err
	}
	if before.login != nil {
		party.Inherit(before.login.value)
	}
	return party, inBackground(context.WithoutCancel(ctx), party.Run), nil
}

// identity is who may say who is asking, and the credentials and identity headers
// among theirs that must reach nobody else.
func (p *process) identity(sessions *session.Sessions, g, before *generation, changed changes) (chain *identity.Chain, headers []string, err error) {
	var sources []identity.Source
	for _, name := range p.cfg.Identity.Sources {
		if name == identity.SourceSession {
			sources = append(sources, sessions)
			continue
		}
		from := []string{"identity." + name}
		if name == identity.SourceAppSession {
			from = append(from, "app.url", "app.ca_file", "app.preserve_host")
		}
		part, err := hold(g, before.sources[name], changed.under(from...), func() (identity.Source, func(), error) {
			return p.source(name)
		})
		if err != nil {
			return nil, nil, err
		}
		g.sources[name] = part
		sources = append(sources, part.value)
		if reader, ok := part.value.(interface{ Headers() []string }); ok {
			headers = append(headers, reader.Headers()...)
		}
	}
	chain, err = identity.NewChain(sources...)
	return chain, headers, err
}

func (p *process) source(name string) (source identity.Source, closing func(), err error) {
	cfg := p.cfg.Identity
	deps := identity.Deps{Logger: p.logger, Clock: p.clock, Rand: rand.Reader, Metrics: p.registry}
	switch name {
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
	closing = func() {}
	if closer, ok := source.(interface{ Close() }); ok && err == nil {
		closing = closer.Close
	}
	return source, closing, err
}
