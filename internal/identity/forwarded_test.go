package identity

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

const (
	peerSecret    = "the-new-secret-of-32-bytes-or-more"
	oldPeerSecret = "the-old-secret-of-32-bytes-or-more"
	listedPeer    = "10.0.3.7:41234"
)

func forwardedConfig() ForwardedConfig {
	cfg := DefaultForwardedConfig()
	cfg.TrustedPeers = []string{"10.0.3.0/24", "2001:db8::7"}
	cfg.Secrets = []setting.Secret{setting.SecretValue(peerSecret), setting.SecretValue(oldPeerSecret)}
	cfg.Issuer = "https://login.example.com/realms/acme"
	return cfg
}

func quietDeps() Deps {
	return Deps{Logger: slog.New(slog.DiscardHandler), Clock: func() time.Time { return time.Unix(1_800_000_000, 0) }}
}

func newForwarded(t testing.TB, cfg ForwardedConfig) *Forwarded {
	t.Helper()
	source, err := NewForwarded(cfg, quietDeps())
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// headers makes a header of lines "Name: value", repeated and empty ones included.
func headers(lines ...string) http.Header {
	h := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		h.Add(name, strings.TrimSpace(value))
	}
	return h
}

func from(remote string, header http.Header) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RemoteAddr, r.Header = remote, header
	return r
}

// outcome is what the tables say: "skip", a problem's code, or a subject.
func outcome(answer Answer, err error) string {
	switch {
	case errors.Is(err, ErrSkip):
		return "skip"
	case err != nil:
		return problem.From(err).Code
	}
	return answer.Identity.Subject
}

const goodSecret, user = "X-Forwarded-Secret: " + peerSecret, "X-Forwarded-User: u-1"

// TestForwarded: who may say who somebody is, and how (security.md 21, 30).
func TestForwarded(t *testing.T) {
	for name, tt := range map[string]struct {
		remote string
		header http.Header
		want   string
	}{
		"good":                            {listedPeer, headers(goodSecret, user), "u-1"},
		"the older secret":                {listedPeer, headers("X-Forwarded-Secret: "+oldPeerSecret, user), "u-1"},
		"IPv4 in IPv6":                    {"[::ffff:10.0.3.7]:1", headers(goodSecret, user), "u-1"},
		"IPv6 peer":                       {"[2001:db8::7]:1", headers(goodSecret, user), "u-1"},
		"lower case header":               {listedPeer, headers("x-forwarded-secret: "+peerSecret, "x-forwarded-user: u-1"), "u-1"},
		"a subject beyond ASCII":          {listedPeer, headers(goodSecret, "X-Forwarded-User: Zoë 🚀"), "Zoë 🚀"},
		"an empty claim is none":          {listedPeer, headers(goodSecret, user, "X-Forwarded-Email:"), "u-1"},
		"nothing said":                    {listedPeer, headers(goodSecret), "skip"},
		"nothing at all":                  {listedPeer, headers(), "skip"},
		"an access token only":            {listedPeer, headers("X-Forwarded-Access-Token: t"), "skip"},
		"unlisted peer":                   {"10.0.4.7:1", headers(goodSecret, user), "skip"},
		"unlisted peer, listed in XFF":    {"192.0.2.1:1", headers(goodSecret, user, "X-Forwarded-For: 10.0.3.7"), "skip"},
		"no secret":                       {listedPeer, headers(user), "credential_refused"},
		"wrong secret":                    {listedPeer, headers("X-Forwarded-Secret: "+peerSecret+"x", user), "credential_refused"},
		"empty secret":                    {listedPeer, headers("X-Forwarded-Secret:", user), "credential_refused"},
		"two secrets":                     {listedPeer, headers(goodSecret, goodSecret, user), "credential_refused"},
		"right and wrong secret":          {listedPeer, headers("X-Forwarded-Secret: x", goodSecret, user), "credential_refused"},
		"claims only, no secret":          {listedPeer, headers("X-Forwarded-Email: a@example.com"), "credential_refused"},
		"claims without a user":           {listedPeer, headers(goodSecret, "X-Forwarded-Email: a@example.com"), "credential_refused"},
		"empty user":                      {listedPeer, headers(goodSecret, "X-Forwarded-User:"), "credential_refused"},
		"two users":                       {listedPeer, headers(goodSecret, user, "X-Forwarded-User: admin"), "credential_refused"},
		"two equal users":                 {listedPeer, headers(goodSecret, user, user), "credential_refused"},
		"two e-mails":                     {listedPeer, headers(goodSecret, user, "X-Forwarded-Email: a", "X-Forwarded-Email: b"), "credential_refused"},
		"two group lists":                 {listedPeer, headers(goodSecret, user, "X-Forwarded-Groups: a", "X-Forwarded-Groups: admin"), "credential_refused"},
		"line break in the user":          {listedPeer, headers(goodSecret, "X-Forwarded-User: u\r\nX-Admin: 1"), "credential_refused"},
		"NUL in a claim":                  {listedPeer, headers(goodSecret, user, "X-Forwarded-Email: a\x00b"), "credential_refused"},
		"C1 control in the user":          {listedPeer, headers(goodSecret, "X-Forwarded-User: u\u0085x"), "credential_refused"},
		"broken UTF-8":                    {listedPeer, headers(goodSecret, "X-Forwarded-User: \xff"), "credential_refused"},
		"long user":                       {listedPeer, headers(goodSecret, "X-Forwarded-User: "+strings.Repeat("u", 256)), "credential_refused"},
		"long claim":                      {listedPeer, headers(goodSecret, user, "X-Forwarded-Email: "+strings.Repeat("u", 8<<10+1)), "credential_refused"},
		"too many groups":                 {listedPeer, headers(goodSecret, user, "X-Forwarded-Groups: "+strings.Repeat("g,", 1001)), "credential_refused"},
		"another spelling is not read":    {listedPeer, headers(goodSecret, "X_Forwarded_User: admin"), "skip"},
		"another spelling beside it":      {listedPeer, headers(goodSecret, user, "X_Forwarded_User: admin"), "u-1"},
		"the secret in another spelling":  {listedPeer, headers("X_Forwarded_Secret: "+peerSecret, user), "credential_refused"},
		"an address that is none":         {"@", headers(goodSecret, user), "skip"},
		"a host name in place of address": {"proxy:80", headers(goodSecret, user), "skip"},
	} {
		t.Run(name, func(t *testing.T) {
			source := newForwarded(t, forwardedConfig())
			r := from(tt.remote, tt.header)
			before := maps.Clone(r.Header)
			answer, err := source.Identify(t.Context(), r)
			if got := outcome(answer, err); got != tt.want {
				t.Errorf("%s (%v), want %s", got, err, tt.want)
			}
			if !reflect.DeepEqual(before, r.Header) {
				t.Error("the request was changed")
			}
			if err != nil && strings.Contains(err.Error(), "secret-of-32") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestForwardedClaims(t *testing.T) {
	source := newForwarded(t, forwardedConfig())
	answer, err := source.Identify(t.Context(), from(listedPeer, headers(goodSecret, user, "X-Forwarded-Email: a@example.com",
		"X-Forwarded-Preferred-Username: alice", "X-Forwarded-Groups: support, admins,,", "X-Forwarded-Access-Token: token")))
	want := Answer{Identity: Identity{Issuer: "https://login.example.com/realms/acme", Subject: "u-1", Claims: map[string]any{
		"iss": "https://login.example.com/realms/acme", "sub": "u-1", "email": "a@example.com", "preferred_username": "alice",
		"groups": []any{"support", "admins"},
	}}}
	if err != nil || !reflect.DeepEqual(answer, want) {
		t.Errorf("%+v, %v; want %+v", answer, err, want)
	}
}

// TestForwardedStrip: nobody behind us sees the headers, however spelt (security.md 21).
func TestForwardedStrip(t *testing.T) {
	source := newForwarded(t, forwardedConfig())
	if want := []string{"X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Preferred-Username", "X-Forwarded-Secret", "X-Forwarded-User"}; !slices.Equal(source.Headers(), want) {
		t.Errorf("headers %q, want %q", source.Headers(), want)
	}
	header := http.Header{"Accept": {"*/*"}, "X-User": {"mine"}}
	for _, name := range source.Headers() {
		for _, spelling := range []string{name, strings.ToLower(name), strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(strings.ToUpper(name), "-", ".")} {
			header[spelling] = []string{"forged"}
		}
	}
	source.Strip(header)
	if want := (http.Header{"Accept": {"*/*"}, "X-User": {"mine"}}); !reflect.DeepEqual(header, want) {
		t.Errorf("left over: %v", header)
	}
}

func TestForwardedClientCertificate(t *testing.T) {
	spiffe, err := url.Parse("spiffe://acme/proxy")
	if err != nil {
		t.Fatal(err)
	}
	proxy := &x509.Certificate{DNSNames: []string{"Proxy.internal"}, URIs: []*url.URL{spiffe}}
	other := &x509.Certificate{DNSNames: []string{"other.internal"}}
	verified := func(chain ...*x509.Certificate) *tls.ConnectionState {
		return &tls.ConnectionState{PeerCertificates: chain[:1], VerifiedChains: [][]*x509.Certificate{chain}}
	}
	for name, tt := range map[string]struct {
		names  []string
		state  *tls.ConnectionState
		header http.Header
		want   string
	}{
		"by DNS name":              {[]string{"proxy.internal"}, verified(proxy), headers(user), "u-1"},
		"by URI":                   {[]string{"spiffe://acme/proxy"}, verified(proxy), headers(user), "u-1"},
		"another's":                {[]string{"proxy.internal"}, verified(other), headers(user), "credential_refused"},
		"only its issuer is":       {[]string{"proxy.internal"}, verified(other, proxy), headers(user), "credential_refused"},
		"not verified":             {[]string{"proxy.internal"}, &tls.ConnectionState{PeerCertificates: []*x509.Certificate{proxy}}, headers(user), "credential_refused"},
		"no TLS":                   {[]string{"proxy.internal"}, nil, headers(user), "credential_refused"},
		"none listed":              {nil, verified(proxy), headers(user), "credential_refused"},
		"and a wrong secret":       {[]string{"proxy.internal"}, verified(proxy), headers(user, "X-Forwarded-Secret: x"), "credential_refused"},
		"no certificate, a secret": {[]string{"proxy.internal"}, nil, headers(user, goodSecret), "u-1"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := forwardedConfig()
			cfg.ClientCertificates = tt.names
			r := from(listedPeer, tt.header)
			r.TLS = tt.state
			answer, err := newForwarded(t, cfg).Identify(t.Context(), r)
			if got := outcome(answer, err); got != tt.want {
				t.Errorf("%s (%v), want %s", got, err, tt.want)
			}
		})
	}
}

// TestForwardedPayload: Envoy's forward_payload_header.
func TestForwardedPayload(t *testing.T) {
	cfg := forwardedConfig()
	cfg.PayloadHeader = "X-Jwt-Payload"
	source := newForwarded(t, cfg)
	const iss = `"iss":"https://login.example.com/realms/acme"`
	encode := base64.RawURLEncoding.EncodeToString
	for name, tt := range map[string]struct{ value, want string }{
		"good":              {encode([]byte(`{` + iss + `,"sub":"u-1","exp":1800000060,"email":"a@example.com","n":12345678901234567890}`)), "u-1"},
		"padded, standard":  {base64.StdEncoding.EncodeToString([]byte(`{"sub":"u-1","x":"??>>~~"}`)), "u-1"},
		"without iss":       {encode([]byte(`{"sub":"u-1"}`)), "u-1"},
		"another iss":       {encode([]byte(`{"sub":"u-1","iss":"https://evil.example.com"}`)), "credential_refused"},
		"iss of a kind":     {encode([]byte(`{"sub":"u-1","iss":["https://login.example.com/realms/acme"]}`)), "credential_refused"},
		"iss null":          {encode([]byte(`{"sub":"u-1","iss":null}`)), "credential_refused"},
		"expired":           {encode([]byte(`{"sub":"u-1","exp":1800000000}`)), "credential_refused"},
		"exp of a kind":     {encode([]byte(`{"sub":"u-1","exp":"1800000060"}`)), "credential_refused"},
		"exp beyond time":   {encode([]byte(`{"sub":"u-1","exp":1e300}`)), "credential_refused"},
		"no sub":            {encode([]byte(`{"email":"a@example.com"}`)), "credential_refused"},
		"numeric sub":       {encode([]byte(`{"sub":1}`)), "credential_refused"},
		"empty sub":         {encode([]byte(`{"sub":""}`)), "credential_refused"},
		"sub with a break":  {encode([]byte(`{"sub":"a\nb"}`)), "credential_refused"},
		"null":              {encode([]byte(`null`)), "credential_refused"},
		"list":              {encode([]byte(`["u-1"]`)), "credential_refused"},
		"two documents":     {encode([]byte(`{"sub":"u-1"}{}`)), "credential_refused"},
		"cut off":           {encode([]byte(`{"sub":"u-1"`)), "credential_refused"},
		"not base64":        {"{}", "credential_refused"},
		"empty":             {"", "credential_refused"},
		"a whole JWT":       {"eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1LTEifQ.", "credential_refused"},
		"too long":          {encode(bytes.Repeat([]byte(" "), 32<<10)), "credential_refused"},
		"deeply nested":     {encode([]byte(`{"sub":"u-1","x":` + strings.Repeat("[", 12_000))), "credential_refused"},
		"no payload at all": {"-", "skip"},
	} {
		t.Run(name, func(t *testing.T) {
			header := headers(goodSecret, "X-Forwarded-User: forged")
			if tt.value != "-" {
				header.Set("X-Jwt-Payload", tt.value)
			}
			answer, err := source.Identify(t.Context(), from(listedPeer, header))
			if got := outcome(answer, err); got != tt.want {
				t.Errorf("%s (%v), want %s", got, err, tt.want)
			}
			if name == "good" {
				want := map[string]any{"iss": cfg.Issuer, "sub": "u-1", "email": "a@example.com", "n": json.Number("12345678901234567890")}
				if !reflect.DeepEqual(answer.Identity.Claims, want) || !answer.Expires.Equal(time.Unix(1_800_000_060, 0)) {
					t.Errorf("claims %v until %s", answer.Identity.Claims, answer.Expires)
				}
			}
		})
	}
	twice := headers(goodSecret, "X-Jwt-Payload: "+encode([]byte(`{"sub":"a"}`)), "X-Jwt-Payload: "+encode([]byte(`{"sub":"b"}`)))
	if _, err := source.Identify(t.Context(), from(listedPeer, twice)); problem.From(err).Code != "credential_refused" {
		t.Errorf("two payloads: %v", err)
	}
	if !slices.Contains(source.Headers(), "X-Jwt-Payload") || !slices.Contains(source.Headers(), "X-Forwarded-User") {
		t.Errorf("headers %q: those not read must be stripped, too", source.Headers())
	}
}

// TestForwardedWarns: an attempt from a listed peer is told, a flood of them once.
func TestForwardedWarns(t *testing.T) {
	var log bytes.Buffer
	now := time.Unix(1_800_000_000, 0)
	source, err := NewForwarded(forwardedConfig(), Deps{Logger: slog.New(slog.NewTextHandler(&log, nil)), Clock: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		_, _ = source.Identify(t.Context(), from(listedPeer, headers("X-Forwarded-Secret: guessed", user)))
	}
	now = now.Add(11 * time.Second)
	_, _ = source.Identify(t.Context(), from(listedPeer, headers(user)))
	if got := log.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "10.0.3.7") || strings.Contains(got, "guessed") || strings.Contains(got, "u-1") {
		t.Errorf("logged:\n%s", got)
	}
}

func TestForwardedConfigValidate(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*ForwardedConfig)
		paths  []string
	}{
		"good":                 {func(*ForwardedConfig) {}, nil},
		"nothing given":        {func(c *ForwardedConfig) { *c = DefaultForwardedConfig() }, []string{"issuer", "secrets", "trusted_peers"}},
		"certificates only":    {func(c *ForwardedConfig) { c.Secrets, c.ClientCertificates = nil, []string{"proxy.internal"} }, nil},
		"wildcard certificate": {func(c *ForwardedConfig) { c.ClientCertificates = []string{"*.internal"} }, []string{"client_certificates[0]"}},
		"short secret": {func(c *ForwardedConfig) { c.Secrets = append(c.Secrets, setting.SecretValue("short")) },
			[]string{"secrets[2]"}},
		"everybody": {func(c *ForwardedConfig) { c.TrustedPeers = []string{"0.0.0.0/0", "::/0", "proxy", "10.0.0.0/33"} },
			[]string{"trusted_peers[0]", "trusted_peers[1]", "trusted_peers[2]", "trusted_peers[3]"}},
		"odd issuer":        {func(c *ForwardedConfig) { c.Issuer = "https://a\n" }, []string{"issuer"}},
		"no header name":    {func(c *ForwardedConfig) { c.SubjectHeader = "X User" }, []string{"subject_header"}},
		"no header":         {func(c *ForwardedConfig) { c.SecretHeader = "" }, []string{"secret_header"}},
		"a needed header":   {func(c *ForwardedConfig) { c.SubjectHeader = "cookie" }, []string{"subject_header"}},
		"X-Forwarded-For":   {func(c *ForwardedConfig) { c.Claims["ip"] = "X_Forwarded_For" }, []string{"claims.ip"}},
		"one header, twice": {func(c *ForwardedConfig) { c.Claims["name"] = "x_forwarded.user" }, []string{"claims.name"}},
		"a claim twice":     {func(c *ForwardedConfig) { c.ListClaims["email"] = "X-Emails" }, []string{"list_claims.email"}},
		"sub as a claim":    {func(c *ForwardedConfig) { c.Claims["sub"] = "X-Sub" }, []string{"claims.sub"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := forwardedConfig()
			tt.change(&cfg)
			wantProblems(t, cfg.Validate(), tt.paths)
			_, err := NewForwarded(cfg, quietDeps())
			if (err != nil) != (tt.paths != nil) {
				t.Errorf("NewForwarded says %v", err)
			}
		})
	}
}

// wantProblems compares the paths of what a Validate returned.
func wantProblems(t *testing.T, err error, want []string) {
	t.Helper()
	var paths []string
	for _, e := range setting.List(err) {
		paths = append(paths, e.Path)
		if e.Problem == "" || e.Fix == "" {
			t.Errorf("%s says neither what is wrong nor what to write", e.Path)
		}
	}
	if slices.Sort(paths); !slices.Equal(paths, want) {
		t.Errorf("problems at %q, want %q", paths, want)
	}
}

// FuzzForwarded: whatever a header holds, a subject comes out as it went in or
// not at all, and nothing comes out that could break a header or a log line.
func FuzzForwarded(f *testing.F) {
	for _, seed := range []string{"u-1", "", "a,b", "a\r\nb", "\xff", "Zoë", " ", "\u202eevil", strings.Repeat("x", 256)} {
		f.Add(seed, seed, seed, seed)
	}
	cfg := forwardedConfig()
	withPayload := forwardedConfig()
	withPayload.PayloadHeader = "X-Jwt-Payload"
	plainSource, payloadSource := newForwarded(f, cfg), newForwarded(f, withPayload)
	f.Fuzz(func(t *testing.T, subject, email, groups, payload string) {
		header := http.Header{"X-Forwarded-Secret": {peerSecret}, "X-Forwarded-User": {subject}, "X-Forwarded-Email": {email},
			"X-Forwarded-Groups": {groups}, "X-Jwt-Payload": {payload}}
		if answer, err := plainSource.Identify(t.Context(), from(listedPeer, header)); err == nil {
			if answer.Identity.Subject != subject || answer.Identity.Issuer != cfg.Issuer {
				t.Errorf("%q became %+v", subject, answer.Identity)
			}
			wantClean(t, answer.Identity.Claims)
		} else if problem.From(err).Code != "credential_refused" {
			t.Errorf("%v", err)
		}
		answer, err := payloadSource.Identify(t.Context(), from(listedPeer, header))
		if err == nil && (answer.Identity.Issuer != cfg.Issuer || validSubject(answer.Identity.Subject) != nil) {
			t.Errorf("%q became %+v", payload, answer.Identity)
		}
	})
}

func wantClean(t *testing.T, claims map[string]any) {
	t.Helper()
	for name, value := range claims {
		list, ok := value.([]any)
		if !ok {
			list = []any{value}
		}
		for _, one := range list {
			text, ok := one.(string)
			if !ok || text == "" || !utf8.ValidString(text) || strings.ContainsAny(text, "\r\n\x00") {
				t.Errorf("claim %s is %q", name, one)
			}
		}
	}
}
