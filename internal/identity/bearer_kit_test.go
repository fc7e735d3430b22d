package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/problem"
)

const (
	issuer   = "https://login.example.com/realms/acme"
	audience = "web"
)

// web is everything the source can reach: handlers by URL without query. It
// counts what it is asked.
type web struct {
	mu       sync.Mutex
	handlers map[string]http.HandlerFunc
	asked    map[string]int
}

func newWeb() *web { return &web{handlers: map[string]http.HandlerFunc{}, asked: map[string]int{}} }

func (w *web) serve(address string, handler http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handlers[address] = handler
}

func (w *web) count(address string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked[address]
}

func (w *web) total() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.asked {
		n += one
	}
	return n
}

func (w *web) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	address := r.URL.Scheme + "://" + r.URL.Host + r.URL.Path
	w.asked[address]++
	handler := w.handlers[address]
	w.mu.Unlock()
	if handler == nil {
		handler = http.NotFound
	}
	recorder := httptest.NewRecorder()
	handler(recorder, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	response := recorder.Result()
	response.Request = r
	return response, nil
}

func answers(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func jsonText(t testing.TB, value any) string {
	t.Helper()
	encoded, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded)
}

// keys of the tests, made once: RSA takes a while.
var (
	rsaKey   = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	otherRSA = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	ecKey    = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func publicPEM(key any) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(key))}))
}

func jwks(t testing.TB) string {
	return jsonText(t, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: rsaKey().Public(), KeyID: "rsa-1", Algorithm: "RS256", Use: "sig"},
		{Key: ecKey().Public(), KeyID: "ec-1", Use: "sig"},
	}})
}

type fields = map[string]any

// token is a JWT to be; tests change header and claims, nil removes one.
type token struct {
	header, claims fields
	method         jwt.SigningMethod
	key            any
	encoding       *base64.Encoding
}

func goodToken(now time.Time) token {
	return token{
		header: fields{"alg": "RS256", "kid": "rsa-1", "typ": "JWT"},
		claims: fields{
			"iss": issuer, "sub": "u-1", "aud": audience, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
			"email": "ada@example.com", "employee": json.Number("12345678901234567890"), "groups": []string{"staff", "chat"},
			"realm_access": fields{"roles": []string{"user"}}, "scope": "openid chat", "jti": "j-1", "nonce": "n",
		},
		method: jwt.SigningMethodRS256, key: rsaKey(), encoding: base64.RawURLEncoding,
	}
}

func with(into, change fields) fields {
	into = maps.Clone(into)
	for name, value := range change {
		if into[name] = value; value == nil {
			delete(into, name)
		}
	}
	return into
}

func (k token) head(change fields) token  { k.header = with(k.header, change); return k }
func (k token) claim(change fields) token { k.claims = with(k.claims, change); return k }

func (k token) by(method jwt.SigningMethod, key any) token {
	k.method, k.key = method, key
	return k.head(fields{"alg": method.Alg()})
}

func (k token) sign(t testing.TB) string {
	t.Helper()
	return k.seal(t, jsonText(t, k.header), jsonText(t, k.claims))
}

// seal signs header and payload as they are.
func (k token) seal(t testing.TB, header, payload string) string {
	t.Helper()
	signed := k.encoding.EncodeToString([]byte(header)) + "." + k.encoding.EncodeToString([]byte(payload))
	signature, err := k.method.Sign(signed, k.key)
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + k.encoding.EncodeToString(signature)
}

func newBearer(t testing.TB, w *web, clock func() time.Time, list ...identity.BearerConfig) *identity.Bearer {
	t.Helper()
	b, err := identity.NewBearer(list, identity.Deps{
		Logger: slog.New(slog.DiscardHandler), Clock: clock, Rand: rand.Reader, Transport: w,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// trusts is a configuration with an explicit key set, changed by the test.
func trusts(change func(*identity.BearerConfig)) identity.BearerConfig {
	cfg := identity.BearerConfig{Issuer: issuer, Audience: []string{audience}, JWKSURL: mustURL(issuer + "/jwks")}
	if change != nil {
		change(&cfg)
	}
	return cfg
}

func requestWith(header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	return r
}

func inAuthorization(raw string) *http.Request { return requestWith("Authorization: Bearer " + raw) }

// said is the outcome in one word: the subject, "skip", or the problem's code.
func said(answer identity.Answer, err error) string {
	if err == nil {
		return answer.Identity.Subject
	}
	if errors.Is(err, identity.ErrSkip) {
		return "skip"
	}
	return problem.From(err).Code
}

// why is the cause that the log would have.
func why(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
