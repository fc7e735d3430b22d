//go:build linux

package main

import (
	"context"
	"fmt"
)

// measureHTTP compares what every page view and every sign-in cost.
func measureHTTP(ctx context.Context, l *lab, p plan, out *report) error {
	quiet, err := l.newLineup(ctx, siteOptions{})
	if err != nil {
		return err
	}
	proxied := append(quiet.proxied(0.5), contender{
		name: "net/http ReverseProxy alone", process: l.bare, mallocs: l.bareMallocs, order: again(quiet.page(l.bare)),
	})
	samples, err := out.compare(ctx, l, p, "Proxied GET, 1 KiB", proxied)
	if err != nil {
		return err
	}
	for i, b := range quiet.bffs {
		out.besides(b.name+" to ReverseProxy alone", samples[1+i], samples[1+len(quiet.bffs)])
	}
	signIn := append(quiet.signIn(1.2), contender{
		name: "net/http answering a constant", process: l.bare, mallocs: l.bareMallocs, order: again(rawRequest("GET", l.bare, "/plain")),
	}, contender{
		name: "nginx answering a constant", process: quiet.nginx, order: again(rawRequest("GET", quiet.nginx, "/plain")),
	})
	if samples, err = out.compare(ctx, l, p, "Sign-in from a live grant", signIn); err != nil {
		return err
	}
	for i, b := range quiet.bffs {
		out.besides(b.name+" to net/http alone", samples[1+i], samples[1+len(quiet.bffs)])
	}
	quiet.stop()

	logging, err := l.newLineup(ctx, siteOptions{accessLog: true})
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
	r.variants(l, samples)
	return samples, nil
}

// variants prints how the other whisp-bffs do beside the first: the samples
// behind nginx's are theirs.
func (r *report) variants(l *lab, samples [][]sample) {
	for i, b := range l.binaries[1:] {
		of, to := samples[2+i], samples[1]
		r.besides(b.name+" to "+l.binaries[0].name, of, to)
		r.spreads(of, to)
	}
}

// spreads prints how far a ratio's rounds lie apart, without the outer quarters:
// whether a difference can be told from noise.
func (r *report) spreads(of, to []sample) {
	slow := func(s sample) float64 { return s.p99.Seconds() }
	r.line("    %-30s %14s  per CPU-second %s, p99 %s", fmt.Sprintf("middle half of %d rounds", len(of)),
		middleHalf(of, to, rate), middleHalf(of, to, perCPUSecond), middleHalf(of, to, slow))
}

// besides prints a ratio to somebody else than nginx.
func (r *report) besides(what string, of, to []sample) {
	r.line("  %-32s %7s %6.2f %9s %6.2f", what, "", ratio(of, to, rate), "", ratio(of, to, perCPUSecond))
}

// lineup is nginx and every whisp-bff in front of the same upstream.
type lineup struct {
	nginx *process
	bffs  []*bff
}

// bff is a whisp-bff that runs, with somebody signed in.
type bff struct {
	*process
	site   *site
	cookie string
}

func (l *lab) newLineup(ctx context.Context, opts siteOptions) (*lineup, error) {
	nginx, err := l.startNginx(ctx, opts)
	if err != nil {
		return nil, err
	}
	p := &lineup{nginx: nginx}
	for _, binary := range l.binaries {
		b, err := l.newBFF(ctx, binary, opts)
		if err != nil {
			return nil, err
		}
		p.bffs = append(p.bffs, b)
	}
	return p, nil
}

func (l *lab) newBFF(ctx context.Context, binary candidate, opts siteOptions) (*bff, error) {
	s, err := l.newSite(binary, opts)
	if err != nil {
		return nil, err
	}
	process, err := s.start(ctx)
	if err != nil {
		return nil, err
	}
	cookie, err := s.login(ctx)
	return &bff{process: process, site: s, cookie: cookie}, err
}

func (p *lineup) stop() {
	for _, b := range p.bffs {
		b.stop()
	}
	p.nginx.stop()
}

// proxied is a page of the app, for somebody with a valid session. nginx gets
// as many bytes and only passes them on.
func (p *lineup) proxied(target float64) []contender {
	contenders := []contender{{name: "nginx", process: p.nginx, order: again(p.page(p.nginx))}}
	for _, b := range p.bffs {
		contenders = append(contenders, contender{
			name: b.name + ", session checked", process: b.process, mallocs: b.site.mallocs, target: target,
			order: again(rawRequest("GET", b.process, "/page", "Cookie: "+b.cookie)),
		})
	}
	return contenders
}

// page asks one that checks no session for the app's page, with a cookie as long
// as whisp-bff's.
func (p *lineup) page(of *process) []byte {
	return rawRequest("GET", of, "/page", "Cookie: "+p.bffs[0].cookie)
}

// signIn is the sign-in of somebody whose JWT is good for a while yet, which
// is what a page asks at every load, beside nginx's plain GET: the one it
// proxies.
func (p *lineup) signIn(target float64) []contender {
	contenders := []contender{{name: "nginx, proxied GET", process: p.nginx, order: again(p.page(p.nginx))}}
	for _, b := range p.bffs {
		contenders = append(contenders, contender{
			name: b.name + ", live grant", process: b.process, mallocs: b.site.mallocs, target: target,
			order: again(b.write("/auth/whisp/sign-in", b.cookie)),
		})
	}
	return contenders
}

// write is a POST without a body, as the page's own script sends it.
func (b *bff) write(path, cookie string) []byte {
	return rawRequest("POST", b.process, path, "Origin: http://"+b.address.String(),
		"Sec-Fetch-Site: same-origin", "Content-Length: 0", "Cookie: "+cookie)
}
