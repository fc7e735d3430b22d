package sockproxy

import (
	"net/http"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// origins decides from where realtime may be used. Browsers apply neither the
// same-origin rule nor CORS to WebSocket handshakes and script tags, so this
// check is what keeps a foreign page from chatting with the visitor's session
// (cross-site WebSocket hijacking).
type origins struct {
	list []string // own origin first, as RFC 6454 section 6.2 serialises them
}

func newOrigins(public setting.URL, others []setting.URL) origins {
	o := origins{list: []string{public.Origin()}}
	for _, more := range others {
		o.list = append(o.list, more.Origin())
	}
	return o
}

// has compares exactly: browsers send the serialised form. "null" is never in it.
func (o origins) has(origin string) bool {
	for _, allowed := range o.list {
		if origin == allowed {
			return true
		}
	}
	return false
}

// check reports whether a request may pass. An Origin must be a listed one. A
// WebSocket handshake of a browser always has one. Same-origin GETs have none;
// for those Sec-Fetch-Site, which no page can forge, must say same-origin (or,
// for the iframe page alone, none: opened by hand). Without both the client is no
// browser of this decade, see allow_missing_origin.
func (o origins) check(r *http.Request, t transport, allowMissing bool) bool {
	sent, site := r.Header["Origin"], r.Header["Sec-Fetch-Site"]
	if len(sent) > 1 || len(site) > 1 {
		return false
	}
	if len(sent) == 1 {
		return o.has(sent[0])
	}
	if len(site) == 0 {
		return allowMissing
	}
	if t.upgrades() {
		return false
	}
	return site[0] == "same-origin" || t == iframeDoc && site[0] == "none"
}
