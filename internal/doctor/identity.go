package doctor

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/whisp-bff/whisp-bff/internal/identity"
)

// identity asks the sources other than our own sessions.
func (e *examination) identity(ctx context.Context) []Finding {
	var checks []func() Finding
	cfg := e.cfg.Identity
	for _, source := range cfg.Sources {
		switch source {
		case identity.SourceBearer:
			for i, issuer := range cfg.Bearer {
				checks = append(checks, func() Finding { return e.bearer(ctx, fmt.Sprintf("identity.bearer[%d]", i), issuer) })
			}
		case identity.SourceIntrospection:
			checks = append(checks, func() Finding { return e.introspection(ctx, cfg.Introspection) })
		case identity.SourceAppSession:
			checks = append(checks, func() Finding { return e.appSession(ctx, cfg.AppSession) })
		case identity.SourceForwarded:
			checks = append(checks, func() Finding {
				return Finding{
					"identity.forwarded", Info, "not verified: only the auth proxy can ask; it must come from " + strings.Join(cfg.Forwarded.TrustedPeers, ", "),
					"",
				}
			})
		}
	}
	found := make([]Finding, len(checks))
	var wg sync.WaitGroup
	for i, check := range checks {
		wg.Go(func() { found[i] = check() })
	}
	wg.Wait()
	return found
}

func (e *examination) sourceDeps() identity.Deps {
	return identity.Deps{Logger: e.deps.Logger, Clock: e.deps.Clock, Rand: e.deps.Rand}
}

func (e *examination) bearer(ctx context.Context, name string, cfg identity.BearerConfig) Finding {
	usable, all, err := identity.ProbeBearer(ctx, cfg, e.sourceDeps())
	switch {
	case errors.Is(err, identity.ErrKeysUnnamed):
		return Finding{name, Info, "not verified: " + err.Error() + ", as tokens name them", ""}
	case err != nil:
		f := unreachable(name, err, name+".ca_file")
		if f.Advice == "" {
			f.Advice = "correct issuer, or name the key set in jwks_url"
		}
		return f
	case usable == 0:
		return Finding{name, Fail, fmt.Sprintf("none of %d keys goes with algorithms", all), "list the algorithm that the issuer signs with"}
	}
	return Finding{name, OK, fmt.Sprintf("%d of %d keys can be used", usable, all), ""}
}

func (e *examination) introspection(ctx context.Context, cfg identity.IntrospectionConfig) Finding {
	const name = "identity.introspection"
	made, err := e.madeUp()
	if err != nil {
		return Finding{name, Warn, oneLine(err), ""}
	}
	active, err := identity.ProbeIntrospection(ctx, cfg, e.sourceDeps(), made)
	switch {
	case err != nil:
		f := unreachable(name, err, name+".ca_file")
		if f.Advice == "" {
			f.Advice = "compare url, client_id and its credential with the client's page at the provider"
		}
		return f
	case active:
		return Finding{name, Fail, "the endpoint takes a made-up token for good", "do not serve like this: everybody is let in; correct url"}
	}
	return Finding{name, OK, "the endpoint answers us, and does not know a made-up token", ""}
}

func (e *examination) appSession(ctx context.Context, cfg identity.AppSessionConfig) Finding {
	const name = "identity.app_session"
	made, err := e.madeUp()
	if err != nil {
		return Finding{name, Warn, oneLine(err), ""}
	}
	known, err := identity.ProbeAppSession(ctx, cfg, identity.AppSite{
		PublicURL: e.cfg.PublicURL, URL: e.cfg.App.URL, CAFile: e.cfg.App.CAFile, PreserveHost: e.cfg.App.PreserveHost,
		OwnCookies: e.deps.OwnCookies,
	}, e.sourceDeps(), made)
	switch {
	case err != nil:
		f := unreachable(name, err, name+".ca_file")
		if f.Advice == "" {
			f.Advice = "the endpoint must answer a cookie it does not know with 401, a redirect, or JSON without a subject"
		}
		return f
	case known:
		return Finding{name, Fail, "the endpoint knows somebody by a made-up cookie", "do not serve like this: everybody is let in as that person; correct url or subject"}
	}
	return Finding{name, OK, "the endpoint answers, and knows nobody by a made-up cookie", ""}
}

// madeUp is a credential that nobody gave out.
func (e *examination) madeUp() (string, error) {
	bytes := make([]byte, 24)
	if _, err := io.ReadFull(e.deps.Rand, bytes); err != nil {
		return "", fmt.Errorf("random bytes: %w", err)
	}
	return "check-" + hex.EncodeToString(bytes), nil
}
