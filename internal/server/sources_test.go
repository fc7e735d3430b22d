package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/session"
	"github.com/whisp-bff/whisp-bff/internal/setting"
	"github.com/whisp-bff/whisp-bff/internal/telemetry"
)

const (
	tokenIssuer  = "https://tokens.test"
	opaqueIssuer = "https://opaque.test"
	proxyIssuer  = "https://proxy.test"
	appIssuer    = "https://the-app.test"
	proxySecret  = "proxy-secret-of-32-bytes-never-to-be-seen"
	deviceCookie = "__Host-whisp-device"
)

var tokenKey = sync.OnceValue(func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
})

// outside is everybody who knows people besides us: an introspection endpoint
// and the app's who-am-I endpoint.
type outside struct {
	*httptest.Server
	mu     sync.Mutex
	asked  []string // tokens that were introspected
	broken bool     // answers 500
}

func newOutside(t testing.TB) *outside {
	t.Helper()
	o := &outside{}
	o.Server = httptest.NewServer(o)
	t.Cleanup(o.Close)
	return o
}

func (o *outside) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case o.broken:
		w.WriteHeader(http.StatusInternalServerError)
	case r.URL.Path == "/introspect":
		token := r.PostFormValue("token")
		o.asked = append(o.asked, token)
		person, ok := strings.CutPrefix(token, "opaque-token-of-")
		writeJSON(w, map[string]any{"active": ok, "sub": person, "preferred_username": person, "client_id": "web"})
	default:
		var user any // null: nobody
		if sid, err := r.Cookie("sid"); err == nil {
			if person, ok := strings.CutPrefix(sid.Value, "app-session-of-"); ok {
				user = map[string]any{"id": person, "name": person}
			}
		}
		writeJSON(w, map[string]any{"user": user})
	}
}

func (o *outside) breakDown() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.broken = true
}

func (o *outside) introspected() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.asked)
}

func writeJSON(w http.ResponseWriter, value any) {
	encoded, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	_, _ = w.Write(encoded)
}

// way is one way for a request to say who it is from.
type way struct {
	name, source, issuer string
	// credential makes a request come from a person.
	credential func(t testing.TB, s *stack, person string) option
	bad        option
	// alone: the SDK's calls cannot carry it.
	alone bool
}

func ways() []way {
	cookie := func(name, value string) option {
		return func(r *http.Request) { r.AddCookie(&http.Cookie{Name: name, Value: value}) }
	}
	token := func(place func(string) option) func(testing.TB, *stack, string) option {
		return func(t testing.TB, s *stack, person string) option { return place(mint(t, s, person, time.Hour)) }
	}
	inAuthorization := func(token string) option { return header("Authorization", "Bearer "+token) }
	return []way{
		{"bearer in a cookie", "bearer", tokenIssuer, token(func(text string) option { return cookie("token", text) }), cookie("token", "no.good.token"), false},
		{"bearer in a header", "bearer", tokenIssuer, token(func(text string) option { return header("X-Token", text) }), header("X-Token", "no.good.token"), false},
		{"bearer in Authorization", "bearer", tokenIssuer, token(inAuthorization), inAuthorization(unsigned()), true},
		{"introspection", "introspection", opaqueIssuer, func(_ testing.TB, s *stack, person string) option {
			s.secret("opaque-token-of-" + person)
			return inAuthorization("opaque-token-of-" + person)
		}, inAuthorization("revoked-token"), true},
		{"forwarded", "forwarded", proxyIssuer, func(_ testing.TB, _ *stack, person string) option {
			return func(r *http.Request) {
				r.Header.Set("X-Forwarded-Secret", proxySecret)
				r.Header.Set("X-Forwarded-User", person)
				r.Header.Set("X-Forwarded-Preferred-Username", person)
				r.Header.Set("X-Forwarded-Groups", "staff,"+person)
			}
		}, header("X-Forwarded-User", "alice"), false},
		{"app_session", "app_session", appIssuer, func(_ testing.TB, s *stack, person string) option {
			s.secret("app-session-of-" + person)
			return cookie("sid", "app-session-of-"+person)
		}, nil, false},
	}
}

func wayOf(t testing.TB, name string) way {
	t.Helper()
	for _, w := range ways() {
		if w.name == name {
			return w
		}
	}
	t.Fatalf("no way %s", name)
	return way{}
}

// mint signs a token of the provider's.
func mint(t testing.TB, s *stack, person string, life time.Duration) string {
	t.Helper()
	now := s.clock.now()
	text, err := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"iss": tokenIssuer, "aud": "web", "sub": person, "preferred_username": person, "email": person + "@example.com",
		"groups": []string{"staff", person}, "iat": now.Unix(), "exp": now.Add(life).Unix(),
	}).SignedString(tokenKey())
	if err != nil {
		t.Fatal(err)
	}
	s.secret(text)
	return text
}

// unsigned is a token of the provider's that anybody could have made.
func unsigned() string {
	text, err := jwt.NewWithClaims(jwt.SigningMethodNone, jwt.MapClaims{
		"iss": tokenIssuer, "aud": "web", "sub": "alice", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		panic(err)
	}
	return text
}

// withSources starts with these sources, by name and in this order.
func withSources(o *outside, names ...string) func(*setup) {
	return func(c *setup) {
		c.noLogin = !slices.Contains(names, "session")
		c.strip = []string{"X-Token", "X-Forwarded-Secret", "X-Forwarded-User", "X-Forwarded-Preferred-Username", "X-Forwarded-Groups"}
		c.sources = func(s *stack, sessions *session.Sessions) []identity.Source {
			var sources []identity.Source
			for _, name := range names {
				sources = append(sources, newSource(o, s, sessions, name))
			}
			return sources
		}
	}
}

func newSource(o *outside, s *stack, sessions *session.Sessions, name string) identity.Source {
	deps := identity.Deps{
		Logger: telemetry.NewLogger(telemetry.Config{Level: "debug", Format: "json"}, s.logs),
		Clock:  s.clock.now, Rand: rand.Reader, Metrics: s.metrics, Transport: o.Client().Transport,
	}
	var source identity.Source
	var err error
	switch name {
	case "session":
		return sessions
	case "bearer":
		public, marshalErr := x509.MarshalPKIXPublicKey(tokenKey().Public())
		if marshalErr != nil {
			panic(marshalErr)
		}
		keys := []string{string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))}
		place := func(header, cookie string) identity.BearerConfig {
			return identity.BearerConfig{Issuer: tokenIssuer, Audience: []string{"web"}, PublicKeyPEMs: keys, Header: header, Cookie: cookie}
		}
		source, err = identity.NewBearer([]identity.BearerConfig{place("", ""), place("X-Token", ""), place("", "token")}, deps)
	case "introspection":
		cfg := identity.DefaultIntrospectionConfig()
		cfg.URL, cfg.Issuer, cfg.AnyAudience = setting.MustURL(o.URL+"/introspect"), opaqueIssuer, true
		cfg.ClientID, cfg.ClientSecret = "bff", setting.SecretValue(clientSecret)
		source, err = identity.NewIntrospection(cfg, deps)
	case "forwarded":
		cfg := identity.DefaultForwardedConfig()
		cfg.TrustedPeers, cfg.Secrets, cfg.Issuer = []string{"127.0.0.1"}, []setting.Secret{setting.SecretValue(proxySecret)}, proxyIssuer
		source, err = identity.NewForwarded(cfg, deps)
	case "app_session":
		cfg := identity.DefaultAppSessionConfig()
		cfg.URL, cfg.Cookies, cfg.Issuer, cfg.Subject = o.URL+"/me", []string{"sid"}, appIssuer, "user.id"
		cfg.Claims, cfg.Cache = map[string]string{"preferred_username": "user.name"}, 0
		source, err = identity.NewAppSession(cfg, identity.AppSite{PublicURL: setting.MustURL(publicOrigin), URL: setting.MustURL(s.app.url)}, deps)
	}
	if err != nil {
		panic(err)
	}
	return source
}

// visitor is a person in a browser, known by some way.
type visitor struct {
	*browser
	way        way
	credential option
}

func (s *stack) visit(t testing.TB, w way, person string) *visitor {
	t.Helper()
	s.secret(proxySecret)
	return (&visitor{browser: s.browser(), way: w}).become(t, person)
}

// become switches the person in the same browser.
func (v *visitor) become(t testing.TB, person string) *visitor {
	t.Helper()
	return &visitor{v.browser, v.way, v.way.credential(t, v.s, person)}
}

// carried is what calls of the SDK come with.
func (v *visitor) carried(r *http.Request) {
	if !v.way.alone {
		v.credential(r)
	}
}

func (v *visitor) ask(t testing.TB, method, target string, options ...option) *answer {
	t.Helper()
	return v.send(t, method, target, append([]option{v.credential, sameOrigin}, options...)...)
}

// sdk is a call of the SDK with a token of Whisp's.
func (v *visitor) sdk(t testing.TB, method, path, token string, options ...option) *answer {
	t.Helper()
	return v.send(t, method, "/whisp/api"+path, append([]option{v.carried, sameOrigin, header("Authorization", "Bearer "+token)}, options...)...)
}

// chat fetches a ticket and opens a socket.
func (v *visitor) chat(t testing.TB, g grant) socket {
	t.Helper()
	var got struct{ Ticket string }
	v.sdk(t, http.MethodGet, "/auth/getTicket", g.JWT).want(http.StatusOK, "").decode(&got)
	v.s.secret(got.Ticket)
	conn, response, err := v.handshake(t, "/whisp/api/wsConnect?ticket="+got.Ticket, v.carried)
	if err != nil {
		t.Fatalf("socket: %v %+v", err, response)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	opened := socket{conn}
	opened.connect(t, g.JWT)
	return opened
}

// sourceOf returns what the log says of the last request to a route.
func (s *stack) sourceOf(t testing.TB, route string) any {
	t.Helper()
	var found any
	for _, line := range s.logs.lines(t, "request") {
		if line["route"] == route {
			found = line["identity_source"]
		}
	}
	return found
}

// answering is a source that says what a test wants.
type answering struct {
	name   string
	answer identity.Answer
	err    error
}

func (a answering) Name() string { return a.name }

func (a answering) Identify(_ context.Context, _ *http.Request) (identity.Answer, error) {
	return a.answer, a.err
}
