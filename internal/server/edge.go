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
	server  *Server
	clients clients
	hosts   map[string]bool
}

func (e *edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	client, trusted := e.clients.of(r)
	x := &exchange{
		ResponseWriter: w, r: r, client: client, route: routeUnknown,
		id: requestID(r, trusted), started: e.server.deps.Clock(),
	}
	r.Header.Set(requestIDHeader, x.id)
	w.Header().Set(requestIDHeader, x.id)
	defer e.server.observe(x)
	defer e.recover(x)
	if err := e.check(r); err != nil {
		x.fail(err)
		return
	}
	e.server.route(x)
}

// check refuses what no route of ours or of the app should ever see.
func (e *edge) check(r *http.Request) error {
	switch {
	case r.Method == http.MethodConnect, r.Method == http.MethodTrace:
		return problem.MethodNotAllowed()
	case !strings.HasPrefix(r.URL.Path, "/"): // "OPTIONS *"
		return problem.PathNotCanonical()
	case !e.hosts[strings.ToLower(r.Host)]:
		return problem.HostUnknown().Because(fmt.Errorf("Host is not %q nor one of server.extra_hosts", e.server.deps.PublicURL.Host))
	}
	return nil
}

// recover answers 500 to a panic. A handler that wants the connection broken
// (ReverseProxy does, when an answer breaks off half way) gets that.
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
	if x.status == 0 {
		x.fail(problem.Internal())
	}
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
