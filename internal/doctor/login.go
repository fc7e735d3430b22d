package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/login"
)

// login asks the provider, if people sign in here.
func (e *examination) login(ctx context.Context) []Finding {
	if !e.cfg.Identity.Uses(identity.SourceSession) {
		return nil
	}
	const caFile = "login.ca_file"
	clocks := &dates{clock: e.deps.Clock}
	probe, err := login.NewProbe(e.cfg.Login, login.Deps{
		Logger: e.deps.Logger, Clock: e.deps.Clock, Rand: e.deps.Rand, PublicURL: e.cfg.PublicURL,
	}, func(next http.RoundTripper) http.RoundTripper { clocks.next = next; return clocks })
	if err != nil {
		return []Finding{unusable("login.discovery", err, caFile)}
	}
	defer probe.Close()
	facts, err := probe.Discover(ctx)
	if err != nil {
		return []Finding{discoveryFailed(err, caFile), unregistered(probe.RedirectURI(), "the provider was not asked")}
	}
	found := make([][]Finding, 4)
	var wg sync.WaitGroup
	wg.Go(func() { found[0] = e.providerKeys(ctx, probe, caFile) })
	wg.Go(func() { found[1] = []Finding{e.client(ctx, probe)} })
	wg.Go(func() { found[2] = []Finding{redirectURI(ctx, probe)} })
	wg.Wait()
	found[3] = []Finding{clocks.finding("login.clock", e.cfg.Login.ClockLeeway.D(), "run NTP on both machines; login.clock_leeway says how much is tolerated")}
	all := e.provider(facts)
	for _, some := range found {
		all = append(all, some...)
	}
	return all
}

func discoveryFailed(err error, caFile string) Finding {
	f := unreachable("login.discovery", err, caFile)
	switch {
	case f.Advice != "":
	case strings.Contains(f.Detail, "metadata is of issuer"):
		f.Advice = "write login.issuer exactly as the provider does, slash at the end included"
	default:
		f.Advice = "login.issuer with /.well-known/openid-configuration behind it must answer with the provider's metadata"
	}
	return f
}

func (e *examination) provider(facts login.ProviderFacts) []Finding {
	found := []Finding{{"login.discovery", OK, e.cfg.Login.Issuer.String() + " answers as itself", ""}}
	switch {
	case facts.S256:
		found = append(found, Finding{"login.pkce", OK, "the provider does PKCE with S256", ""})
	case facts.Methods:
		found = append(found, Finding{"login.pkce", Warn, "the provider's metadata has PKCE without S256", "logins send S256 in any case; switch it on at the provider"})
	default:
		found = append(found, Finding{"login.pkce", Info, "the provider's metadata does not tell whether it does PKCE; logins send S256 in any case", ""})
	}
	if len(facts.UnknownScopes) > 0 {
		found = append(found, Finding{
			"login.scopes", Warn, "the provider does not list " + strings.Join(facts.UnknownScopes, ", "),
			"take them out of login.scopes, or allow them at the provider",
		})
	}
	if !facts.Logout {
		found = append(found, Finding{"login.logout", Info, "the provider has no end_session_endpoint: a logout ends the session here only", ""})
	}
	return found
}

func (e *examination) providerKeys(ctx context.Context, probe *login.Probe, caFile string) []Finding {
	const name = "login.keys"
	usable, all, err := probe.Keys(ctx)
	switch {
	case err != nil:
		f := unreachable(name, err, caFile)
		if f.Advice == "" {
			f.Advice = "the jwks_uri of the provider's metadata must answer with keys for signatures"
		}
		return []Finding{f}
	case usable == 0:
		return []Finding{{
			name, Fail, fmt.Sprintf("none of %d keys goes with %s", all, strings.Join(e.cfg.Login.SigningAlgorithms, ", ")),
			"list the algorithm that the provider signs with in login.signing_algorithms",
		}}
	}
	return []Finding{{name, OK, fmt.Sprintf("%d of %d keys go with login.signing_algorithms", usable, all), ""}}
}

func (e *examination) client(ctx context.Context, probe *login.Probe) Finding {
	const name = "login.client"
	err := probe.Client(ctx)
	switch {
	case err == nil:
		return Finding{name, OK, "the provider knows " + e.cfg.Login.ClientID + " and its secret", ""}
	case errors.Is(err, login.ErrClientRefused):
		return Finding{name, Fail, "the provider refuses client_id or client_secret", "compare both with the client's page at the provider, and login.token_endpoint_auth"}
	case errors.Is(err, login.ErrNotTold) && e.cfg.Login.ClientSecret.Text().Empty():
		return Finding{name, Info, "a public client has no secret that could be verified", ""}
	case errors.Is(err, login.ErrNotTold):
		return Finding{name, Info, "not verified: the provider answers a wrong secret like a right one until somebody logs in", ""}
	}
	f := unreachable(name, err, "login.ca_file")
	f.Status, f.Detail = Warn, "not verified: the token endpoint "+f.Detail
	if f.Advice == "" {
		f.Advice = "look at the provider's log"
	}
	return f
}

func redirectURI(ctx context.Context, probe *login.Probe) Finding {
	err := probe.Redirect(ctx)
	switch {
	case err == nil:
		return Finding{"login.redirect_uri", OK, probe.RedirectURI() + " is registered", ""}
	case errors.Is(err, login.ErrRedirectRefused):
		f := unregistered(probe.RedirectURI(), oneLine(err))
		f.Status = Fail
		return f
	}
	return unregistered(probe.RedirectURI(), "not verified")
}

func unregistered(uri, why string) Finding {
	return Finding{"login.redirect_uri", Info, why, "register " + uri + " at the provider, exactly like this"}
}
