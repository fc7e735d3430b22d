package login_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/login"
	"github.com/whisp-bff/whisp-bff/internal/oidcsim"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
)

const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// logoutToken is an honest one about alice's session, but for the faults.
func (d *desk) logoutToken(f oidcsim.Faults) string {
	d.t.Helper()
	d.faults(f)
	defer d.faults(oidcsim.Faults{})
	token, err := d.provider.LogoutToken("web", "demo-alice", "sid-1")
	if err != nil {
		d.t.Fatal(err)
	}
	return token
}

// logOut hands a token in, and returns what was asked for.
func (d *desk) logOut(token string) (asked []login.Logout, err error) {
	err = d.BackChannelLogout(d.t.Context(), secret.New(token), func(_ context.Context, l login.Logout) error {
		asked = append(asked, l)
		return nil
	})
	return asked, err
}

// code is the code of the problem in err; "" without one.
func code(err error) string {
	if err == nil {
		return ""
	}
	return problem.From(err).Code
}

func without(names ...string) oidcsim.Faults {
	return oidcsim.Faults{LogoutToken: func(claims map[string]any) {
		for _, name := range names {
			delete(claims, name)
		}
	}}
}

func with(name string, value any) oidcsim.Faults {
	return oidcsim.Faults{LogoutToken: func(claims map[string]any) { claims[name] = value }}
}

func at(name string, offset time.Duration) oidcsim.Faults {
	return oidcsim.Faults{LogoutToken: func(claims map[string]any) { claims[name] = time.Now().Add(offset).Unix() }}
}

func TestLogoutTokens(t *testing.T) {
	alice := login.Logout{Issuer: issuer, Subject: "demo-alice", ProviderSession: "sid-1"}
	everywhere, unnamed := alice, alice
	everywhere.ProviderSession, unnamed.Subject = "", ""
	for name, tt := range map[string]struct {
		faults oidcsim.Faults
		want   *login.Logout // nil: refused
	}{
		"honest":                          {oidcsim.Faults{}, &alice},
		"typ JWT":                         {oidcsim.Faults{LogoutTokenType: "JWT"}, &alice},
		"typ in full":                     {oidcsim.Faults{LogoutTokenType: "application/Logout+JWT"}, &alice},
		"sub alone":                       {without("sid"), &everywhere},
		"sid alone":                       {without("sub"), &unnamed},
		"several audiences":               {with("aud", []string{"other", "web"}), &alice},
		"more events":                     {with("events", map[string]any{"urn:other": map[string]any{}, logoutEvent: map[string]any{"reason": "x"}}), &alice},
		"a clock slightly ahead":          {at("iat", 20*time.Second), &alice},
		"just expired":                    {at("exp", -20*time.Second), &alice},
		"lives long":                      {at("exp", 24*365*time.Hour), &alice},
		"neither sub nor sid":             {without("sub", "sid"), nil},
		"no jti":                          {without("jti"), nil},
		"jti is a number":                 {with("jti", 7), nil},
		"long jti":                        {with("jti", strings.Repeat("j", 1025)), nil},
		"long sid":                        {with("sid", strings.Repeat("s", 1025)), nil},
		"sub with control characters":     {with("sub", "a\x00b"), nil},
		"a nonce":                         {with("nonce", "n"), nil},
		"a nonce of null":                 {with("nonce", nil), nil},
		"no events":                       {without("events"), nil},
		"other events":                    {with("events", map[string]any{"urn:other": map[string]any{}}), nil},
		"events is a list":                {with("events", []string{logoutEvent}), nil},
		"the event is no object":          {with("events", map[string]any{logoutEvent: true}), nil},
		"the event is null":               {with("events", map[string]any{logoutEvent: nil}), nil},
		"another audience":                {with("aud", "other"), nil},
		"no audience":                     {without("aud"), nil},
		"another issuer":                  {with("iss", issuer+"/"), nil},
		"no issuer":                       {without("iss"), nil},
		"no iat":                          {without("iat"), nil},
		"iat in the future":               {at("iat", 2*time.Minute), nil},
		"iat long ago":                    {at("iat", -11*time.Minute), nil},
		"no exp":                          {without("exp"), nil},
		"expired":                         {at("exp", -31*time.Second), nil},
		"alg none":                        {oidcsim.Faults{Signature: oidcsim.SignNone}, nil},
		"HS256 with the public key":       {oidcsim.Faults{Signature: oidcsim.SignHS256WithPublicKey}, nil},
		"signed with another key":         {oidcsim.Faults{Signature: oidcsim.SignOtherKey}, nil},
		"an access token (at+jwt)":        {oidcsim.Faults{LogoutTokenType: "at+jwt"}, nil},
		"a security event (secevent+jwt)": {oidcsim.Faults{LogoutTokenType: "secevent+jwt"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, d *desk) {
				token := d.logoutToken(tt.faults)
				asked, err := d.logOut(token)
				if tt.want == nil {
					if code(err) != "logout_token_invalid" || len(asked) != 0 {
						t.Errorf("got %+v, %v", asked, err)
					}
					for _, part := range strings.Split(token, ".") {
						if len(part) > 0 && (strings.Contains(err.Error(), part) || strings.Contains(d.log.String(), part)) {
							t.Error("a part of the token is in the error or the log")
						}
					}
					return
				}
				if err != nil || len(asked) != 1 {
					t.Fatalf("got %+v, %v", asked, err)
				}
				if got := asked[0]; got.IssuedAt.IsZero() || got.Issuer != tt.want.Issuer || got.Subject != tt.want.Subject || got.ProviderSession != tt.want.ProviderSession {
					t.Errorf("asked for %+v, want %+v", got, *tt.want)
				}
				if asked, err := d.logOut(token); code(err) != "logout_token_invalid" || len(asked) != 0 {
					t.Errorf("a second time: %+v, %v", asked, err)
				}
			})
		})
	}
}

func TestLogoutTokensThatAreNone(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, d *desk) {
		finished, err := d.finish(d.begin("/"))
		if err != nil {
			t.Fatal(err)
		}
		honest := d.logoutToken(oidcsim.Faults{})
		header, rest, _ := strings.Cut(honest, ".")
		for name, token := range map[string]string{
			"nothing":            "",
			"junk":               "junk",
			"two parts":          header + "." + strings.Split(rest, ".")[0],
			"no JSON":            base64.RawURLEncoding.EncodeToString([]byte("{")) + "." + rest,
			"typ is a number":    base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","typ":1}`)) + "." + rest,
			"a changed header":   base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256"}`)) + "." + rest,
			"JSON serialisation": `{"payload":"` + strings.Split(rest, ".")[0] + `","protected":"` + header + `","signature":"` + strings.Split(rest, ".")[1] + `"}`,
			"an ID token":        finished.Tokens.IDToken.Reveal(),
			"100 kB":             honest + strings.Repeat("A", 100<<10),
			"with a space":       honest + " ",
		} {
			if asked, err := d.logOut(token); code(err) != "logout_token_invalid" || len(asked) != 0 {
				t.Errorf("%s: %+v, %v", name, asked, err)
			}
		}
		if _, err := d.logOut(honest); err != nil {
			t.Errorf("the honest one: %v", err)
		}
	})
}

// A logout that failed for a reason of ours can be asked for again with the same
// token.
func TestLogoutTokenIsUsedUpBySuccessOnly(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, d *desk) {
		token := d.logoutToken(oidcsim.Faults{})
		d.once.err = errors.New("connection refused")
		if asked, err := d.logOut(token); code(err) != "store_unavailable" || len(asked) != 0 {
			t.Errorf("with the store down: %+v, %v", asked, err)
		}
		d.once.err = nil
		err := d.BackChannelLogout(t.Context(), secret.New(token), func(context.Context, login.Logout) error { return problem.StoreUnavailable() })
		if code(err) != "store_unavailable" {
			t.Errorf("with a logout that fails: %v", err)
		}
		// The store goes down between the logout and the note of it.
		err = d.BackChannelLogout(t.Context(), secret.New(token), func(context.Context, login.Logout) error {
			d.once.err = errors.New("connection refused")
			return nil
		})
		if code(err) != "store_unavailable" {
			t.Errorf("not noted: %v", err)
		}
		d.once.err = nil
		if asked, err := d.logOut(token); err != nil || len(asked) != 1 {
			t.Errorf("again: %+v, %v", asked, err)
		}
		if _, err := d.logOut(token); code(err) != "logout_token_invalid" {
			t.Errorf("once more: %v", err)
		}
	})
}

func TestLogoutTokenInParallelSucceedsOnce(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, d *desk) {
		token := d.logoutToken(oidcsim.Faults{})
		var succeeded atomic.Int32
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := d.logOut(token); err == nil {
					succeeded.Add(1)
				}
			})
		}
		wg.Wait()
		if n := succeeded.Load(); n != 1 {
			t.Errorf("%d succeeded", n)
		}
	})
}

// However long ago a token was used, it is not used again: its times see to that
// once its jti is forgotten.
func TestLogoutTokenIsNeverUsedAgain(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, d *desk) {
		token := d.logoutToken(at("exp", 24*time.Hour))
		if _, err := d.logOut(token); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Minute) // and the leeway is 30 s, both ways
		clear(d.once.seen)
		if _, err := d.logOut(token); code(err) != "logout_token_invalid" {
			t.Errorf("got %v", err)
		}
	})
}

func TestLogoutWithTheProviderDown(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, d *desk) {
		token := d.logoutToken(oidcsim.Faults{})
		for name, f := range map[string]oidcsim.Faults{
			"no metadata": fails(oidcsim.Discovery, oidcsim.Status(http.StatusBadGateway)),
			"no keys":     fails(oidcsim.JWKS, oidcsim.Status(http.StatusBadGateway)),
		} {
			d.faults(f)
			if asked, err := d.logOut(token); code(err) != "provider_unavailable" || len(asked) != 0 {
				t.Errorf("%s: %+v, %v", name, asked, err)
			}
			d.faults(oidcsim.Faults{})
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		if _, err := d.logOut(token); err != nil {
			t.Errorf("back again: %v", err)
		}
	})
}

// A flood of tokens with made-up key ids costs the provider next to nothing.
func TestLogoutTokenFloodAsksForKeysOnce(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, d *desk) {
		if _, err := d.logOut(d.logoutToken(oidcsim.Faults{})); err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(d.logoutToken(oidcsim.Faults{}), ".")
		before := d.provider.Requests(oidcsim.JWKS)
		for range 200 {
			header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","kid":"` + rand.Text() + `"}`))
			if _, err := d.logOut(header + "." + rest); err == nil {
				t.Fatal("accepted")
			}
		}
		if asked := d.provider.Requests(oidcsim.JWKS) - before; asked > 1 {
			t.Errorf("keys were fetched %d times", asked)
		}
	})
}
