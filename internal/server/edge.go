package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// edge is the outermost handler of the public listener: what happens to every
// request before anybody looks at what it asks for.
//
//	name the request → serve, and recover if that panics → count and log
//	                     └ method and Host checked → routes
type edge struct {
	server  *Site
	clients clients
	hosts   map[string]bool
}

func (e *edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	client, trusted := e.clients.of(r)
	x := &exchange{
		ResponseWriter: w, r: r, client: client, route: routeUnknown,
		id: requestID(r, trusted), started: e.server.deps.Clock(),
	}
	x.ids[0] = x.id
	r.Header[requestIDHeader], w.Header()[requestIDHeader] = x.ids[:], x.ids[:]
	keepThroughHops(r.Header)
	if e.server.draining.Load() && r.Header["Upgrade"] == nil {
		// Whoever is in front must have let go of this connection before it is
		// closed under a request.
		w.Header().Set("Connection", "close")
	}
	defer e.server.observe(x) //nolint:contextcheck // x carries the request and its context
	defer e.recover(x)        //nolint:contextcheck // as above
	if r.ContentLength != 0 {
		defer e.takeBody(x)()
	}
	if err := e.check(r); err != nil {
		if problem.From(err).Status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
		}
		x.fail(err)
		return
	}
	e.server.route(x) //nolint:contextcheck // as above
}

// takeBody bounds the body of a request, and returns what bounds the rest of it
// that nobody wanted.
func (e *edge) takeBody(x *exchange) (afterwards func()) {
	if unframed(x.r) {
		x.Header().Set("Connection", "close")
	}
	x.body = newSlowBody(x.ResponseWriter, x.r.Body, e.server.bodyPatience)
	// A copy: net/http looks at its own request to see how much is left.
	own := *x.r
	own.Body = x.body
	x.r = &own
	return x.body.wait
}

// keepThroughHops takes our request id out of what a client calls hop-by-hop:
// proxies, ours included, remove what Connection names.
func keepThroughHops(h http.Header) {
	for i, line := range h["Connection"] {
		if len(line) < len(requestIDHeader) || !strings.Contains(strings.ToLower(line), strings.ToLower(requestIDHeader)) {
			continue
		}
		var kept []string
		for token := range strings.SplitSeq(line, ",") {
			if !strings.EqualFold(strings.TrimSpace(token), requestIDHeader) {
				kept = append(kept, token)
			}
		}
		h["Connection"][i] = strings.Join(kept, ",")
	}
}

// check refuses what no route of ours or of the app should ever see.
func (e *edge) check(r *http.Request) error {
	switch {
	case r.Method == http.MethodConnect, r.Method == http.MethodTrace:
		return problem.MethodNotAllowed()
	case !strings.HasPrefix(r.URL.Path, "/"): // "OPTIONS *"
		return problem.PathNotCanonical()
	case !e.hosts[strings.ToLower(r.Host)]:
		return problem.HostUnknown().Because(fmt.Errorf("host is not %q nor one of server.extra_hosts", e.server.deps.PublicURL.Host))
	}
	return nil
}

// recover answers 500 to a panic. A handler that wants the connection broken
// (ReverseProxy does, when an answer breaks off half way) gets that, and so
// does one that panics half way: the client must not take half for the whole.
func (e *edge) recover(x *exchange) {
	fault := recover()
	if fault == nil {
		return
	}
	if err, ok := fault.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(fault)
	}
	e.server.deps.Logger.LogAttrs(x.r.Context(), slog.LevelError, "panic",
		slog.String("request_id", x.id), slog.String("route", x.route),
		slog.String("type", fmt.Sprintf("%T", fault)), slog.String("stack", string(debug.Stack())))
	if x.status != 0 {
		panic(http.ErrAbortHandler)
	}
	clear(x.Header()) // half of somebody else's answer
	x.Header()[requestIDHeader] = []string{x.id}
	x.fail(problem.Internal())
}

// knownHosts are the Host headers that are ours, the default port written out
// or not.
func knownHosts(public setting.URL, extra []string) map[string]bool {
	hosts := map[string]bool{strings.ToLower(public.Host): true}
	switch {
	case public.Port() == "" && public.Scheme == "https":
		hosts[strings.ToLower(public.Host)+":443"] = true
	case public.Port() == "":
		hosts[strings.ToLower(public.Host)+":80"] = true
	}
	for _, host := range extra {
		hosts[strings.ToLower(host)] = true
	}
	return hosts
}
