package sockproxy

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// endpoint is Whisp's realtime endpoint.
const endpoint = "/api/wsConnect"

// transport is what a realtime path is for: the last segment of SockJS's paths
// (SockJS protocol 0.3.3).
type transport string

const (
	plainWS     transport = "plain"     // /api/wsConnect: what the SDK opens
	rawWS       transport = "raw"       // /api/wsConnect/websocket: the same, as SockJS calls it
	sockWS      transport = "websocket" // SockJS frames in a WebSocket
	infoDoc     transport = "info"      // what the server can do
	iframeDoc   transport = "iframe"    // the page of cross-domain transports
	xhrPoll     transport = "xhr"
	xhrSend     transport = "xhr_send"
	xhrStream   transport = "xhr_streaming"
	eventSource transport = "eventsource"
	htmlFile    transport = "htmlfile"
	jsonpPoll   transport = "jsonp"
	jsonpSend   transport = "jsonp_send"
)

// methods of the SockJS protocol. OPTIONS, for CORS, is answered by us.
var methods = map[transport]string{
	plainWS: http.MethodGet, rawWS: http.MethodGet, sockWS: http.MethodGet, infoDoc: http.MethodGet,
	iframeDoc: http.MethodGet, eventSource: http.MethodGet, htmlFile: http.MethodGet, jsonpPoll: http.MethodGet,
	xhrPoll: http.MethodPost, xhrSend: http.MethodPost, xhrStream: http.MethodPost, jsonpSend: http.MethodPost,
}

// upgrades reports whether t is a WebSocket.
func (t transport) upgrades() bool { return t == plainWS || t == rawWS || t == sockWS }

// sends reports whether t carries messages to Whisp and nothing back.
func (t transport) sends() bool { return t == xhrSend || t == jsonpSend }

// streams reports whether the answer of t is one long stream of SockJS frames.
func (t transport) streams() bool { return t == xhrStream || t == eventSource || t == htmlFile }

// route is a realtime path that may pass. Path is made of the parts that
// matched, not copied from the request.
type route struct {
	transport transport
	path      string
	server    string // SockJS server id, drawn once per client
	session   string // SockJS session id, drawn once per attempt
}

// match finds the route of a canonical path; the allow-list of this package.
func match(path string) (route, bool) {
	rest, ok := strings.CutPrefix(path, endpoint)
	if !ok {
		return route{}, false
	}
	switch {
	case rest == "":
		return route{transport: plainWS, path: endpoint}, true
	case rest == "/websocket":
		return route{transport: rawWS, path: endpoint + "/websocket"}, true
	case rest == "/info":
		return route{transport: infoDoc, path: endpoint + "/info"}, true
	case strings.HasPrefix(rest, "/iframe") && strings.HasSuffix(rest, ".html"):
		name := strings.TrimSuffix(strings.TrimPrefix(rest, "/iframe"), ".html")
		if len(name) > 64 || !consists(name, "-._") {
			return route{}, false
		}
		return route{transport: iframeDoc, path: endpoint + "/iframe" + name + ".html"}, true
	}
	return matchSession(rest)
}

// matchSession takes "/<server>/<session>/<transport>".
func matchSession(rest string) (route, bool) {
	parts := strings.Split(rest, "/")
	if len(parts) != 4 || parts[0] != "" || !identifier(parts[1], 64) || !identifier(parts[2], 128) {
		return route{}, false
	}
	switch t := transport(parts[3]); t {
	case sockWS, xhrPoll, xhrSend, xhrStream, eventSource, htmlFile, jsonpPoll, jsonpSend:
		return route{
			transport: t, server: parts[1], session: parts[2],
			path: endpoint + "/" + parts[1] + "/" + parts[2] + "/" + string(t),
		}, true
	}
	return route{}, false
}

func identifier(s string, most int) bool { return s != "" && len(s) <= most && consists(s, "-_") }

// consists reports whether s has only ASCII letters, digits and the characters of more.
func consists(s, more string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && strings.IndexByte(more, c) < 0 {
			return false
		}
	}
	return true
}

const (
	maxTicket   = 4096
	maxCallback = 64
)

// query is what a realtime request may ask: the ticket, sockjs-client's time
// stamp against caches, and the callback of jsonp and htmlfile.
type query struct {
	ticket   secret.Text // decoded; empty: none
	raw      secret.Text // the ticket as it came; the SDK does not encode it
	stamp    string
	callback string
}

// parseQuery reads a raw query. Unknown parameters are left out, since a
// client may have any; a known one that is doubled, too long or has characters
// outside its alphabet makes the query invalid.
func parseQuery(rawQuery string) (q query, ok bool) {
	if len(rawQuery) > 2*maxTicket {
		return query{}, false
	}
	seen := map[string]bool{}
	for pair := range strings.SplitSeq(rawQuery, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if name != "ticket" && name != "t" && name != "c" {
			continue
		}
		if seen[name] {
			return query{}, false
		}
		seen[name] = true
		switch name {
		case "ticket":
			decoded, err := url.PathUnescape(value) // a plus is a plus: nobody form-encoded it
			if err != nil || len(value) > maxTicket || !consists(value, "-._~!$'()*+,:;=@/%") {
				return query{}, false
			}
			q.ticket, q.raw = secret.New(decoded), secret.New(value)
		case "t":
			if len(value) > 32 || !consists(value, "-_.") {
				return query{}, false
			}
			q.stamp = value
		case "c":
			if len(value) > maxCallback || !consists(value, "_.") {
				return query{}, false
			}
			q.callback = value
		}
	}
	return q, true
}

// encode builds the query that goes to Whisp.
func (q query) encode() string {
	var parts []string
	if !q.raw.Empty() {
		parts = append(parts, "ticket="+q.raw.Reveal())
	}
	if q.stamp != "" {
		parts = append(parts, "t="+q.stamp)
	}
	if q.callback != "" {
		parts = append(parts, "c="+q.callback)
	}
	return strings.Join(parts, "&")
}
