package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

func mustURL(text string) setting.URL { return setting.MustURL(text) }

const appSecret = "0123456789abcdef0123456789abcdef"

func TestBearerAccepts(t *testing.T) {
	w := newWeb()
	w.serve(issuer+"/jwks", answers(200, jwks(t)))
	now := time.Unix(1_800_000_000, 0)
	answer, err := newBearer(t, w, func() time.Time { return now }, trusts(nil)).Identify(t.Context(), inAuthorization(goodToken(now).sign(t)))
	if err != nil {
		t.Fatal(err)
	}
	got := answer.Identity
	if got.Issuer != issuer || got.Subject != "u-1" || !answer.Expires.Equal(now.Add(5*time.Minute)) || answer.Session != "" {
		t.Errorf("got %+v", answer)
	}
	if got.Claims["employee"] != json.Number("12345678901234567890") || got.Claims["email"] != "ada@example.com" {
		t.Errorf("claims %v", got.Claims)
	}
	for _, protocol := range []string{"aud", "exp", "iat", "jti", "nonce"} {
		if _, has := got.Claims[protocol]; has {
			t.Errorf("claims keep %s", protocol)
		}
	}
}

// TestBearerTokens holds one token after the other against one issuer, in
// Authorization and in a header of our own (security.md 31, 33, 34).
func TestBearerTokens(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	good := goodToken(now)
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	unix := func(d time.Duration) int64 { return now.Add(d).Unix() }
	deep := strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)
	plainPayload := jsonText(t, good.claims)
	raw := func(header string) string { return good.seal(t, header, plainPayload) }
	none := func(alg string) string {
		signed := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"`+alg+`"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(plainPayload)) + "."
		return signed
	}
	publicBytes := []byte(publicPEM(rsaKey().Public()))
	const refused = "credential_refused"
	for name, tt := range map[string]struct {
		token  string
		shared string // in Authorization
		own    string // in a header of our own, if it differs
		cause  string
	}{
		"good":                 {good.sign(t), "u-1", "", ""},
		"good, no kid":         {good.head(fields{"kid": nil}).sign(t), "u-1", "", ""},
		"good, ES256":          {good.by(jwt.SigningMethodES256, ecKey()).head(fields{"kid": "ec-1"}).sign(t), "u-1", "", ""},
		"good, PS256":          {good.by(jwt.SigningMethodPS256, rsaKey()).head(fields{"kid": nil}).sign(t), refused, "", "no key"}, // the key says RS256
		"just within leeway":   {good.claim(fields{"exp": unix(-29 * time.Second)}).sign(t), "u-1", "", ""},
		"expired":              {good.claim(fields{"exp": unix(-30 * time.Second)}).sign(t), refused, "", "exp is past"},
		"exp missing":          {good.claim(fields{"exp": nil}).sign(t), refused, "", "exp is missing"},
		"exp null":             {good.seal(t, jsonText(t, good.header), strings.Replace(plainPayload, `"exp":`, `"exp":null,"was":`, 1)), refused, "", "exp is missing"},
		"exp a text":           {good.claim(fields{"exp": "2099-01-01"}).sign(t), refused, "", "exp is no date"},
		"exp beyond dates":     {good.claim(fields{"exp": json.Number("1e300")}).sign(t), refused, "", "exp is no date"},
		"nbf in the future":    {good.claim(fields{"nbf": unix(31 * time.Second)}).sign(t), refused, "", "nbf is in the future"},
		"nbf beyond dates":     {good.claim(fields{"nbf": json.Number("1e300")}).sign(t), refused, "", "nbf is no date"},
		"iat in the future":    {good.claim(fields{"iat": unix(time.Minute)}).sign(t), refused, "", "iat is in the future"},
		"aud another":          {good.claim(fields{"aud": "api"}).sign(t), refused, "", "aud is missing, or none"},
		"aud missing":          {good.claim(fields{"aud": nil}).sign(t), refused, "", "aud is missing, or none"},
		"aud empty":            {good.claim(fields{"aud": []string{}}).sign(t), refused, "", "aud is missing, or none"},
		"aud a prefix":         {good.claim(fields{"aud": "web2"}).sign(t), refused, "", "aud is missing, or none"},
		"aud of a wrong kind":  {good.claim(fields{"aud": fields{"web": true}}).sign(t), refused, "", "aud is no text"},
		"aud among others":     {good.claim(fields{"aud": []string{"web", "api"}}).sign(t), refused, "", "aud has others"},
		"aud and azp ours":     {good.claim(fields{"aud": []string{"web", "api"}, "azp": "web"}).sign(t), "u-1", "", ""},
		"aud and azp another":  {good.claim(fields{"aud": []string{"web", "api"}, "azp": "api"}).sign(t), refused, "", "aud has others"},
		"sub missing":          {good.claim(fields{"sub": nil}).sign(t), refused, "", "sub is missing"},
		"sub empty":            {good.claim(fields{"sub": ""}).sign(t), refused, "", "sub is missing"},
		"sub a number":         {good.claim(fields{"sub": 7}).sign(t), refused, "", "sub is no text"},
		"sub with NUL":         {good.claim(fields{"sub": "a\x00b"}).sign(t), refused, "", "sub is missing"},
		"logout token":         {good.claim(fields{"events": fields{"http://schemas.openid.net/event/backchannel-logout": fields{}}}).sign(t), refused, "", "events"},
		"logout token by typ":  {good.head(fields{"typ": "logout+jwt"}).sign(t), refused, "", "typ is of a token"},
		"typ in long form":     {good.head(fields{"typ": "application/LOGOUT+jwt"}).sign(t), refused, "", "typ is of a token"},
		"bound to a key":       {good.claim(fields{"cnf": fields{"jkt": "x"}}).sign(t), refused, "", "cnf"},
		"signed by another":    {good.by(jwt.SigningMethodRS256, otherRSA()).sign(t), refused, "", "no key"},
		"signature cut":        {strings.TrimSuffix(good.sign(t), good.sign(t)[len(good.sign(t))-4:]), refused, "", ""},
		"signature gone":       {good.sign(t)[:strings.LastIndex(good.sign(t), ".")+1], refused, "", "no key"},
		"alg none":             {none("none"), refused, "", "alg is not"},
		"alg None":             {none("None"), refused, "", "alg is not"},
		"alg nOnE":             {none("nOnE"), refused, "", "alg is not"},
		"alg rs256":            {raw(`{"alg":"rs256","kid":"rsa-1"}`), refused, "", "alg is not"},
		"alg twice":            {raw(`{"alg":"RS256","alg":"none"}`), "skip", refused, "no JWT"},
		"alg a number":         {raw(`{"alg":256}`), refused, "", "alg is no text"},
		"alg ES256, RSA key":   {raw(`{"alg":"ES256","kid":"rsa-1"}`), refused, "", "no key"},
		"alg not configured":   {good.by(jwt.SigningMethodRS512, rsaKey()).sign(t), refused, "", "alg is not"},
		"key confusion":        {good.by(jwt.SigningMethodHS256, publicBytes).sign(t), refused, "", "alg is not"},
		"key confusion, DER":   {good.by(jwt.SigningMethodHS256, rsaKey().N.Bytes()).sign(t), refused, "", "alg is not"},
		"curve confusion":      {good.by(jwt.SigningMethodES384, p384).head(fields{"alg": "ES256", "kid": "ec-1"}).sign(t), refused, "", "no key"},
		"kid unknown":          {good.head(fields{"kid": "x"}).sign(t), refused, "", "no key"},
		"kid a path":           {good.head(fields{"kid": "../../../../dev/null"}).sign(t), refused, "", "no key"},
		"kid a URL":            {good.head(fields{"kid": "https://evil.example/key"}).sign(t), refused, "", "no key"},
		"kid of 257 bytes":     {good.head(fields{"kid": strings.Repeat("k", 257)}).sign(t), refused, "", "kid is too long"},
		"kid with a break":     {good.head(fields{"kid": "a\nb"}).sign(t), refused, "", "kid is too long, or not text"},
		"kid a list":           {good.head(fields{"kid": []string{"rsa-1"}}).sign(t), refused, "", "kid is no text"},
		"jku of an attacker":   {good.by(jwt.SigningMethodRS256, otherRSA()).head(fields{"jku": "https://evil.example/jwks", "x5u": "https://evil.example/crt"}).sign(t), refused, "", "no key"},
		"jwk of an attacker":   {good.by(jwt.SigningMethodRS256, otherRSA()).head(fields{"jwk": json.RawMessage(jwks(t)), "x5c": []string{"MII"}}).sign(t), refused, "", "no key"},
		"jku is ignored":       {good.head(fields{"jku": "https://evil.example/jwks"}).sign(t), "u-1", "", ""},
		"crit":                 {good.head(fields{"crit": []string{"b64"}, "b64": false}).sign(t), refused, "", "crit"},
		"crit empty":           {good.head(fields{"crit": []string{}}).sign(t), refused, "", "crit"},
		"zip":                  {good.head(fields{"zip": "DEF"}).sign(t), refused, "", "zip"},
		"other issuer":         {good.claim(fields{"iss": "https://other.example"}).sign(t), "skip", refused, "iss is none"},
		"issuer with slash":    {good.claim(fields{"iss": issuer + "/"}).sign(t), "skip", refused, "iss is none"},
		"issuer upper case":    {good.claim(fields{"iss": strings.ToUpper(issuer)}).sign(t), "skip", refused, "iss is none"},
		"issuer as ISS":        {good.claim(fields{"iss": nil, "ISS": issuer}).sign(t), "skip", refused, "iss is none"},
		"issuer a list":        {good.claim(fields{"iss": []string{issuer}}).sign(t), "skip", refused, "iss is none"},
		"issuer twice":         {good.seal(t, jsonText(t, good.header), `{"iss":"https://evil.example",`+plainPayload[1:]), refused, "", "a claim twice"},
		"Whisp's own":          {good.by(jwt.SigningMethodHS256, []byte(appSecret)).claim(fields{"iss": nil, "aud": nil, "username": "ada", "ROLE": "USER"}).sign(t), "skip", refused, "iss is none"},
		"opaque":               {"2YotnFZFEjr1zCsicMWpAA", "skip", refused, "no JWT"},
		"opaque with dots":     {"a.b.c", "skip", refused, "no JWT"},
		"four parts":           {good.sign(t) + ".x", "skip", refused, "no JWT"},
		"encrypted":            {strings.Join([]string{base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"dir","enc":"A256GCM"}`)), "", "aaaa", "bbbb", "cccc"}, "."), refused, "", "encrypted"},
		"nested":               {good.seal(t, `{"alg":"RS256","cty":"JWT"}`, good.sign(t)), refused, "", "no JSON object"},
		"deep":                 {good.seal(t, jsonText(t, good.header), `{"iss":"`+issuer+`","a":`+deep[:4000]+`}`), refused, "", "too deep"},
		"deep and well-formed": {good.seal(t, jsonText(t, good.header), plainPayload[:len(plainPayload)-1]+`,"a":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)+`}`), refused, "", "too deep"},
		"brackets in a text":   {good.claim(fields{"name": strings.Repeat(`["{`, 100)}).sign(t), "u-1", "", ""},
		"payload a list":       {good.seal(t, jsonText(t, good.header), `[1]`), refused, "", "no JSON object"},
		"payload and more":     {good.seal(t, jsonText(t, good.header), plainPayload+`{}`), refused, "", "no JSON object"},
		"payload no UTF-8":     {good.seal(t, jsonText(t, good.header), strings.Replace(plainPayload, "u-1", "u-\xff", 1)), refused, "", "no JSON object"},
		"100 kB":               {good.claim(fields{"x": strings.Repeat("x", 100_000)}).sign(t), refused, "", "longer than 16 KiB"},
		"100 kB of dots":       {strings.Repeat(".", 100_000), refused, "", "longer than 16 KiB"},
		"padded":               {token{good.header, good.claims, good.method, good.key, base64.URLEncoding}.sign(t), "skip", refused, "no JWT"},
		"standard base64":      {strings.NewReplacer("-", "+", "_", "/").Replace(good.claim(fields{"x": "???>>>~~~"}).sign(t)), refused, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWeb()
			w.serve(issuer+"/jwks", answers(200, jwks(t)))
			clock := func() time.Time { return now }
			answer, err := newBearer(t, w, clock, trusts(nil)).Identify(t.Context(), inAuthorization(tt.token))
			if got := said(answer, err); got != tt.shared || got == "credential_refused" && !strings.Contains(why(err), tt.cause) {
				t.Errorf("in Authorization: %s (%v), want %s", got, err, tt.shared)
			}
			want := tt.own
			if want == "" {
				want = tt.shared
			}
			own := newBearer(t, w, clock, trusts(func(c *identity.BearerConfig) { c.Header = "X-Token" }))
			answer, err = own.Identify(t.Context(), requestWith("X-Token: "+tt.token))
			if got := said(answer, err); got != want || got == "credential_refused" && !strings.Contains(why(err), tt.cause) {
				t.Errorf("in a header of our own: %s (%v), want %s", got, err, want)
			}
			if n := w.total() - w.count(issuer+"/jwks"); n != 0 {
				t.Errorf("%d requests to somewhere else", n)
			}
		})
	}
}

// TestBearerHeaders is about where the token stands (security.md 21, 22).
func TestBearerHeaders(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	raw := goodToken(now).sign(t)
	w := newWeb()
	w.serve(issuer+"/jwks", answers(200, jwks(t)))
	b := newBearer(t, w, func() time.Time { return now },
		trusts(nil),
		trusts(func(c *identity.BearerConfig) { c.Header = "x-forwarded-access-token" }),
		trusts(func(c *identity.BearerConfig) { c.Cookie = "token" }))
	for name, tt := range map[string]struct {
		request *http.Request
		want    string
	}{
		"nothing":                {requestWith(), "skip"},
		"lower-case scheme":      {requestWith("Authorization: bearer " + raw), "u-1"},
		"two spaces":             {requestWith("Authorization: Bearer  " + raw), "u-1"},
		"scheme alone":           {requestWith("Authorization: Bearer"), "skip"},
		"scheme and space":       {requestWith("Authorization: Bearer "), "skip"},
		"basic":                  {requestWith("Authorization: Basic YTpi"), "skip"},
		"DPoP":                   {requestWith("Authorization: DPoP " + raw), "skip"},
		"no scheme":              {requestWith("Authorization: " + raw), "skip"},
		"twice":                  {requestWith("Authorization: Bearer "+raw, "Authorization: Bearer "+raw), "credential_refused"},
		"two in one line":        {requestWith("Authorization: Bearer " + raw + ", Bearer " + raw), "credential_refused"},
		"own header":             {requestWith("X-Forwarded-Access-Token: " + raw), "u-1"},
		"own header, Bearer":     {requestWith("X-Forwarded-Access-Token: Bearer " + raw), "u-1"},
		"own header, mixed case": {requestWith("x-FORWARDED-access-TOKEN: " + raw), "u-1"},
		"own header, empty":      {requestWith("X-Forwarded-Access-Token: "), "skip"},
		"own header, garbage":    {requestWith("X-Forwarded-Access-Token: x"), "credential_refused"},
		"own header, twice":      {requestWith("X-Forwarded-Access-Token: "+raw, "X-Forwarded-Access-Token: "+raw), "credential_refused"},
		"with underscores":       {requestWith("X_Forwarded_Access_Token: " + raw), "skip"},
		"bad in one, good in another": {requestWith("X-Forwarded-Access-Token: x", "Cookie: token="+raw),
			"credential_refused"},
		"foreign in Authorization, good in cookie": {requestWith("Authorization: Bearer opaque", "Cookie: token="+raw), "u-1"},
		"cookie":                 {requestWith("Cookie: token=" + raw), "u-1"},
		"cookie in parts":        {requestWith("Cookie: a=b; token.1=" + raw[100:] + "; token.0=" + raw[:100]), "u-1"},
		"cookie in two lines":    {requestWith("Cookie: token.1="+raw[100:], "Cookie: token.0="+raw[:100]), "u-1"},
		"cookie with a gap":      {requestWith("Cookie: token.0=" + raw[:100] + "; token.2=" + raw[100:]), "credential_refused"},
		"cookie without a first": {requestWith("Cookie: token.1=" + raw), "credential_refused"},
		"cookie part twice":      {requestWith("Cookie: token.0=" + raw + "; token.0=" + raw), "credential_refused"},
		"cookie twice":           {requestWith("Cookie: token=" + raw + "; token=" + raw), "credential_refused"},
		"cookie whole and parts": {requestWith("Cookie: token=" + raw + "; token.0=" + raw), "credential_refused"},
		"cookie empty":           {requestWith("Cookie: token="), "skip"},
		"cookie cleared in part": {requestWith("Cookie: token=; token.0="), "skip"},
		"longer names":           {requestWith("Cookie: token.sig=x; token.00=x; token.-1=x; token.1000=x; tokens=x"), "skip"},
		"17 parts":               {requestWith("Cookie: " + parts(17)), "credential_refused"},
		"cookie of another case": {requestWith("Cookie: TOKEN=" + raw), "skip"},
		"cookie of 100 kB":       {requestWith("Cookie: token=" + strings.Repeat("x", 100_000)), "credential_refused"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := said(b.Identify(t.Context(), tt.request)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	trailing := requestWith()
	trailing.Trailer = http.Header{"X-Forwarded-Access-Token": {raw}, "Authorization": {"Bearer " + raw}}
	if got := said(b.Identify(t.Context(), trailing)); got != "skip" {
		t.Errorf("in a trailer: %s", got)
	}
	if names := b.Headers(); len(names) != 1 || names[0] != "X-Forwarded-Access-Token" {
		t.Errorf("headers %v", names)
	}
}

func parts(n int) string {
	var all []string
	for i := range n {
		all = append(all, "token."+jsonNumber(i)+"=x")
	}
	return strings.Join(all, "; ")
}

func jsonNumber(i int) string { return string(must(json.Marshal(i))) }

// TestBearerRules changes the configuration, and asks with a good token unless
// told otherwise.
func TestBearerRules(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	good := goodToken(now)
	dir := t.TempDir()
	keyFile := filepath.Join(dir, "app.pem")
	if err := os.WriteFile(keyFile, []byte(publicPEM(otherRSA().Public())+publicPEM(rsaKey().Public())), 0o600); err != nil {
		t.Fatal(err)
	}
	requires := func(rules ...identity.RequiredClaim) func(*identity.BearerConfig) {
		return func(c *identity.BearerConfig) { c.RequiredClaims = rules }
	}
	fixed := func(change func(*identity.BearerConfig)) func(*identity.BearerConfig) {
		return func(c *identity.BearerConfig) { c.JWKSURL = setting.URL{}; change(c) }
	}
	shared := fixed(func(c *identity.BearerConfig) {
		c.HMACSecrets = []setting.Secret{setting.SecretValue(strings.Repeat("new", 20)), setting.SecretValue(appSecret)}
	})
	hs256 := good.by(jwt.SigningMethodHS256, []byte(appSecret))
	for name, tt := range map[string]struct {
		change func(*identity.BearerConfig)
		token  token
		want   string
	}{
		"any audience":               {func(c *identity.BearerConfig) { c.Audience, c.AnyAudience = nil, true }, good.claim(fields{"aud": nil}), "u-1"},
		"azp one of ours":            {func(c *identity.BearerConfig) { c.AuthorizedParties = []string{"spa"} }, good.claim(fields{"aud": []string{"web", "x"}, "azp": "spa"}), "u-1"},
		"azp another":                {func(c *identity.BearerConfig) { c.AuthorizedParties = []string{"spa"} }, good.claim(fields{"azp": "web"}), "credential_refused"},
		"azp missing":                {func(c *identity.BearerConfig) { c.AuthorizedParties = []string{"spa"} }, good, "credential_refused"},
		"typ as asked":               {func(c *identity.BearerConfig) { c.Types = []string{"at+jwt"} }, good.head(fields{"typ": "application/at+JWT"}), "u-1"},
		"typ another":                {func(c *identity.BearerConfig) { c.Types = []string{"at+jwt"} }, good, "credential_refused"},
		"max age":                    {func(c *identity.BearerConfig) { c.MaxAge = setting.Duration(time.Minute) }, good.claim(fields{"iat": now.Add(-2 * time.Minute).Unix()}), "credential_refused"},
		"max age without iat":        {func(c *identity.BearerConfig) { c.MaxAge = setting.Duration(time.Minute) }, good.claim(fields{"iat": nil}), "credential_refused"},
		"max age, young":             {func(c *identity.BearerConfig) { c.MaxAge = setting.Duration(time.Minute) }, good, "u-1"},
		"no exp":                     {func(c *identity.BearerConfig) { c.ExpOptional, c.MaxAge = true, setting.Duration(time.Minute) }, good.claim(fields{"exp": nil}), "u-1"},
		"no exp, but past":           {func(c *identity.BearerConfig) { c.ExpOptional, c.MaxAge = true, setting.Duration(time.Minute) }, good.claim(fields{"exp": 1}), "credential_refused"},
		"equals":                     {requires(identity.RequiredClaim{Claim: "email", Equals: "ada@example.com"}), good, "u-1"},
		"equals, another":            {requires(identity.RequiredClaim{Claim: "email", Equals: "Ada@example.com"}), good, "credential_refused"},
		"equals a number":            {requires(identity.RequiredClaim{Claim: "employee", Equals: "12345678901234567890"}), good, "u-1"},
		"equals true":                {requires(identity.RequiredClaim{Claim: "email_verified", Equals: "true"}), good.claim(fields{"email_verified": true}), "u-1"},
		"equals false":               {requires(identity.RequiredClaim{Claim: "email_verified", Equals: "true"}), good.claim(fields{"email_verified": false}), "credential_refused"},
		"contains":                   {requires(identity.RequiredClaim{Claim: "groups", Contains: "chat"}), good, "u-1"},
		"contains no substring":      {requires(identity.RequiredClaim{Claim: "groups", Contains: "cha"}), good, "credential_refused"},
		"contains a word":            {requires(identity.RequiredClaim{Claim: "scope", Contains: "chat"}), good, "u-1"},
		"path":                       {requires(identity.RequiredClaim{Claim: "realm_access.roles", Contains: "user"}), good, "u-1"},
		"path to nowhere":            {requires(identity.RequiredClaim{Claim: "realm_access.groups", Contains: "user"}), good, "credential_refused"},
		"a name wins over a path":    {requires(identity.RequiredClaim{Claim: "a.b", Equals: "x"}), good.claim(fields{"a.b": "y", "a": fields{"b": "x"}}), "credential_refused"},
		"both":                       {requires(identity.RequiredClaim{Claim: "groups", Contains: "chat"}, identity.RequiredClaim{Claim: "groups", Contains: "admin"}), good, "credential_refused"},
		"claim missing":              {requires(identity.RequiredClaim{Claim: "org", Equals: "acme"}), good, "credential_refused"},
		"public key file":            {fixed(func(c *identity.BearerConfig) { c.PublicKeys = []string{keyFile} }), good.head(fields{"kid": "anything"}), "u-1"},
		"public key":                 {fixed(func(c *identity.BearerConfig) { c.PublicKeyPEMs = []string{publicPEM(otherRSA().Public())} }), good, "credential_refused"},
		"public key, HS256":          {fixed(func(c *identity.BearerConfig) { c.PublicKeys = []string{keyFile} }), good.by(jwt.SigningMethodHS256, []byte(publicPEM(rsaKey().Public()))), "credential_refused"},
		"HMAC":                       {shared, hs256, "u-1"},
		"HMAC, other secret":         {shared, good.by(jwt.SigningMethodHS256, []byte(strings.ToUpper(appSecret))), "credential_refused"},
		"HMAC, no other audience":    {shared, hs256.claim(fields{"aud": "x"}), "credential_refused"},
		"HMAC, HS512 not configured": {shared, good.by(jwt.SigningMethodHS512, []byte(appSecret)), "credential_refused"},
		"HMAC, RS256":                {shared, good, "credential_refused"},
		"HMAC, empty secret":         {shared, good.by(jwt.SigningMethodHS256, []byte{}), "credential_refused"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWeb()
			w.serve(issuer+"/jwks", answers(200, jwks(t)))
			b := newBearer(t, w, func() time.Time { return now }, trusts(tt.change))
			answer, err := b.Identify(t.Context(), inAuthorization(tt.token.sign(t)))
			if got := said(answer, err); got != tt.want {
				t.Errorf("got %s (%v), want %s", got, err, tt.want)
			}
			if end := answer.Expires; err == nil && strings.HasPrefix(name, "max age") && !end.Equal(now.Add(time.Minute)) {
				t.Errorf("expires %s, though max_age ends it earlier", end)
			}
		})
	}
}

// TestBearerIssuersSideBySide: each token is held against the rules of its own issuer.
func TestBearerIssuersSideBySide(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	const app, partner = "https://app.example.com", "https://partner.example"
	w := newWeb()
	w.serve(issuer+"/jwks", answers(200, jwks(t)))
	b := newBearer(t, w, func() time.Time { return now }, trusts(nil),
		identity.BearerConfig{Issuer: app, Audience: []string{"chat"}, HMACSecrets: []setting.Secret{setting.SecretValue(appSecret)}},
		identity.BearerConfig{Issuer: partner, AnyAudience: true, PublicKeyPEMs: []string{publicPEM(otherRSA().Public())}})
	good := goodToken(now)
	for name, tt := range map[string]struct {
		token token
		want  string
	}{
		"provider":                {good, "u-1"},
		"app":                     {good.claim(fields{"iss": app, "aud": "chat"}).by(jwt.SigningMethodHS256, []byte(appSecret)), "u-1"},
		"partner":                 {good.claim(fields{"iss": partner, "aud": "x"}).by(jwt.SigningMethodRS256, otherRSA()), "u-1"},
		"app signs as provider":   {good.by(jwt.SigningMethodHS256, []byte(appSecret)), "credential_refused"},
		"partner signs as app":    {good.claim(fields{"iss": app, "aud": "chat"}).by(jwt.SigningMethodRS256, otherRSA()), "credential_refused"},
		"provider signs as other": {good.claim(fields{"iss": partner}), "credential_refused"},
		"app with other's aud":    {good.claim(fields{"iss": app}).by(jwt.SigningMethodHS256, []byte(appSecret)), "credential_refused"},
	} {
		if got := said(b.Identify(t.Context(), inAuthorization(tt.token.sign(t)))); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}
