//go:build linux

package main

import (
	"context"
	"fmt"
)

// measureHTTP compares what every page view and every sign-in cost.
func measureHTTP(ctx context.Context, l *lab, p plan, out *report) error {
	quiet, err := l.newPair(ctx, siteOptions{})
	if err != nil {
		return err
	}
	proxied := append(quiet.proxied(0.5), contender{
		name: "net/http ReverseProxy alone", process: l.bare, mallocs: l.bareMallocs, order: again(rawRequest("GET", l.bare, "/page", "Cookie: "+quiet.cookie)),
	})
	samples, err := out.compare(ctx, l, p, "Proxied GET, 1 KiB", proxied)
	if err != nil {
		return err
	}
	out.besides("whisp-bff to ReverseProxy alone", samples[1], samples[2])
	signIn := append(quiet.signIn(1.2), contender{
		name: "net/http answering a constant", process: l.bare, mallocs: l.bareMallocs, order: again(rawRequest("GET", l.bare, "/plain")),
	}, contender{
		name: "nginx answering a constant", process: quiet.nginx, order: again(rawRequest("GET", quiet.nginx, "/plain")),
	})
	if samples, err = out.compare(ctx, l, p, "Sign-in from a live grant", signIn); err != nil {
		return err
	}
	out.besides("whisp-bff to net/http alone", samples[1], samples[2])
	quiet.stop()

	logging, err := l.newPair(ctx, siteOptions{accessLog: true})
	if err != nil {
		return err
	}
	p.rounds = (p.rounds + 1) / 2
	if _, err := out.compare(ctx, l, p, "Proxied GET, access logs on", logging.proxied(0)); err != nil {
		return err
	}
	_, err = out.compare(ctx, l, p, "Sign-in, access logs on", logging.signIn(0))
	logging.stop()
	return err
}

// compare measures and prints; it returns what it measured.
func (r *report) compare(ctx context.Context, l *lab, p plan, title string, contenders []contender) ([][]sample, error) {
	samples, err := l.compare(ctx, p, contenders)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", title, err)
	}
	r.table(title, contenders, samples)
	return samples, nil
}

// besides prints a ratio to somebody else than nginx.
func (r *report) besides(what string, of, to []sample) {
	r.line("  %-32s %7s %6.2f %9s %6.2f", what, "", ratio(of, to, rate), "", ratio(of, to, perCPUSecond))
}

// pair is nginx and whisp-bff in front of the same upstream, with somebody
// signed in.
type pair struct {
	nginx, bff *process
	site       *site
	cookie     string
}

func (l *lab) newPair(ctx context.Context, opts siteOptions) (*pair, error) {
	nginx, err := l.startNginx(ctx, opts.accessLog)
	if err != nil {
		return nil, err
	}
	s, err := l.newSite(opts)
	if err != nil {
		return nil, err
	}
	bff, err := s.start(ctx)
	if err != nil {
		return nil, err
	}
	cookie, err := s.login(ctx)
	if err != nil {
		return nil, err
	}
	return &pair{nginx: nginx, bff: bff, site: s, cookie: cookie}, nil
}

func (p *pair) stop() {
	p.bff.stop()
	p.nginx.stop()
}

// proxied is a page of the app, for somebody with a valid session. nginx gets
// the same bytes and only passes them on.
func (p *pair) proxied(target float64) []contender {
	return []contender{
		{name: "nginx", process: p.nginx, order: again(rawRequest("GET", p.nginx, "/page", "Cookie: "+p.cookie))},
		{name: "whisp-bff, session checked", process: p.bff, mallocs: p.site.mallocs, target: target,
			order: again(rawRequest("GET", p.bff, "/page", "Cookie: "+p.cookie))},
	}
}

// signIn is the sign-in of somebody whose JWT is good for a while yet, which
// is what a page asks at every load, beside nginx's plain GET: the one it
// proxies.
func (p *pair) signIn(target float64) []contender {
	return []contender{
		{name: "nginx, proxied GET", process: p.nginx, order: again(rawRequest("GET", p.nginx, "/page", "Cookie: "+p.cookie))},
		{name: "whisp-bff, live grant", process: p.bff, mallocs: p.site.mallocs, target: target, order: again(p.signInRequest())},
	}
}

func (p *pair) signInRequest() []byte {
	return rawRequest("POST", p.bff, "/auth/whisp/sign-in", "Origin: http://"+p.bff.address.String(),
		"Sec-Fetch-Site: same-origin", "Content-Length: 0", "Cookie: "+p.cookie)
}
