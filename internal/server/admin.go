package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// adminRoutes are the admin listener's. Only /admin/ asks for authentication; the
// rest tells nothing private. It belongs on loopback or a cluster network.
func (s *Site) adminRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.deps.Metrics, promhttp.HandlerOpts{}))
	if s.parts.Assertions != nil {
		mux.HandleFunc("GET /jwks", s.writeJWKS)
	}
	api := newAdminAPI(s.cfg.AdminToken.Text(), s.deps, s.draining.Load)
	adminAccounts{s.parts.Broker, s.draining.Load}.register(api)
	adminSessions{s}.register(api)
	adminDrain{s}.register(api)
	mux.Handle("/admin/", api.mux)
	if s.cfg.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	}
	return mux
}

// healthz says that the process lives: restart it if not.
func (s *Site) healthz(w http.ResponseWriter, _ *http.Request) {
	answerChecks(w, map[string]error{"process": nil})
}

var errDraining = errors.New("shutting down")

// readyz says whether to send people here. Whisp is not asked: if it is down,
// the app and existing sessions still work, and no other replica would do
// better.
func (s *Site) readyz(w http.ResponseWriter, _ *http.Request) {
	checks := map[string]error{"shutdown": nil, "realtime": s.realtimeReady()}
	if s.parts.Login != nil {
		checks["login"] = s.parts.Login.Ready()
	}
	if s.draining.Load() {
		checks["shutdown"] = errDraining
	}
	answerChecks(w, checks)
}

// answerChecks names each check and says nothing of causes, which are in the log
// of whoever found them.
func answerChecks(w http.ResponseWriter, checks map[string]error) {
	answer := struct {
		Status string            `json:"status"`
		Checks map[string]string `json:"checks"`
	}{"ok", make(map[string]string, len(checks))}
	status := http.StatusOK
	for name, err := range checks {
		answer.Checks[name] = "ok"
		if err != nil {
			answer.Checks[name], answer.Status = "failing", "unavailable"
			status = http.StatusServiceUnavailable
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}
