package server

import (
	"html"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/whisp-bff/whisp-bff/internal/problem"
)

// link leads out of an error page.
type link struct{ to, text string }

// writeErrorPage answers with what a person sees when a sign-in fails: fixed words,
// and a path of ours to go on. Six texts need no html/template, which would make
// the linker keep every exported method there is (see package claimtext).
func writeErrorPage(x *exchange, what *problem.Problem, out link) {
	page := strings.NewReplacer(
		"{title}", html.EscapeString(what.Title), "{message}", html.EscapeString(what.Message),
		"{to}", html.EscapeString(out.to), "{text}", html.EscapeString(out.text), // out.to is a path: never javascript:
		"{code}", html.EscapeString(what.Code), "{id}", html.EscapeString(x.id),
	).Replace(errorPageHTML)
	h := x.Header()
	if what.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(what.RetryAfter.Seconds()))))
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	x.WriteHeader(what.Status)
	_, _ = io.WriteString(x, page)
}

const errorPageHTML = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5d6879; --paper: #f4f6f9; --card: #fff; --line: #dfe4ea; --go: #2f5bd7; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf2; --soft: #9aa6b6; --paper: #12161c; --card: #1b2129; --line: #2b333e; --go: #7d9dff; } }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 26rem; margin: 1.5rem; padding: 2rem; background: var(--card); border: 1px solid var(--line); border-radius: 14px; }
h1 { margin: 0 0 .5rem; font-size: 1.3rem; }
p { margin: 0 0 1.5rem; color: var(--soft); }
a { display: inline-block; padding: .6rem 1.1rem; border-radius: 9px; background: var(--go); color: var(--card); text-decoration: none; font-weight: 600; }
small { display: block; margin-top: 1.75rem; color: var(--soft); font: 12px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
</style>
<main>
<h1>{title}</h1>
<p>{message}</p>
<a href="{to}">{text}</a>
<small>{code} · {id}</small>
</main>
</html>
`
