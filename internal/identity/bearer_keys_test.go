package identity_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/whisp-bff/whisp-bff/internal/identity"
)

// garbage is a token of our issuer that only a key could tell from a good one.
func garbage(good token, t testing.TB, i int) string {
	raw := good.head(fields{"kid": fmt.Sprintf("kid-%d", i)}).sign(t)
	return raw[:len(raw)-8] + "AAAAAAAA"
}

// TestBearerFlood: security.md 32.
func TestBearerFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWeb()
		w.serve(issuer+"/jwks", answers(200, jwks(t)))
		b := newBearer(t, w, time.Now, trusts(nil))
		if got := said(b.Identify(t.Context(), inAuthorization(goodToken(time.Now()).sign(t)))); got != "u-1" {
			t.Fatal(got)
		}
		var raws []string
		for i := range 200 { // signing takes longer than verifying
			raws = append(raws, garbage(goodToken(time.Now()), t, i))
		}
		for minute := 1; minute <= 3; minute++ {
			time.Sleep(time.Minute)
			var wg sync.WaitGroup
			for worker := range 10 {
				wg.Go(func() {
					for i := range 1000 {
						if got := said(b.Identify(t.Context(), inAuthorization(raws[(worker+i)%len(raws)]))); got != "credential_refused" {
							t.Errorf("garbage is %s", got)
							return
						}
					}
				})
			}
			wg.Wait()
			if n := w.count(issuer + "/jwks"); n != minute+1 {
				t.Errorf("%d fetches after %d minutes of 10,000 bad tokens each", n, minute)
			}
		}
	})
}

func TestBearerKeysUnavailable(t *testing.T) {
	discovery := issuer + "/.well-known/openid-configuration"
	metadata := fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, issuer, issuer+"/jwks")
	many := jose.JSONWebKeySet{}
	for i := range 10_000 {
		many.Keys = append(many.Keys, jose.JSONWebKey{Key: otherRSA().Public(), KeyID: fmt.Sprint(i)})
	}
	huge := func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"keys":[`+strings.Repeat(" ", 50<<20)+`]}`)
	}
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
	}
	for name, tt := range map[string]struct {
		metadata, keys http.HandlerFunc
		want           string
	}{
		"works":               {answers(200, metadata), nil, "u-1"},
		"metadata 500":        {answers(500, metadata), nil, "identity_unavailable"},
		"metadata garbage":    {answers(200, "<html>"), nil, "identity_unavailable"},
		"metadata of another": {answers(200, strings.Replace(metadata, "acme", "evil", 1)), nil, "identity_unavailable"},
		"plain http keys":     {answers(200, strings.Replace(metadata, `"jwks_uri":"https:`, `"jwks_uri":"http:`, 1)), nil, "identity_unavailable"},
		"no jwks_uri":         {answers(200, fmt.Sprintf(`{"issuer":%q}`, issuer)), nil, "identity_unavailable"},
		"keys 500":            {answers(200, metadata), answers(500, jwks(t)), "identity_unavailable"},
		"keys 404":            {answers(200, metadata), answers(404, ""), "identity_unavailable"},
		"keys garbage":        {answers(200, metadata), answers(200, "<html>"), "identity_unavailable"},
		"keys none":           {answers(200, metadata), answers(200, `{"keys":[]}`), "identity_unavailable"},
		"keys 50 MB":          {answers(200, metadata), huge, "identity_unavailable"},
		"keys 10,000":         {answers(200, metadata), answers(200, jsonText(t, many)), "identity_unavailable"},
		"keys redirect away":  {answers(200, metadata), redirect("https://evil.example/jwks"), "identity_unavailable"},
		"keys redirect loop":  {answers(200, metadata), redirect(issuer + "/jwks"), "identity_unavailable"},
		"keys redirect home":  {answers(200, metadata), redirect("/realms/acme/jwks2"), "u-1"},
		"keys hang":           {answers(200, metadata), func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "identity_unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWeb()
				w.serve(discovery, tt.metadata)
				w.serve(issuer+"/jwks", answers(200, jwks(t)))
				w.serve(issuer+"/jwks2", answers(200, jwks(t)))
				w.serve("https://evil.example/jwks", answers(200, jwks(t)))
				if tt.keys != nil {
					w.serve(issuer+"/jwks", tt.keys)
				}
				b := newBearer(t, w, time.Now, identity.BearerConfig{Issuer: issuer, Audience: []string{audience}})
				request, begun := inAuthorization(goodToken(time.Now()).sign(t)), time.Now()
				answer, err := b.Identify(t.Context(), request)
				if got := said(answer, err); got != tt.want {
					t.Errorf("got %s (%v), want %s", got, err, tt.want)
				}
				if waited := time.Since(begun); waited > 5*time.Second {
					t.Errorf("waited %s", waited)
				}
				if w.count("https://evil.example/jwks") != 0 {
					t.Error("followed a redirect to another host")
				}
				w.serve(discovery, answers(200, metadata))
				w.serve(issuer+"/jwks", answers(200, jwks(t)))
				time.Sleep(time.Second)
				if got := said(b.Identify(t.Context(), request)); got != "u-1" {
					t.Errorf("a second after it works: %s", got)
				}
			})
		})
	}
}

func TestBearerKeysRotateAndAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWeb()
		w.serve(issuer+"/jwks", answers(200, jwks(t)))
		b := newBearer(t, w, time.Now, trusts(nil))
		ask := func(k token) string { return said(b.Identify(context.Background(), inAuthorization(k.sign(t)))) }
		old := func() token { return goodToken(time.Now()) }
		if got := ask(old()); got != "u-1" {
			t.Fatal(got)
		}
		time.Sleep(time.Minute)
		w.serve(issuer+"/jwks", answers(200, jsonText(t, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: otherRSA().Public(), KeyID: "rsa-2"}}})))
		if got := ask(old().by(jwt.SigningMethodRS256, otherRSA()).head(fields{"kid": "rsa-2"})); got != "u-1" {
			t.Errorf("new key: %s", got)
		}
		if got := ask(old()); got != "credential_refused" {
			t.Errorf("withdrawn key: %s", got)
		}
		w.serve(issuer+"/jwks", answers(503, ""))
		newer := func() token { return old().by(jwt.SigningMethodRS256, otherRSA()).head(fields{"kid": "rsa-2"}) }
		time.Sleep(59 * time.Minute)
		if got := ask(newer()); got != "u-1" {
			t.Errorf("59 minutes without keys: %s", got)
		}
		time.Sleep(2 * time.Minute)
		if got := ask(newer()); got != "identity_unavailable" {
			t.Errorf("more than an hour without keys: %s", got)
		}
	})
}

// albToken is an assertion as a load balancer writes it: padded, its issuer and
// end in the header, too.
func albToken(now time.Time) token {
	k := goodToken(now).by(jwt.SigningMethodES256, ecKey())
	k.encoding = base64.URLEncoding
	k.header = fields{
		"typ": "JWT", "alg": "ES256", "kid": albKid, "iss": issuer, "client": audience, "signer": albARN, "exp": now.Add(2 * time.Minute).Unix(),
	}
	k.claims = fields{"sub": "u-1", "email": "ada@example.com", "exp": now.Add(2 * time.Minute).Unix(), "iss": issuer}
	return k
}

const (
	albARN  = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/web/50dc6c495c0c9188"
	albKid  = "12345678-1234-1234-1234-123456789abc"
	albKeys = "https://public-keys.auth.elb.eu-central-1.amazonaws.com/"
	tenant  = "72f988bf-86f1-41af-91ab-2d7cd011db47"
)

// TestPresets: for each product a real token in its own form, and what must not pass.
func TestPresets(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	good := goodToken(now)
	es := good.by(jwt.SigningMethodES256, ecKey()).head(fields{"kid": "ec-1"})
	alb := albToken(now)
	const team, entra = "https://acme.cloudflareaccess.com", "https://login.microsoftonline.com/" + tenant + "/v2.0"
	const iapAudience = "/projects/1234/global/backendServices/5678"
	w := newWeb()
	for _, address := range []string{team + "/cdn-cgi/access/certs", "https://www.gstatic.com/iap/verify/public_key-jwk", issuer + "/jwks", entra + "/keys"} {
		w.serve(address, answers(200, jwks(t)))
	}
	w.serve(issuer+"/.well-known/openid-configuration", answers(200, fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, issuer, issuer+"/jwks")))
	w.serve(entra+"/.well-known/openid-configuration", answers(200, fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, entra, entra+"/keys")))
	w.serve(albKeys+albKid, answers(200, publicPEM(ecKey().Public())))

	cloudflare := identity.BearerConfig{Preset: "cloudflare_access", TeamDomain: "acme", Audience: []string{"4714c1358e65fe4b408ad6d432a5f878f08194bdb4752441fd56faefa9b2b6f2"}}
	access := good.claim(fields{"iss": team, "aud": cloudflare.Audience, "type": "app"})
	iap := identity.BearerConfig{Preset: "google_iap", Audience: []string{iapAudience}}
	iapToken := es.claim(fields{"iss": "https://cloud.google.com/iap", "aud": iapAudience, "sub": "accounts.google.com:12345"})
	elb := identity.BearerConfig{Preset: "aws_alb", Issuer: issuer, LoadBalancers: []string{albARN}, Audience: []string{audience}}
	easy := identity.BearerConfig{Preset: "azure_easy_auth", Tenant: tenant, Audience: []string{audience}}
	easyToken := good.claim(fields{"iss": entra, "tid": tenant})
	proxy := identity.BearerConfig{Preset: "oauth2_proxy", Issuer: issuer, Audience: []string{audience}}
	proxyAuthorization := proxy
	proxyAuthorization.Header = "Authorization"
	const refused = "credential_refused"
	for name, tt := range map[string]struct {
		cfg    identity.BearerConfig
		header string
		token  token
		want   string
	}{
		"cloudflare":                   {cloudflare, "Cf-Access-Jwt-Assertion: ", access, "u-1"},
		"cloudflare, other team":       {cloudflare, "Cf-Access-Jwt-Assertion: ", access.claim(fields{"iss": "https://evil.cloudflareaccess.com"}), refused},
		"cloudflare, other app":        {cloudflare, "Cf-Access-Jwt-Assertion: ", access.claim(fields{"aud": []string{"x"}}), refused},
		"cloudflare, service token":    {cloudflare, "Cf-Access-Jwt-Assertion: ", access.claim(fields{"sub": "", "common_name": "x.access"}), refused},
		"cloudflare, ES256":            {cloudflare, "Cf-Access-Jwt-Assertion: ", es.claim(access.claims), refused},
		"cloudflare, plain header":     {cloudflare, "Cf-Access-Authenticated-User-Email: ", access, "skip"},
		"iap":                          {iap, "x-goog-iap-jwt-assertion: ", iapToken, "accounts.google.com:12345"},
		"iap, other backend":           {iap, "x-goog-iap-jwt-assertion: ", iapToken.claim(fields{"aud": "/projects/9/apps/x"}), refused},
		"iap, a Google ID token":       {iap, "x-goog-iap-jwt-assertion: ", good.claim(fields{"iss": "https://accounts.google.com", "aud": iapAudience}), refused},
		"iap, RS256":                   {iap, "x-goog-iap-jwt-assertion: ", good.claim(iapToken.claims), refused},
		"iap, plain header":            {iap, "x-goog-authenticated-user-id: ", iapToken, "skip"},
		"alb":                          {elb, "x-amzn-oidc-data: ", alb, "u-1"},
		"alb, lean payload":            {elb, "x-amzn-oidc-data: ", alb.claim(fields{"iss": nil, "exp": nil}), "u-1"},
		"alb, other load balancer":     {elb, "x-amzn-oidc-data: ", alb.head(fields{"signer": strings.Replace(albARN, "web", "evil", 1)}), refused},
		"alb, no signer":               {elb, "x-amzn-oidc-data: ", alb.head(fields{"signer": nil}), refused},
		"alb, other client":            {elb, "x-amzn-oidc-data: ", alb.head(fields{"client": "x"}), refused},
		"alb, expired":                 {elb, "x-amzn-oidc-data: ", alb.claim(fields{"exp": now.Add(-time.Minute).Unix()}), refused},
		"alb, no end at all":           {elb, "x-amzn-oidc-data: ", alb.claim(fields{"exp": nil}).head(fields{"exp": nil}), refused},
		"alb, kid another":             {elb, "x-amzn-oidc-data: ", alb.head(fields{"kid": "87654321-1234-1234-1234-123456789abc"}), refused},
		"alb, kid a path":              {elb, "x-amzn-oidc-data: ", alb.head(fields{"kid": "../evil/" + albKid}), refused},
		"alb, kid with a query":        {elb, "x-amzn-oidc-data: ", alb.head(fields{"kid": albKid + "?x"}), refused},
		"alb, kid upper case":          {elb, "x-amzn-oidc-data: ", alb.head(fields{"kid": strings.ToUpper(albKid)}), refused},
		"alb, no kid":                  {elb, "x-amzn-oidc-data: ", alb.head(fields{"kid": nil}), refused},
		"alb, signed by another":       {elb, "x-amzn-oidc-data: ", alb.by(jwt.SigningMethodRS256, rsaKey()), refused},
		"alb, its access token":        {elb, "x-amzn-oidc-accesstoken: ", alb, "skip"},
		"easy auth":                    {easy, "X-MS-TOKEN-AAD-ID-TOKEN: ", easyToken, "u-1"},
		"easy auth, other tenant":      {easy, "X-MS-TOKEN-AAD-ID-TOKEN: ", easyToken.claim(fields{"iss": strings.Replace(entra, "7", "8", 1)}), refused},
		"easy auth, unsigned":          {easy, "X-MS-CLIENT-PRINCIPAL: ", easyToken, "skip"},
		"oauth2-proxy":                 {proxy, "X-Forwarded-Access-Token: ", good, "u-1"},
		"oauth2-proxy, other audience": {proxy, "X-Forwarded-Access-Token: ", good.claim(fields{"aud": "account"}), refused},
		"oauth2-proxy, Authorization":  {proxyAuthorization, "Authorization: Bearer ", good, "u-1"},
		"oauth2-proxy, plain header":   {proxy, "X-Forwarded-User: ", good, "skip"},
	} {
		t.Run(name, func(t *testing.T) {
			before := w.total()
			answer, err := newBearer(t, w, func() time.Time { return now }, tt.cfg).Identify(t.Context(), requestWith(tt.header+tt.token.sign(t)))
			if got := said(answer, err); got != tt.want {
				t.Errorf("got %s (%v), want %s", got, err, tt.want)
			}
			if strings.HasPrefix(name, "alb, kid ") && tt.want == refused && w.total() > before+1 {
				t.Errorf("%d requests", w.total()-before)
			}
		})
	}
	for address := range w.asked {
		if strings.Contains(address, "evil") || strings.Contains(address, "..") {
			t.Errorf("asked %s", address)
		}
	}
}

// TestALBFlood: every kid is an address, and still few are asked for.
func TestALBFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWeb()
		w.serve(albKeys+albKid, answers(200, publicPEM(ecKey().Public())))
		b := newBearer(t, w, time.Now, identity.BearerConfig{Preset: "aws_alb", Issuer: issuer, LoadBalancers: []string{albARN}, Audience: []string{audience}})
		ask := func(kid string) string {
			return said(b.Identify(t.Context(), requestWith("X-Amzn-Oidc-Data: "+albToken(time.Now()).head(fields{"kid": kid}).sign(t))))
		}
		if got := ask(albKid); got != "u-1" {
			t.Fatal(got)
		}
		outcomes := map[string]int{}
		for i := range 1000 {
			outcomes[ask(fmt.Sprintf("00000000-0000-0000-0000-%012x", i))]++
		}
		if n := w.total(); n > 4 || outcomes["u-1"] > 0 || outcomes["credential_refused"] != 3 || outcomes["identity_unavailable"] != 997 {
			t.Errorf("%d requests, %v", n, outcomes)
		}
		if got := ask(albKid); got != "u-1" {
			t.Errorf("the good key is %s", got)
		}
		w.serve(albKeys+"00000000-0000-0000-0000-0000000003e7", answers(200, publicPEM(ecKey().Public())))
		time.Sleep(time.Minute)
		if got := ask("00000000-0000-0000-0000-0000000003e7"); got != "u-1" {
			t.Errorf("a new key a minute later: %s", got)
		}
		w.serve(albKeys+albKid, http.NotFound)
		time.Sleep(10 * time.Minute)
		if got := ask(albKid); got != "credential_refused" {
			t.Errorf("a withdrawn key: %s", got)
		}
	})
}

// BenchmarkBearerGarbage prints what 10,000 bad tokens cost per round: fetches of
// keys and growth of the heap.
func BenchmarkBearerGarbage(b *testing.B) {
	w := newWeb()
	w.serve(issuer+"/jwks", answers(200, jwks(b)))
	source := newBearer(b, w, time.Now, trusts(nil))
	raws := make([]string, 1000)
	for i := range raws {
		raws[i] = garbage(goodToken(time.Now()), b, i)
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	flood := func() {
		for i := range 10_000 {
			if got := said(source.Identify(b.Context(), inAuthorization(raws[i%len(raws)]))); got != "credential_refused" {
				b.Fatal(got)
			}
		}
	}
	flood()
	before := heap()
	for b.Loop() {
		flood()
	}
	b.ReportMetric(float64(w.count(issuer+"/jwks")), "fetches")
	b.ReportMetric(float64(int64(heap())-int64(before)), "heap-growth-B")
}

// BenchmarkBearer is what one good token costs; nothing is cached.
func BenchmarkBearer(b *testing.B) {
	w := newWeb()
	w.serve(issuer+"/jwks", answers(200, jwks(b)))
	source := newBearer(b, w, time.Now, trusts(nil))
	for name, k := range map[string]token{
		"RS256": goodToken(time.Now()),
		"ES256": goodToken(time.Now()).by(jwt.SigningMethodES256, ecKey()).head(fields{"kid": "ec-1"}),
	} {
		request := inAuthorization(k.sign(b))
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if got := said(source.Identify(b.Context(), request)); got != "u-1" {
					b.Fatal(got)
				}
			}
		})
	}
}
