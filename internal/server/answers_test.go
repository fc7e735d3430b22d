package server_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/broker"
	"github.com/whisp-bff/whisp-bff/internal/oidcsim"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

// Answers that docs/openapi.yaml describes and that no story in the other tests
// comes to.

func TestNameTaken(t *testing.T) {
	t.Parallel()
	s := start(t, withAdminToken, func(c *setup) { c.account.OnConflict = broker.Fail })
	s.whisp.AddUser("alice", "somebody@example.com", secret.New("Somebody-else-5"))
	s.login(t, "alice").send(t, http.MethodPost, "/auth/whisp/sign-in", sameOrigin).want(http.StatusConflict, "account_conflict")
	s.administer(t, http.MethodPost, "/admin/accounts", person("u1", map[string]any{"preferred_username": "alice"})).
		want(http.StatusConflict, "account_conflict")
	if users := s.whisp.Users(); len(users) != 1 {
		t.Errorf("%d accounts", len(users))
	}
}

func TestProfileRefused(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.whisp.Fail(whispsim.Fault{Operation: "registerUser", Status: http.StatusBadRequest, Body: `{"message":"surName is too odd"}`})
	s.login(t, "alice").send(t, http.MethodPost, "/auth/whisp/sign-in", sameOrigin).want(http.StatusUnprocessableEntity, "account_invalid")
	s.whisp.Heal("registerUser")
	if users := s.whisp.Users(); len(users) != 0 {
		t.Errorf("%d accounts", len(users))
	}
}

// The client secret is wrong: an operator's matter, and no session.
func TestProviderRefusesClient(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.waitReady(t)
	s.provider.SetFaults(oidcsim.Faults{Endpoints: map[oidcsim.Endpoint]http.HandlerFunc{
		oidcsim.Token: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error":"invalid_client"}`)
		},
	}})
	b := s.browser()
	b.send(t, http.MethodGet, b.toProvider(t, "alice", "/")).want(http.StatusBadGateway, "provider_refused_client")
	if b.cookies[sessionCookie] != "" {
		t.Error("a session")
	}
}

func TestNobodySignsOut(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.send(t, http.MethodPost, "/auth/whisp/sign-out", sameOrigin).want(http.StatusUnauthorized, "session_required")
}

func TestAdminPreviewRefuses(t *testing.T) {
	t.Parallel()
	s := start(t, withAdminToken)
	s.administer(t, http.MethodPost, "/admin/accounts/preview", `{"issuer": 1}`).want(http.StatusBadRequest, "body_invalid")
	s.administer(t, http.MethodPost, "/admin/accounts/preview", person("", nil)).want(http.StatusUnprocessableEntity, "identity_invalid")
}
