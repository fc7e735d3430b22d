//go:build e2e

package e2e

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// flipped changes one character in the middle of a token's part, counted from 0.
func flipped(token string, part int) string {
	parts := strings.Split(token, ".")
	text := []byte(parts[part])
	if at := len(text) / 2; text[at] == 'A' {
		text[at] = 'B'
	} else {
		text[at] = 'A'
	}
	parts[part] = string(text)
	return strings.Join(parts, ".")
}

// unsigned is the token with alg none.
func unsigned(token string) string {
	header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"at+jwt"}`))
	return header + "." + strings.Split(token, ".")[1] + "."
}

// badJWTs are refused wherever they stand.
func badJWTs(t testing.TB, st *tokenStack) map[string]refusal {
	t.Helper()
	good := st.issuer.signIn(t, "page", "alice", jwtToken)
	return map[string]refusal{
		"a changed signature":       {flipped(good.Access, 2), "credential_refused", "no key verifies the signature"},
		"alg none":                  {unsigned(good.Access), "credential_refused", "alg is not one of those configured"},
		"a token for another API":   {st.token(t, "alice", foreignJWT), "credential_refused", "aud is missing, or none of those configured"},
		"the page's ID token":       {good.ID, "credential_refused", "aud is missing, or none of those configured"},
		"more than a token can be":  {good.Access + strings.Repeat("A", 17<<10), "credential_refused", ""},
		"a token with a part extra": {good.Access + ".x.y", "credential_refused", ""},
	}
}

// Others' tokens in Authorization are none of our business, and nobody's
// sign-in.
func notOurs(t testing.TB) map[string]refusal {
	t.Helper()
	elsewhere := startIssuer(t, tokenResources).signIn(t, "page", "alice", jwtToken).Access
	return map[string]refusal{
		"nothing":                 {"", "session_required", ""},
		"a JWT of another issuer": {elsewhere, "session_required", ""},
	}
}

const bearerIdentity = "  sources: [bearer]\n  bearer:\n    - issuer: %s\n" + bearerAudience

func TestChatWithBearerInAuthorization(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, tokenResources)
	origin, listen := ownOrigin(t)
	st := newTokenStack(t, i, origin, listen, fmt.Sprintf(bearerIdentity, i.url))
	st.chats(t, jwtToken, inAuthorization)

	p := st.newPerson(t)
	inAuthorization(t, p, st.token(t, "alice", shortJWT))
	st.refuses(t, inAuthorization, badJWTs(t, st))
	st.refuses(t, inAuthorization, notOurs(t))
	st.refuses(t, inAuthorization, map[string]refusal{
		"garbage":         {"garbage", "session_required", ""},
		"an opaque token": {st.token(t, "alice", opaqueToken), "session_required", ""},
	})
	st.ends(t, p, "exp is past")
	st.keepsSecrets(t)
}

func TestChatWithBearerInCookies(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, tokenResources)
	origin, listen := ownOrigin(t)
	st := newTokenStack(t, i, origin, listen, fmt.Sprintf(bearerIdentity, i.url)+"      cookie: "+tokenCookieName+"\n")
	st.chats(t, jwtToken, inParts)

	p := st.newPerson(t)
	inCookie(t, p, st.token(t, "alice", shortJWT))
	good := st.token(t, "alice", jwtToken)
	bad := badJWTs(t, st)
	delete(bad, "more than a token can be") // no cookie can
	st.refuses(t, inCookie, bad)
	st.refuses(t, inCookie, map[string]refusal{
		"garbage":         {"garbage", "credential_refused", ""},
		"an opaque token": {st.token(t, "alice", opaqueToken), "credential_refused", ""},
	})
	st.refuses(t, func(t testing.TB, p *person, token string) {
		inParts(t, p, token)
		p.setCookie(t, tokenCookieName+".0", "")
	}, map[string]refusal{"the first part is missing": {good, "credential_refused", "lacks a part"}})
	st.refuses(t, func(t testing.TB, p *person, token string) {
		inParts(t, p, token)
		inCookie(t, p, token)
	}, map[string]refusal{"whole and in parts": {good, "credential_refused", "both whole and in parts"}})
	st.ends(t, p, "exp is past")
	st.keepsSecrets(t)
}

// oauth2-proxy with --pass-access-token: the browser has the proxy's cookie only.
func TestChatBehindOAuth2Proxy(t *testing.T) {
	t.Parallel()
	const header = "X-Forwarded-Access-Token"
	i := startIssuer(t, tokenResources)
	_, listen := ownOrigin(t)
	var sessions sync.Map // of the proxy: its cookie's value -> access token
	origin := proxy(t, listen, func(out http.Header, who string) {
		out.Del(header)
		if token, ok := sessions.Load(who); ok {
			out.Set(header, token.(string))
		}
	})
	st := newTokenStack(t, i, origin, listen, fmt.Sprintf("  sources: [bearer]\n  bearer:\n    - preset: oauth2_proxy\n      issuer: %s\n", i.url)+bearerAudience)
	behind := func(t testing.TB, p *person, token string) {
		t.Helper()
		session := fmt.Sprintf("%p", p)
		sessions.Store(session, token)
		p.setCookie(t, "proxy-session", session)
	}
	st.chats(t, jwtToken, behind)

	p := st.newPerson(t)
	behind(t, p, st.token(t, "alice", shortJWT))
	st.refuses(t, behind, badJWTs(t, st))
	st.refuses(t, behind, map[string]refusal{
		"garbage":         {"garbage", "credential_refused", ""},
		"an opaque token": {st.token(t, "alice", opaqueToken), "credential_refused", ""},
	})
	st.ends(t, p, "exp is past")
	st.keepsSecrets(t)
}
