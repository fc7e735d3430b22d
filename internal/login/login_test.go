package login_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/login"
	"github.com/whisp-bff/whisp-bff/internal/oidcsim"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

func TestLoginHappyPath(t *testing.T) {
	for name, change := range map[string]func(*setup){
		"basic":  nil,
		"post":   func(s *setup) { s.login.TokenEndpointAuth = "post" },
		"public": func(s *setup) { s.login.ClientSecret = setting.Secret{}; s.provider.Clients[0].Secret = secret.Text{} },
		"lean":   func(s *setup) { s.provider.LeanIDToken = true },
		"RS256":  func(s *setup) { s.provider.Algorithm = "RS256" },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, change, func(t *testing.T, d *desk) {
				query := d.begin("/inbox?folder=2#top")
				finished, err := d.finish(query)
				if err != nil {
					t.Fatal(err)
				}
				id := finished.Identity
				if id.Issuer != issuer || id.Subject != "demo-alice" || id.Claims["email"] != "alice@example.com" || id.Claims["preferred_username"] != "alice" {
					t.Errorf("identity %+v", id)
				}
				for _, name := range []string{"nonce", "at_hash", "aud", "exp", "sid"} {
					if _, ok := id.Claims[name]; ok {
						t.Errorf("claim %s is passed on", name)
					}
				}
				if finished.ReturnTo != "/inbox?folder=2#top" {
					t.Errorf("return to %q", finished.ReturnTo)
				}
				tokens := finished.Tokens
				if tokens.IDToken.Empty() || tokens.RefreshToken.Empty() || tokens.SessionID == "" || !tokens.AccessExpires.Equal(time.Now().Add(10*time.Minute)) {
					t.Errorf("tokens %+v", tokens)
				}
				if len(d.cookies) != 0 {
					t.Errorf("cookies left: %d", len(d.cookies))
				}
				d.wantSilence(nil, query)
			})
		})
	}
}

func TestBeginAsksAsTheSpecificationsWant(t *testing.T) {
	inBubble(t, func(s *setup) {
		s.login.Prompt, s.login.MaxAge = "select_account", setting.Duration(time.Hour)
		s.login.ExtraAuthorizeParams = map[string]string{"audience": "chat"}
	}, func(t *testing.T, d *desk) {
		d.faults(oidcsim.Faults{Metadata: func(m map[string]any) { delete(m, "code_challenge_methods_supported") }}) // security.md 5
		start, err := d.Begin(t.Context(), "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		u, _ := url.Parse(start.URL)
		query := u.Query()
		for name, want := range map[string]string{
			"response_type": "code", "client_id": "web", "redirect_uri": public + "/auth/callback", "scope": "openid profile email",
			"code_challenge_method": "S256", "prompt": "select_account", "max_age": "3600", "audience": "chat",
		} {
			if got := query[name]; len(got) != 1 || got[0] != want {
				t.Errorf("%s = %q, want %q", name, got, want)
			}
		}
		for name, length := range map[string]int{"code_challenge": 43, "nonce": 43} {
			if got := len(query.Get(name)); got != length {
				t.Errorf("%s has %d characters", name, got)
			}
		}
		c := start.SetCookies[0]
		if len(start.SetCookies) != 1 || !strings.HasPrefix(c.Name, "__Host-whisp-login-") || len(c.Name) != len("__Host-whisp-login-")+8 ||
			!c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.MaxAge != 600 {
			t.Errorf("cookies %v", start.SetCookies)
		}
		if strings.Contains(start.URL, c.Value) {
			t.Error("the browser's half is in the URL")
		}
	})
}

func TestPlainNamesOnLoopback(t *testing.T) {
	inBubble(t, func(s *setup) { s.deps.PublicURL = setting.MustURL("http://127.0.0.1:8080") }, func(t *testing.T, d *desk) {
		start, err := d.Begin(t.Context(), "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if c := start.SetCookies[0]; !strings.HasPrefix(c.Name, "whisp-login-") || c.Secure || !c.HttpOnly {
			t.Errorf("cookie %v", c)
		}
	})
}

// security.md 1.
func TestReturnToIsNeverForeign(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, d *desk) {
		for _, bad := range []string{"//evil", `/\evil`, `/\/evil`, "https:evil", "https://app@evil", "%2f%2fevil", "/%09/evil", "\t//evil", "/\r\nevil", "/" + strings.Repeat("x", 10_000)} {
			finished, err := d.finish(d.begin(bad))
			if err != nil || finished.ReturnTo != "/" {
				t.Errorf("%.20q: return to %q, %v", bad, finished.ReturnTo, err)
			}
		}
	})
}

// security.md 2 and 3.
func TestStateMustBeOursFreshAndUnused(t *testing.T) {
	for name, step := range map[string]func(d *desk, query url.Values) url.Values{
		"no state":       func(_ *desk, q url.Values) url.Values { q.Del("state"); return q },
		"state twice":    func(_ *desk, q url.Values) url.Values { q.Add("state", q.Get("state")); return q },
		"changed state":  func(_ *desk, q url.Values) url.Values { q.Set("state", flip(q.Get("state"))); return q },
		"cut state":      func(_ *desk, q url.Values) url.Values { q.Set("state", q.Get("state")[:40]); return q },
		"padded state":   func(_ *desk, q url.Values) url.Values { q.Set("state", q.Get("state")+"="); return q },
		"huge state":     func(_ *desk, q url.Values) url.Values { q.Set("state", strings.Repeat("A", 1<<20)); return q },
		"foreign state":  func(d *desk, q url.Values) url.Values { q.Set("state", foreignState(d)); return q },
		"another tab's":  func(d *desk, _ url.Values) url.Values { return anotherTab(d) },
		"other browser":  func(d *desk, q url.Values) url.Values { clear(d.cookies); return q },
		"changed cookie": func(d *desk, q url.Values) url.Values { changeCookies(d, flip); return q },
		"8 kB cookie": func(d *desk, q url.Values) url.Values {
			changeCookies(d, func(string) string { return strings.Repeat("A", 8000) })
			return q
		},
		"ten minutes later": func(_ *desk, q url.Values) url.Values { time.Sleep(10 * time.Minute); return q },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, d *desk) {
				query := step(d, d.begin("/x"))
				finished, err := d.finish(query)
				d.wantCode(err, "login_unknown", query)
				if !finished.Identity.Zero() {
					t.Error("an identity beside an error")
				}
				if n := d.provider.Requests(oidcsim.Token); n != 0 {
					t.Errorf("%d requests to the token endpoint", n)
				}
			})
		})
	}
}

func flip(text string) string {
	b := []byte(text)
	i := len(b) / 2
	if b[i] == 'B' {
		b[i] = 'C'
	} else {
		b[i] = 'B'
	}
	return string(b)
}

func changeCookies(d *desk, change func(string) string) {
	for _, c := range d.cookies {
		c.Value = change(c.Value)
	}
}

// anotherTab begins a second login and loses its cookie; the first login's stays.
func anotherTab(d *desk) url.Values {
	first := maps.Clone(d.cookies)
	second := d.begin("/")
	d.cookies = first
	return second
}

func foreignState(d *desk) string {
	other := newDesk(d.t, func(s *setup) { s.deps.StateKeys = []secret.Text{secret.New(strings.Repeat("z", 32))} })
	return other.begin("/").Get("state")
}

func TestCallbackWorksOnce(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, d *desk) {
		query := d.begin("/x")
		kept := d.jar()
		if _, err := d.finish(query); err != nil {
			t.Fatal(err)
		}
		again, err := d.Finish(t.Context(), query, kept)
		d.wantCode(err, "login_unknown", query)
		if again.ReturnTo != "/x" || len(again.SetCookies) != 1 || again.SetCookies[0].MaxAge >= 0 {
			t.Errorf("finished %+v: want the path to start again with, and the cookie deleted", again)
		}
		if n := d.provider.Requests(oidcsim.Token); n != 1 {
			t.Errorf("%d token requests", n)
		}
	})
}

func TestCallbackWorksOnceEvenInParallel(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, d *desk) {
		query, cookies := d.begin("/"), d.jar()
		var group sync.WaitGroup
		errs := make(chan error, 8)
		for range cap(errs) {
			group.Go(func() {
				_, err := d.Finish(t.Context(), query, cookies)
				errs <- err
			})
		}
		group.Wait()
		close(errs)
		good := 0
		for err := range errs {
			if err == nil {
				good++
			} else {
				d.wantCode(err, "login_unknown", query)
			}
		}
		if good != 1 {
			t.Errorf("%d of 8 finished", good)
		}
	})
}

func TestStateKeyRotation(t *testing.T) {
	older, newer := secret.New(strings.Repeat("1", 32)), secret.New(strings.Repeat("2", 32))
	inBubble(t, func(s *setup) { s.deps.StateKeys = []secret.Text{older} }, func(t *testing.T, d *desk) {
		query := d.begin("/x")
		rotated := newDesk(t, func(s *setup) {
			s.deps.StateKeys = []secret.Text{newer, older}
			s.deps.Transport = inMemory{d.provider}
		})
		finished, err := rotated.Finish(t.Context(), query, d.jar())
		if err != nil || finished.Identity.Subject != "demo-alice" {
			t.Errorf("a login begun under the old key: %v", err)
		}
	})
}

// A4 and A10: what is wrong with the answer, and that nothing comes of it.
func TestBadAnswersAreRejected(t *testing.T) {
	set := func(name string, value any) oidcsim.Faults {
		return oidcsim.Faults{IDToken: func(c map[string]any) {
			if c[name] = value; value == nil {
				delete(c, name)
			}
		}}
	}
	at := func(name string, offset time.Duration) oidcsim.Faults {
		return oidcsim.Faults{IDToken: func(c map[string]any) { c[name] = time.Now().Add(offset).Unix() }}
	}
	for name, faults := range map[string]oidcsim.Faults{
		"wrong nonce":            set("nonce", "other"),
		"no nonce":               set("nonce", nil),
		"other aud":              set("aud", "other"),
		"no aud":                 set("aud", nil),
		"two aud, no azp":        set("aud", []string{"web", "other"}),
		"other azp":              set("azp", "other"),
		"empty azp":              set("azp", ""),
		"azp no string":          set("azp", 1),
		"other iss":              set("iss", issuer+"/"),
		"no iss":                 set("iss", nil),
		"no sub":                 set("sub", nil),
		"empty sub":              set("sub", ""),
		"long sub":               set("sub", strings.Repeat("x", 256)),
		"NUL in sub":             set("sub", "a\x00b"),
		"sub no string":          set("sub", 7),
		"expired":                at("exp", -31*time.Second),
		"no exp":                 set("exp", nil),
		"iat in the future":      at("iat", 2*time.Minute),
		"no iat":                 set("iat", nil),
		"nbf in the future":      at("nbf", 2*time.Minute),
		"nbf no number":          set("nbf", "soon"),
		"wrong at_hash":          set("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"),
		"alg none":               {Signature: oidcsim.SignNone},
		"HS256 with public key":  {Signature: oidcsim.SignHS256WithPublicKey},
		"other key":              {Signature: oidcsim.SignOtherKey},
		"no ID token":            {TokenAnswer: func(a map[string]any) { delete(a, "id_token") }},
		"ID token no string":     {TokenAnswer: func(a map[string]any) { a["id_token"] = 1 }},
		"ID token garbage":       {TokenAnswer: func(a map[string]any) { a["id_token"] = "a.b.c" }},
		"no access token":        {TokenAnswer: func(a map[string]any) { delete(a, "access_token") }},
		"userinfo of another":    {Userinfo: func(c map[string]any) { c["sub"] = "demo-bob" }},
		"userinfo without sub":   {Userinfo: func(c map[string]any) { delete(c, "sub") }},
		"userinfo sub no string": {Userinfo: func(c map[string]any) { c["sub"] = []string{"demo-alice"} }},
		"userinfo 401":           fails(oidcsim.Userinfo, oidcsim.Status(401)),
		"userinfo garbage":       fails(oidcsim.Userinfo, oidcsim.Garbage()),
		"token answer garbage":   fails(oidcsim.Token, oidcsim.Garbage()),
		"token answer 2 MB":      fails(oidcsim.Token, oidcsim.Huge(2<<20)),
		"code refused":           fails(oidcsim.Token, oidcsim.OAuthError(400, "invalid_grant")),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(s *setup) { s.provider.LeanIDToken = true }, func(t *testing.T, d *desk) {
				query := d.begin("/")
				d.faults(faults)
				finished, err := d.finish(query)
				d.wantCode(err, "login_rejected", query)
				if !finished.Identity.Zero() || !finished.Tokens.IDToken.Empty() || !finished.Tokens.RefreshToken.Empty() {
					t.Error("something was created")
				}
				if len(d.cookies) != 0 {
					t.Error("the login's cookie is left")
				}
			})
		})
	}
}

func TestGoodAnswersThatLookOdd(t *testing.T) {
	for name, change := range map[string]func(c map[string]any){
		"two audiences and azp": func(c map[string]any) { c["aud"], c["azp"] = []string{"account", "web"}, "web" },
		"clock 20 s ahead": func(c map[string]any) {
			c["iat"], c["nbf"] = time.Now().Add(20*time.Second).Unix(), time.Now().Add(20*time.Second).Unix()
		},
		"expired 20 s ago":    func(c map[string]any) { c["exp"] = time.Now().Add(-20 * time.Second).Unix() },
		"no at_hash":          func(c map[string]any) { delete(c, "at_hash") },
		"sid no longer there": func(c map[string]any) { delete(c, "sid") },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, d *desk) {
				d.faults(oidcsim.Faults{IDToken: change})
				if _, err := d.finish(d.begin("/")); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// security.md 6.
func TestIssuerParameter(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, d *desk) {
		for name, issuerParam := range map[string]string{"another": "https://evil.example", "trailing slash": issuer + "/", "left out although announced": "-"} {
			d.faults(oidcsim.Faults{CallbackIssuer: issuerParam})
			query := d.begin("/")
			_, err := d.finish(query)
			if d.wantCode(err, "login_issuer_mismatch", query); t.Failed() {
				t.Log(name)
			}
		}
	})
	inBubble(t, nil, func(t *testing.T, d *desk) {
		d.faults(oidcsim.Faults{CallbackIssuer: "-", Metadata: func(m map[string]any) { delete(m, "authorization_response_iss_parameter_supported") }})
		if _, err := d.finish(d.begin("/")); err != nil {
			t.Errorf("a provider that does not know RFC 9207: %v", err)
		}
	})
}

// security.md 7.
func TestProviderErrors(t *testing.T) {
	for code, want := range map[string]string{
		"access_denied": "login_denied", "login_required": "login_denied", "interaction_required": "login_denied", "consent_required": "login_denied",
		"something_else": "login_denied", "temporarily_unavailable": "provider_unavailable", "server_error": "provider_unavailable",
		"unauthorized_client": "provider_refused_client", "invalid_scope": "provider_refused_client", "invalid_client": "provider_refused_client",
	} {
		t.Run(code, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, d *desk) {
				words := "<script>\r\nlevel=ERROR \x1b[31m\u202e" + strings.Repeat("long ", 500)
				d.faults(oidcsim.Faults{AuthorizeError: code, AuthorizeErrorDescription: words})
				query := d.begin("/")
				_, err := d.finish(query)
				d.wantCode(err, want, query)
				if strings.Contains(err.Error(), "script") {
					t.Error("the provider's words are in the error")
				}
				log := d.log.String()
				if !strings.Contains(log, code) || len(log) > 1000 || strings.ContainsAny(log, "\x1b\u202e") || strings.Contains(log, `\u001b`) {
					t.Errorf("log: %q", log)
				}
				if len(d.cookies) != 0 {
					t.Error("the login's cookie is left")
				}
			})
		})
	}
}

// security.md 8.
func TestTwentyTabsAllFinish(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, d *desk) {
		var queries []url.Values
		var starts []login.Start
		for range 20 { // all begun before the browser has seen any answer
			start, err := d.Begin(t.Context(), "/tab", nil)
			if err != nil {
				t.Fatal(err)
			}
			starts = append(starts, start)
		}
		for _, start := range starts {
			d.take(start.SetCookies)
			queries = append(queries, d.visit(start.URL))
		}
		slices.Reverse(queries)
		for i, query := range queries {
			if _, err := d.finish(query); err != nil {
				t.Errorf("tab %d: %v", i, err)
			}
		}
		if len(d.cookies) != 0 {
			t.Errorf("%d cookies left", len(d.cookies))
		}
	})
}

func TestLoginCookiesAreBounded(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, d *desk) {
		var queries []url.Values
		for range 60 {
			queries = append(queries, d.begin("/"))
			time.Sleep(2 * time.Second)
			if len(d.cookies) > 24 {
				t.Fatalf("%d login cookies", len(d.cookies))
			}
		}
		d.cookies["unrelated"] = &http.Cookie{Name: "unrelated", Value: "long-enough-value"}
		for i, query := range queries {
			_, err := d.finish(query)
			if evicted := i < 60-24; evicted != (err != nil) {
				t.Errorf("login %d of 60: %v", i, err)
			}
		}
		if len(d.cookies) != 1 {
			t.Errorf("cookies left: %d", len(d.cookies))
		}
	})
}

// security.md 11.
func TestClaimsAreBoundedAndUnchanged(t *testing.T) {
	odd := "a\x00b\u202e\U0001F600{{ .Secret }}"
	inBubble(t, nil, func(t *testing.T, d *desk) {
		groups := make([]string, 10_000)
		for i := range groups {
			groups[i] = fmt.Sprintf("group-%d", i)
		}
		d.provider.SetClaims("alice", map[string]any{"name": odd, "email_verified": false, "employee": 12345678901234567, "groups": groups})
		finished, err := d.finish(d.begin("/"))
		if err != nil {
			t.Fatal(err)
		}
		claims := finished.Identity.Claims
		if claims["name"] != odd || claims["email_verified"] != false || fmt.Sprint(claims["employee"]) != "12345678901234567" || claims["sub"] != "demo-alice" {
			t.Errorf("claims %v", claims)
		}
		if _, there := claims["groups"]; there || !strings.Contains(d.log.String(), "groups") {
			t.Error("100 kB of groups were kept, or dropped in silence")
		}
		if !finished.Tokens.IDToken.Empty() {
			t.Error("an ID token too long for a URL was kept as a hint")
		}
		d.provider.SetClaims("alice", map[string]any{"name": "Alice", "groups": strings.Repeat("x", 1<<20)})
		query := d.begin("/")
		_, err = d.finish(query)
		d.wantCode(err, "login_rejected", query)
	})
}

func TestMaxAge(t *testing.T) {
	inBubble(t, func(s *setup) { s.login.MaxAge = setting.Duration(time.Hour) }, func(t *testing.T, d *desk) {
		if _, err := d.finish(d.begin("/")); err != nil {
			t.Error(err)
		}
		for _, authTime := range []any{time.Now().Add(-2 * time.Hour).Unix(), nil, "x"} {
			d.faults(oidcsim.Faults{IDToken: func(c map[string]any) { c["auth_time"] = authTime }})
			query := d.begin("/")
			_, err := d.finish(query)
			d.wantCode(err, "login_rejected", query)
		}
	})
}

func TestRefresh(t *testing.T) {
	for _, rotate := range []bool{true, false} {
		t.Run(fmt.Sprint("rotate ", rotate), func(t *testing.T) {
			inBubble(t, func(s *setup) { s.provider.KeepRefreshToken = !rotate }, func(t *testing.T, d *desk) {
				finished, err := d.finish(d.begin("/"))
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
				first := finished.Tokens
				second, err := d.Refresh(t.Context(), first, "demo-alice")
				if err != nil {
					t.Fatal(err)
				}
				if second.RefreshToken.Empty() || second.RefreshToken.Equal(first.RefreshToken) == rotate {
					t.Error("wrong refresh token")
				}
				if second.IDToken.Equal(first.IDToken) || second.SessionID != first.SessionID || !second.AccessExpires.Equal(time.Now().Add(10*time.Minute)) {
					t.Errorf("tokens %+v", second)
				}
			})
		})
	}
}

func TestRefreshWithoutNewIDToken(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, d *desk) {
		finished, err := d.finish(d.begin("/"))
		if err != nil {
			t.Fatal(err)
		}
		d.faults(oidcsim.Faults{TokenAnswer: func(a map[string]any) { delete(a, "id_token"); delete(a, "refresh_token"); delete(a, "expires_in") }})
		fresh, err := d.Refresh(t.Context(), finished.Tokens, "demo-alice")
		if err != nil || !fresh.IDToken.Equal(finished.Tokens.IDToken) || !fresh.RefreshToken.Equal(finished.Tokens.RefreshToken) ||
			fresh.SessionID != finished.Tokens.SessionID || !fresh.AccessExpires.IsZero() {
			t.Errorf("tokens %+v, %v", fresh, err)
		}
	})
}

// Only the JSON error invalid_grant ends anything.
func TestRefreshFailures(t *testing.T) {
	text := func(status int, kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	for name, tc := range map[string]struct {
		faults oidcsim.Faults
		code   string
		ended  bool
	}{
		"invalid_grant":         {fails(oidcsim.Token, oidcsim.OAuthError(400, "invalid_grant")), "session_required", true},
		"invalid_grant, 403":    {fails(oidcsim.Token, oidcsim.OAuthError(403, "invalid_grant")), "session_required", true},
		"invalid_grant, 500":    {fails(oidcsim.Token, oidcsim.OAuthError(500, "invalid_grant")), "provider_unavailable", false},
		"invalid_grant as form": {fails(oidcsim.Token, text(400, "application/x-www-form-urlencoded", "error=invalid_grant")), "provider_refused_client", false},
		"invalid_grant as HTML": {fails(oidcsim.Token, text(400, "text/html", "<p>invalid_grant")), "provider_refused_client", false},
		"invalid_client":        {fails(oidcsim.Token, oidcsim.OAuthError(401, "invalid_client")), "provider_refused_client", false},
		"429":                   {fails(oidcsim.Token, oidcsim.Status(429)), "provider_unavailable", false},
		"500":                   {fails(oidcsim.Token, oidcsim.Status(500)), "provider_unavailable", false},
		"garbage":               {fails(oidcsim.Token, oidcsim.Garbage()), "provider_unavailable", false},
		"hangs":                 {fails(oidcsim.Token, oidcsim.Hang()), "provider_unavailable", false},
		"redirect":              {fails(oidcsim.Token, oidcsim.Redirect("https://evil.example/token")), "provider_refused_client", false},
		"somebody else":         {oidcsim.Faults{IDToken: func(c map[string]any) { c["sub"] = "demo-bob" }}, "login_rejected", false},
		"other issuer":          {oidcsim.Faults{IDToken: func(c map[string]any) { c["iss"] = "https://evil.example" }}, "login_rejected", false},
		"person gone":           {oidcsim.Faults{}, "session_required", true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, d *desk) {
				finished, err := d.finish(d.begin("/"))
				if err != nil {
					t.Fatal(err)
				}
				if d.faults(tc.faults); name == "person gone" {
					d.provider.Disable("alice")
				}
				_, err = d.Refresh(t.Context(), finished.Tokens, "demo-alice")
				d.wantCode(err, tc.code, nil)
				if errors.Is(err, login.ErrEnded) != tc.ended {
					t.Errorf("ErrEnded: %v", err)
				}
			})
		})
	}
}

func TestRefreshNeedsARefreshToken(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, d *desk) {
		_, err := d.Refresh(t.Context(), identity.ProviderTokens{}, "demo-alice")
		d.wantCode(err, "internal", nil)
	})
}

func TestLogoutURL(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, d *desk) {
		if _, ok := d.LogoutURL(secret.Text{}); ok {
			t.Error("a logout URL before discovery")
		}
		finished, err := d.finish(d.begin("/"))
		if err != nil {
			t.Fatal(err)
		}
		address, ok := d.LogoutURL(finished.Tokens.IDToken)
		u, err := url.Parse(address)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		query := u.Query()
		if !strings.HasPrefix(address, issuer+"/end-session?") || query.Get("client_id") != "web" || query.Get("post_logout_redirect_uri") != public+"/" ||
			query.Get("id_token_hint") != finished.Tokens.IDToken.Reveal() {
			t.Errorf("query %v", query)
		}
		if address, ok = d.LogoutURL(secret.New(strings.Repeat("x", 5000))); !ok || len(address) > 1000 {
			t.Error("a hint that is too long was sent")
		}
	})
	inBubble(t, nil, func(t *testing.T, d *desk) {
		d.faults(oidcsim.Faults{Metadata: func(m map[string]any) { m["end_session_endpoint"] = "http://login.example.com/logout" }})
		if _, err := d.finish(d.begin("/")); err != nil {
			t.Fatal(err)
		}
		if _, ok := d.LogoutURL(secret.Text{}); ok {
			t.Error("an unusable end_session_endpoint was used")
		}
	})
}
