package login_test

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/login"
	"github.com/whisp-bff/whisp-bff/internal/oidcsim"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// run starts Run in the bubble and returns what stops it.
func (d *desk) run() (stop func()) {
	ctx, cancel := context.WithCancel(d.t.Context())
	var group sync.WaitGroup
	group.Go(func() { d.Run(ctx) })
	return func() { cancel(); group.Wait() }
}

func TestProviderDownAtStart(t *testing.T) {
	for name, how := range map[string]http.HandlerFunc{
		"500": oidcsim.Status(500), "404": oidcsim.Status(404), "429": oidcsim.Status(429), "garbage": oidcsim.Garbage(),
		"2 MB": oidcsim.Huge(2 << 20), "hangs": oidcsim.Hang(), "redirect": oidcsim.Redirect("https://evil.example/.well-known/openid-configuration"),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, d *desk) {
				d.faults(fails(oidcsim.Discovery, how))
				defer d.run()()
				time.Sleep(5 * time.Minute)
				if d.Ready() == nil {
					t.Fatal("ready without a provider")
				}
				// Backoff: not a storm, and not asleep either.
				if n := d.provider.Requests(oidcsim.Discovery); n < 6 || n > 40 {
					t.Errorf("%d attempts in five minutes", n)
				}
				begun := time.Now()
				_, err := d.Begin(t.Context(), "/", nil)
				d.wantCode(err, "provider_unavailable", nil)
				if took := time.Since(begun); took > 3*time.Second {
					t.Errorf("Begin took %s", took)
				}
				if problem.From(err).RetryAfter <= 0 {
					t.Error("no Retry-After")
				}
				d.faults(oidcsim.Faults{})
				time.Sleep(41 * time.Second) // an attempt that hangs for 10 s, and the longest pause
				if err := d.Ready(); err != nil {
					t.Fatalf("not ready after the provider came back: %v", err)
				}
				if _, err := d.finish(d.begin("/")); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestBadMetadataIsNotUsed(t *testing.T) {
	set := func(name string, value any) oidcsim.Faults {
		return oidcsim.Faults{Metadata: func(m map[string]any) { m[name] = value }}
	}
	for name, faults := range map[string]oidcsim.Faults{
		"other issuer":            set("issuer", "https://evil.example"),
		"issuer with slash":       set("issuer", issuer+"/"),
		"no token endpoint":       set("token_endpoint", ""),
		"token endpoint http":     set("token_endpoint", "http://login.example.com/token"),
		"jwks with user name":     set("jwks_uri", "https://user:pass@login.example.com/jwks"),
		"authorization is script": set("authorization_endpoint", "javascript:alert(1)"),
		"types are wrong":         set("token_endpoint", 1),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, d *desk) {
				d.faults(faults)
				_, err := d.Begin(t.Context(), "/", nil)
				d.wantCode(err, "provider_unavailable", nil)
				if d.Ready() == nil {
					t.Error("ready with bad metadata")
				}
			})
		})
	}
}

func TestManyLoginsAskADeadProviderOnce(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, d *desk) {
		d.faults(fails(oidcsim.Discovery, oidcsim.Hang()))
		var group sync.WaitGroup
		begun := time.Now()
		for range 50 {
			group.Go(func() {
				_, err := d.Begin(t.Context(), "/", nil)
				if problem.From(err).Code != "provider_unavailable" {
					t.Errorf("error %v", err)
				}
			})
		}
		group.Wait()
		if took := time.Since(begun); took > 3*time.Second {
			t.Errorf("took %s", took)
		}
		if n := d.provider.Requests(oidcsim.Discovery); n > 2 {
			t.Errorf("%d requests", n)
		}
	})
}

func TestMetadataAndKeysAreRefreshedAndKept(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, d *desk) {
		defer d.run()()
		synctest.Wait()
		if err := d.Ready(); err != nil {
			t.Fatal(err)
		}
		d.faults(fails(oidcsim.Discovery, oidcsim.Status(500)))
		time.Sleep(3 * time.Hour)
		if _, err := d.finish(d.begin("/")); err != nil || d.Ready() != nil {
			t.Errorf("the last good metadata is not used: %v, %v", err, d.Ready())
		}
		d.faults(oidcsim.Faults{Metadata: func(m map[string]any) { m["end_session_endpoint"] = issuer + "/moved" }})
		time.Sleep(2 * time.Hour)
		if address, _ := d.LogoutURL(setting.SecretValue("x").Text()); !strings.HasPrefix(address, issuer+"/moved?") {
			t.Errorf("metadata was not refreshed: %s", address)
		}
	})
}

func TestKeyRotationAndWithdrawal(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, d *desk) {
		if _, err := d.finish(d.begin("/")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if err := d.provider.RotateKey(); err != nil {
			t.Fatal(err)
		}
		if _, err := d.finish(d.begin("/")); err != nil {
			t.Errorf("after rotation: %v", err)
		}
		if n := d.provider.Requests(oidcsim.JWKS); n != 2 {
			t.Errorf("%d key set requests, want 2", n)
		}
		// Unknown keys ask again, but not for every login.
		d.faults(oidcsim.Faults{Signature: oidcsim.SignOtherKey})
		for range 20 {
			query := d.begin("/")
			_, err := d.finish(query)
			d.wantCode(err, "login_rejected", query)
		}
		if n := d.provider.Requests(oidcsim.JWKS); n > 3 {
			t.Errorf("%d key set requests", n)
		}
	})
}

func TestEndpointsFailDuringLogin(t *testing.T) {
	for name, tc := range map[string]struct {
		faults oidcsim.Faults
		code   string
	}{
		"token 500":             {fails(oidcsim.Token, oidcsim.Status(500)), "provider_unavailable"},
		"token 429":             {fails(oidcsim.Token, oidcsim.Status(429)), "provider_unavailable"},
		"token hangs":           {fails(oidcsim.Token, oidcsim.Hang()), "provider_unavailable"},
		"token redirects":       {fails(oidcsim.Token, oidcsim.Redirect("https://evil.example/token")), "provider_refused_client"},
		"token redirects home":  {fails(oidcsim.Token, oidcsim.Redirect(issuer+"/token")), "provider_refused_client"},
		"token 404":             {fails(oidcsim.Token, oidcsim.Status(404)), "provider_refused_client"},
		"client refused":        {fails(oidcsim.Token, oidcsim.OAuthError(401, "invalid_client")), "provider_refused_client"},
		"200 with an error":     {fails(oidcsim.Token, oidcsim.OAuthError(200, "unauthorized_client")), "provider_refused_client"},
		"server_error":          {fails(oidcsim.Token, oidcsim.OAuthError(400, "server_error")), "provider_unavailable"},
		"keys 500":              {fails(oidcsim.JWKS, oidcsim.Status(500)), "provider_unavailable"},
		"keys hang":             {fails(oidcsim.JWKS, oidcsim.Hang()), "provider_unavailable"},
		"keys garbage":          {fails(oidcsim.JWKS, oidcsim.Garbage()), "provider_unavailable"},
		"keys 50 MB":            {fails(oidcsim.JWKS, oidcsim.Huge(50<<20)), "provider_unavailable"},
		"keys redirect":         {fails(oidcsim.JWKS, oidcsim.Redirect("https://evil.example/jwks")), "provider_unavailable"},
		"userinfo 500":          {fails(oidcsim.Userinfo, oidcsim.Status(500)), "provider_unavailable"},
		"userinfo hangs":        {fails(oidcsim.Userinfo, oidcsim.Hang()), "provider_unavailable"},
		"userinfo redirects":    {fails(oidcsim.Userinfo, oidcsim.Redirect("https://evil.example/userinfo")), "provider_unavailable"},
		"userinfo loops":        {fails(oidcsim.Userinfo, oidcsim.Redirect(issuer+"/userinfo")), "provider_unavailable"},
		"userinfo 10 MB answer": {fails(oidcsim.Userinfo, oidcsim.Huge(10<<20)), "provider_unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(s *setup) { s.provider.LeanIDToken = true }, func(t *testing.T, d *desk) {
				query := d.begin("/x")
				d.faults(tc.faults)
				begun := time.Now()
				finished, err := d.finish(query)
				d.wantCode(err, tc.code, query)
				if took := time.Since(begun); took > 10*time.Second {
					t.Errorf("took %s", took)
				}
				if !finished.Identity.Zero() || finished.ReturnTo != "/x" {
					t.Errorf("finished %+v", finished)
				}
				if name == "token 429" && problem.From(err).RetryAfter != 7*time.Second {
					t.Error("Retry-After was not passed on")
				}
				d.faults(oidcsim.Faults{})
				time.Sleep(2 * time.Second)
				if _, err := d.finish(d.begin("/")); err != nil {
					t.Errorf("does not heal: %v", err)
				}
			})
		})
	}
}

func TestFinishAfterARestartWithTheProviderDown(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, d *desk) {
		query := d.begin("/x")
		restarted := newDesk(t, func(s *setup) { s.deps.Transport = broken{} })
		restarted.cookies = d.cookies
		_, err := restarted.finish(query)
		restarted.wantCode(err, "provider_unavailable", query)
		if len(d.cookies) != 1 {
			t.Fatal("the cookie is gone, so reloading cannot help")
		}
		if _, err := d.finish(query); err != nil {
			t.Errorf("reload: %v", err)
		}
	})
}

func TestStoreDown(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, d *desk) {
		query := d.begin("/x")
		d.once.err = errors.New("connection refused")
		_, err := d.finish(query)
		d.wantCode(err, "store_unavailable", query)
		if n := d.provider.Requests(oidcsim.Token); n != 0 {
			t.Error("the code was used although nobody could remember it")
		}
		d.once.err = nil
		if _, err := d.finish(query); err != nil {
			t.Errorf("reload: %v", err)
		}
	})
}

func TestRefreshOutlivesItsCaller(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, d *desk) {
		finished, err := d.finish(d.begin("/"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		fresh, err := d.Refresh(ctx, finished.Tokens, "demo-alice")
		if err != nil || fresh.RefreshToken.Equal(finished.Tokens.RefreshToken) {
			t.Errorf("a rotated refresh token was lost: %v", err)
		}
	})
}

// The rest is about real sockets: TLS by ca_file, and redirects.

func TestOwnTransport(t *testing.T) {
	var provider atomic.Pointer[oidcsim.Provider]
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { provider.Load().ServeHTTP(w, r) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // the untrusted handshake would be reported
	server.StartTLS()
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, trusted := range []bool{true, false} {
		d := newDesk(t, func(s *setup) {
			s.provider.Issuer = server.URL
			s.login.Issuer = setting.MustURL(server.URL)
			if trusted {
				s.login.CAFile = ca
			}
			own := login.OwnTransport(t, s.login)
			t.Cleanup(own.CloseIdleConnections)
			s.deps.Transport = own
		})
		provider.Store(d.provider)
		if !trusted {
			_, err := d.Begin(t.Context(), "/", nil)
			d.wantCode(err, "provider_unavailable", nil)
			continue
		}
		query := d.begin("/")
		if _, err := d.finish(query); err != nil {
			t.Error(err)
		}
		elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed to another host") }))
		defer elsewhere.Close()
		for _, endpoint := range []oidcsim.Endpoint{oidcsim.Token, oidcsim.JWKS, oidcsim.Userinfo} {
			d.provider.SetClaims("alice", nil) // so that userinfo is asked
			query := d.begin("/")
			d.faults(fails(endpoint, oidcsim.Redirect(elsewhere.URL)))
			if _, err := d.finish(query); err == nil && endpoint != oidcsim.JWKS {
				t.Errorf("%s: redirect elsewhere went unnoticed", endpoint)
			}
			d.faults(oidcsim.Faults{})
		}
	}
}
