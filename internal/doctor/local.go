package doctor

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/session"
	"github.com/whisp-bff/whisp-bff/internal/store"
)

// configuration is valid, or nobody would be here; left are warnings, and secrets
// written into the file.
func (e *examination) configuration(context.Context) []Finding {
	found := []Finding{{"configuration", OK, "every setting is valid", ""}}
	for _, w := range e.cfg.Warnings() {
		found = append(found, Finding{"configuration", Warn, strings.TrimSpace(w.Key + " " + w.Problem), w.Fix})
	}
	if inline := e.cfg.InlineSecrets(); len(inline) > 0 && !e.cfg.PublicURL.Loopback() {
		found = append(found, Finding{
			"configuration", Warn, strings.Join(inline, ", ") + " written into the file itself",
			"whoever reads the file has them: write {file: …} or {env: …}",
		})
	}
	return found
}

// publicURL must be what browsers can reach; a name that only they can resolve is
// no mistake.
func (e *examination) publicURL(ctx context.Context) []Finding {
	u := e.cfg.PublicURL
	cookie, status, advice := session.CookieName, OK, ""
	if u.Scheme != "https" {
		cookie, status, advice = session.LoopbackCookieName, Info, "for this machine only: everywhere else it must be https"
	}
	found := []Finding{{"public_url", status, fmt.Sprintf("%s, session cookie %s", u.Origin(), cookie), advice}}
	host := u.Hostname()
	if net.ParseIP(host) != nil || u.Loopback() {
		return found
	}
	if _, err := e.deps.Resolve(ctx, host); err != nil {
		found = append(found, Finding{"public_url.dns", Warn, host + " does not resolve here", "make sure that it does where the browsers are"})
	} else {
		found = append(found, Finding{"public_url.dns", OK, host + " resolves", ""})
	}
	return found
}

// listeners tries to listen, which fails where the server runs already.
func (e *examination) listeners(ctx context.Context) []Finding {
	var found []Finding
	for _, listener := range []struct{ name, address string }{
		{"server.listen", e.cfg.Server.Listen}, {"server.admin_listen", e.cfg.Server.AdminListen},
	} {
		f := Finding{Name: listener.name, Status: OK, Detail: listener.address + " is free"}
		opened, err := new(net.ListenConfig).Listen(ctx, "tcp", listener.address)
		switch {
		case err == nil:
			_ = opened.Close()
		case errors.Is(err, syscall.EADDRINUSE):
			f.Status, f.Detail, f.Advice = Info, listener.address+" is in use", "that is right if whisp-bff is running here; else choose another port"
		case errors.Is(err, syscall.EACCES):
			f.Status, f.Detail, f.Advice = Fail, listener.address+" may not be used by this user", "choose a port from 1024"
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			f.Status, f.Detail, f.Advice = Fail, listener.address+" is no address of this machine", "write an address of this machine, or :port for all of them"
		default:
			f.Status, f.Detail = Fail, listener.address+" cannot be listened on: "+oneLine(err)
		}
		found = append(found, f)
	}
	return found
}

// files are the certificate authorities that the configuration names.
func (e *examination) files(context.Context) []Finding {
	named := []struct{ name, path string }{{"app.ca_file", e.cfg.App.CAFile}, {"whisp.ca_file", e.cfg.Whisp.CAFile}}
	add := func(used bool, name, path string) {
		if used {
			named = append(named, struct{ name, path string }{name, path})
		}
	}
	who := e.cfg.Identity
	add(who.Uses(identity.SourceSession), "login.ca_file", e.cfg.Login.CAFile)
	add(who.Uses(identity.SourceIntrospection), "identity.introspection.ca_file", who.Introspection.CAFile)
	add(who.Uses(identity.SourceAppSession), "identity.app_session.ca_file", who.AppSession.CAFile)
	for i, issuer := range who.Bearer {
		add(who.Uses(identity.SourceBearer), fmt.Sprintf("identity.bearer[%d].ca_file", i), issuer.CAFile)
	}
	add(e.cfg.Store.Kind == store.KindRedis, "store.redis.tls.ca_file", e.cfg.Store.Redis.TLS.CAFile)
	var found []Finding
	for _, file := range named {
		if file.path != "" {
			found = append(found, authorities(file.name, file.path, e.deps.Clock()))
		}
	}
	return found
}

// soon is how long before its end a certificate is worth a warning.
const soon = 30 * 24 * time.Hour

// authorities judges a PEM file by the certificate that lasts longest: bundles have
// expired ones in them.
func authorities(name, path string, now time.Time) Finding {
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return Finding{name, Fail, oneLine(err), "correct the path, or let the user that runs whisp-bff read it"}
	}
	count := 0
	var end time.Time
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		parsed, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return Finding{name, Fail, path + " has a certificate that cannot be read", "write the file anew"}
		}
		count++
		if parsed.NotAfter.After(end) {
			end = parsed.NotAfter
		}
	}
	day := end.UTC().Format(time.DateOnly)
	switch {
	case count == 0:
		return Finding{name, Fail, path + " has no PEM certificate", "write the authority's certificate into it, beginning with -----BEGIN CERTIFICATE-----"}
	case !now.Before(end):
		return Finding{name, Fail, path + " expired on " + day, "write the authority's new certificate into it"}
	case end.Sub(now) < soon:
		return Finding{name, Warn, path + " expires on " + day, "write the authority's next certificate beside this one"}
	}
	return Finding{name, OK, fmt.Sprintf("%s: %d certificates, valid until %s", path, count, day), ""}
}
