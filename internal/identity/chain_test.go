package identity_test

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

type fakeSource struct {
	name   string
	answer identity.Answer
	err    error
	asked  int
}

func (f *fakeSource) Name() string { return f.name }

func (f *fakeSource) Identify(context.Context, *http.Request) (identity.Answer, error) {
	f.asked++
	return f.answer, f.err
}

func who(subject string) identity.Answer {
	return identity.Answer{Identity: identity.Identity{Issuer: "https://idp.example.com", Subject: subject}}
}

func TestChain(t *testing.T) {
	tests := map[string]struct {
		first, second *fakeSource
		subject       string
		source, code  string
		secondAsked   int
	}{
		"first wins":                     {&fakeSource{answer: who("a")}, &fakeSource{answer: who("b")}, "a", "first", "", 0},
		"first skips":                    {&fakeSource{err: identity.ErrSkip}, &fakeSource{answer: who("b")}, "b", "second", "", 1},
		"nobody":                         {&fakeSource{err: identity.ErrSkip}, &fakeSource{err: identity.ErrSkip}, "", "", "session_required", 1},
		"no fall through from a bad one": {&fakeSource{err: problem.CredentialRefused()}, &fakeSource{answer: who("b")}, "", "first", "credential_refused", 0},
		"no fall through from trouble":   {&fakeSource{err: problem.IdentityUnavailable()}, &fakeSource{answer: who("b")}, "", "first", "identity_unavailable", 0},
		"a fault is not a yes":           {&fakeSource{err: errors.New("boom")}, &fakeSource{answer: who("b")}, "", "first", "internal", 0},
		"an answer without subject":      {&fakeSource{answer: who("")}, &fakeSource{answer: who("b")}, "", "first", "credential_refused", 0},
		"an answer about nobody":         {&fakeSource{}, &fakeSource{answer: who("b")}, "", "first", "credential_refused", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.first.name, tt.second.name = "first", "second"
			chain, err := identity.NewChain(tt.first, tt.second)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := chain.Identify(t.Context(), httptest.NewRequest(http.MethodGet, "/", nil))
			code := ""
			if err != nil {
				code = problem.From(err).Code
			}
			if answer.Identity.Subject != tt.subject || answer.Source != tt.source || code != tt.code || tt.second.asked != tt.secondAsked {
				t.Errorf("got %+v, %v; second asked %d times", answer, err, tt.second.asked)
			}
		})
	}
	if _, err := identity.NewChain(); err == nil {
		t.Error("a chain of no sources lets nobody in and says nothing")
	}
}

func TestKeyKeepsPeopleApart(t *testing.T) {
	seen := map[string]identity.Identity{}
	for _, id := range []identity.Identity{
		{Issuer: "https://a", Subject: "1"}, {Issuer: "https://a/", Subject: "1"}, {Issuer: "https://a", Subject: "11"},
		{Issuer: "https://a1", Subject: "1"}, {Issuer: "", Subject: "https://a1"}, {Issuer: "https://a1", Subject: ""},
	} {
		if other, taken := seen[id.Key()]; taken {
			t.Errorf("%v and %v share a key", id, other)
		}
		seen[id.Key()] = id
		if len(id.Key()) != 43 {
			t.Errorf("key of %d characters", len(id.Key()))
		}
	}
}

func TestChainTrustsInAuthorization(t *testing.T) {
	deps := identity.Deps{Logger: slog.New(slog.DiscardHandler), Clock: time.Now, Rand: rand.Reader}
	list := func(issuer, header string) identity.BearerConfig {
		return identity.BearerConfig{Issuer: issuer, Header: header, AnyAudience: true, JWKSURL: setting.MustURL("https://idp.example.com/keys")}
	}
	bearer, err := identity.NewBearer([]identity.BearerConfig{list("https://a.example.com", ""), list("https://b.example.com", "X-Token")}, deps)
	if err != nil {
		t.Fatal(err)
	}
	defer bearer.Close()
	cfg := identity.DefaultIntrospectionConfig()
	cfg.URL, cfg.Issuer, cfg.AnyAudience = setting.MustURL("https://c.example.com/introspect"), "https://c.example.com", true
	cfg.ClientID, cfg.ClientSecret = "bff", setting.SecretValue("a secret of the test")
	introspection, err := identity.NewIntrospection(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	defer introspection.Close()
	chain, err := identity.NewChain(&fakeSource{name: "session"}, bearer, introspection)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		source, issuer string
		want           bool
	}{
		{"bearer", "https://a.example.com", true},
		{"bearer", "https://b.example.com", false}, // in a header of its own
		{"bearer", "https://c.example.com", false},
		{"introspection", "https://c.example.com", true},
		{"introspection", "https://a.example.com", false},
		{"session", "https://a.example.com", false},
		{"forwarded", "https://a.example.com", false},
		{"", "", false}, // a device of an earlier version
	} {
		if got := chain.TrustsInAuthorization(tt.source, tt.issuer); got != tt.want {
			t.Errorf("%s, %s: %v", tt.source, tt.issuer, got)
		}
	}
}
