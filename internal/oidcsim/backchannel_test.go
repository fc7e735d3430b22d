package oidcsim_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/whisp-bff/whisp-bff/internal/oidcsim"
)

// listener is a client's back-channel logout endpoint.
type listener struct {
	mu     sync.Mutex
	tokens []string
	status int
}

func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tokens = append(l.tokens, r.PostFormValue("logout_token"))
	w.WriteHeader(l.status)
}

func (l *listener) took() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	tokens := l.tokens
	l.tokens = nil
	return tokens
}

func TestBackChannelLogout(t *testing.T) {
	client := &listener{status: http.StatusOK}
	endpoint := httptest.NewServer(client)
	t.Cleanup(endpoint.Close)
	d := open(t, func(c *oidcsim.Config) {
		c.HTTP = endpoint.Client()
		c.Clients[0].BackChannelLogoutURI = endpoint.URL
	})
	var metadata struct {
		Supported bool `json:"backchannel_logout_supported"`
		Session   bool `json:"backchannel_logout_session_supported"`
	}
	if err := d.oidc.Claims(&metadata); err != nil || !metadata.Supported || !metadata.Session {
		t.Errorf("metadata %+v, %v", metadata, err)
	}
	verifier := d.oidc.Verifier(&oidc.Config{ClientID: "web", SupportedSigningAlgs: []string{"ES256"}, Now: d.clock})
	login := func() (idToken string, sid string) {
		t.Helper()
		token, err := d.exchange(d.code())
		if err != nil {
			t.Fatal(err)
		}
		idToken, _ = token.Extra("id_token").(string)
		var claims struct{ SID string }
		verified, err := d.oidc.Verifier(&oidc.Config{ClientID: "web", SupportedSigningAlgs: []string{"ES256"}, Now: d.clock}).Verify(d.ctx, idToken)
		if err != nil || verified.Claims(&claims) != nil || claims.SID == "" {
			t.Fatalf("ID token: %v, sid %q", err, claims.SID)
		}
		return idToken, claims.SID
	}
	wantOne := func(sid string) {
		t.Helper()
		tokens := client.took()
		if len(tokens) != 1 {
			t.Fatalf("%d logout tokens", len(tokens))
		}
		logout, err := verifier.VerifyLogout(d.ctx, tokens[0])
		if err != nil || logout.SessionID != sid || logout.Subject != "demo-alice" || !slices.Equal(logout.Audience, []string{"web"}) {
			t.Errorf("%+v, %v", logout, err)
		}
	}

	idToken, sid := login()
	d.get(d.Issuer() + "/end-session?" + url.Values{"id_token_hint": {idToken}}.Encode())
	wantOne(sid)

	_, sid = login()
	if err := d.LogOut(t.Context(), "alice"); err != nil {
		t.Error(err)
	}
	wantOne(sid)
	if err := d.LogOut(t.Context(), "alice"); err != nil || len(client.took()) != 0 {
		t.Errorf("nobody was logged in: %v", err)
	}

	login()
	client.mu.Lock()
	client.status = http.StatusBadRequest
	client.mu.Unlock()
	if err := d.LogOut(t.Context(), "alice"); err == nil {
		t.Error("the client's refusal is no error")
	}
	if err := d.Deliver(t.Context(), "spa", "token"); err == nil {
		t.Error("delivered to a client without an address")
	}
}
