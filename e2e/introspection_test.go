//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// cacheFor is how long a good answer of the provider counts.
const cacheFor = time.Second

const introspectionIdentity = `  sources: [introspection]
  introspection:
    url: %s/token/introspection
    issuer: %s
    client_id: whisp-bff
    audience: [` + chatAudience + `]
    client_ids: [page]
    scopes: [chat]
    clock_leeway: 0s
    cache_for: 1s
`

// introspects is the whole path with tokens that only the provider can read.
func introspects(t *testing.T, i *issuer, more string, carry carrier) *tokenStack {
	t.Helper()
	origin, listen := ownOrigin(t)
	st := newTokenStack(t, i, origin, listen, fmt.Sprintf(introspectionIdentity, i.url, i.url)+more)
	st.chats(t, opaqueToken, carry)

	p := st.newPerson(t)
	carry(t, p, st.token(t, "alice", shortOpaque))
	st.refuses(t, carry, map[string]refusal{
		"garbage":                  {"garbage-that-nobody-issued", "credential_refused", "token is not active"},
		"a token cut at its start": {st.token(t, "alice", opaqueToken)[1:], "credential_refused", "token is not active"},
		"a token for another API":  {st.token(t, "alice", foreignOpaque), "credential_refused", "aud is missing, or none of those configured"},
		"a token of another page":  {i.signIn(t, "other", "alice", opaqueToken).Access, "credential_refused", "client_id is missing, or none of those configured"},
	})
	st.ends(t, p, "")

	p = st.newPerson(t)
	token := st.token(t, "alice", opaqueToken)
	carry(t, p, token)
	st.revoked(t, p, token)
	return st
}

// revoked: from cacheFor after the provider has confirmed it, no request with
// the token passes, and never again.
func (st *tokenStack) revoked(t testing.TB, p *person, token string) {
	t.Helper()
	p.signIn(t)
	st.issuer.revoke(t, "page", token)
	revoked := time.Now()
	eventually(t, "the revoked token is refused", func() bool {
		asked := time.Now()
		response, body := p.fetch(t, http.MethodPost, "/auth/whisp/sign-in", "")
		if response.StatusCode == http.StatusOK {
			if late := asked.Sub(revoked); late > cacheFor {
				t.Fatalf("a token revoked %s ago passes", late)
			}
			return false
		}
		if code := decode[problemBody](t, body).Code; code != "credential_refused" {
			t.Fatalf("refused with %s", body)
		}
		return true
	})
	p.refused(t, "credential_refused")
}

func TestChatWithIntrospectionInAuthorization(t *testing.T) {
	t.Parallel()
	clientSecret := rand.Text()
	i := startIssuer(t, tokenResources, map[string]any{
		"client_id": "whisp-bff", "client_secret": clientSecret, "token_endpoint_auth_method": "client_secret_basic",
		"grant_types": []string{}, "response_types": []string{}, "redirect_uris": []string{},
	})
	st := introspects(t, i, "    client_auth: basic\n    client_secret: {value: "+clientSecret+"}\n", inAuthorization)
	st.refuses(t, inAuthorization, notOurs(t))

	// Nobody to ask: that is no yes, and says nothing against the token.
	p := st.newPerson(t)
	inAuthorization(t, p, st.token(t, "bob", opaqueToken))
	i.process.stop(t)
	if response, body := p.fetch(t, http.MethodPost, "/auth/whisp/sign-in", ""); response.StatusCode != http.StatusServiceUnavailable || decode[problemBody](t, body).Code != "identity_unavailable" {
		t.Errorf("with the provider down: %s %s", response.Status, body)
	}
	st.given = append(st.given, clientSecret)
	st.keepsSecrets(t)
}

func TestChatWithIntrospectionInCookies(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	i := startIssuer(t, tokenResources, map[string]any{
		"client_id": "whisp-bff", "token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "ES256",
		"jwks":        jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "2026-01", Algorithm: "ES256", Use: "sig"}}},
		"grant_types": []string{}, "response_types": []string{}, "redirect_uris": []string{},
	})
	st := introspects(t, i, "    cookie: "+tokenCookieName+"\n    client_auth: private_key_jwt\n    key_id: 2026-01\n    private_key: {file: "+file+"}\n", inParts)
	// In a cookie of ours the provider is asked about JWTs, too. This one answers
	// that with 400, which is neither a yes nor a no.
	p := st.newPerson(t)
	inCookie(t, p, st.token(t, "alice", jwtToken))
	p.refused(t, "identity_unavailable")
	st.keepsSecrets(t)
}
