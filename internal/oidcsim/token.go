package oidcsim

import (
	"crypto/subtle"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// grant is what one authorization gave: the family of its tokens.
type grant struct {
	client, person string
	nonce          string
	scopes         []string
	sessionID      string
	authTime       time.Time
	revoked        bool
}

type grantedCode struct {
	grant       *grant
	redirectURI string
	challenge   string
	expires     time.Time
	used        bool
}

type accessToken struct {
	grant   *grant
	expires time.Time
}

type refreshToken struct {
	grant   *grant
	expires time.Time
	used    bool
}

func oauthError(w http.ResponseWriter, status int, code, description string) {
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="oidcsim"`)
	}
	writeJSON(w, status, map[string]string{"error": code, "error_description": description})
}

func (p *Provider) serveToken(w http.ResponseWriter, r *http.Request) {
	if !method(w, r, http.MethodPost) {
		return
	}
	if err := r.ParseForm(); err != nil {
		oauthError(w, http.StatusBadRequest, "invalid_request", "the body is not a form")
		return
	}
	client, ok := p.authenticate(r)
	if !ok {
		oauthError(w, http.StatusUnauthorized, "invalid_client", "unknown client or wrong secret")
		return
	}
	switch r.PostForm.Get("grant_type") {
	case "authorization_code":
		p.redeemCode(w, r.PostForm, client)
	case "refresh_token":
		p.redeemRefreshToken(w, r.PostForm, client)
	default:
		oauthError(w, http.StatusBadRequest, "unsupported_grant_type", "authorization_code or refresh_token")
	}
}

// authenticate finds the client by HTTP Basic, by body or, if public, by its
// id alone (RFC 6749 section 2.3.1).
func (p *Provider) authenticate(r *http.Request) (Client, bool) {
	id, given := r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	if user, password, basic := r.BasicAuth(); basic {
		if given != "" {
			return Client{}, false // two methods in one request are forbidden
		}
		var errID, errSecret error
		id, errID = url.QueryUnescape(user)
		given, errSecret = url.QueryUnescape(password)
		if errID != nil || errSecret != nil {
			return Client{}, false
		}
	}
	client, known := p.clients[id]
	return client, known && client.Secret.Equal(secret.New(given))
}

func (p *Provider) redeemCode(w http.ResponseWriter, form url.Values, client Client) {
	now := p.cfg.Clock()
	p.mu.Lock()
	code := p.codes[form.Get("code")]
	var problem string
	switch {
	case code == nil || code.grant.client != client.ID || !now.Before(code.expires):
		problem = "the code is unknown or expired"
	case code.used:
		code.grant.revoked = true // RFC 6749 section 4.1.2: revoke what the first use gave
		problem = "the code was used before"
	case code.redirectURI != form.Get("redirect_uri"):
		problem = "redirect_uri differs from the authorization request"
	case subtle.ConstantTimeCompare([]byte(hash(form.Get("code_verifier"))), []byte(code.challenge)) != 1:
		problem = "code_verifier does not match"
	default:
		code.used = true
	}
	p.mu.Unlock()
	if problem != "" {
		oauthError(w, http.StatusBadRequest, "invalid_grant", problem)
		return
	}
	withRefresh := p.cfg.RefreshWithoutScope || slices.Contains(code.grant.scopes, "offline_access")
	p.answerWithTokens(w, code.grant, code.grant.nonce, withRefresh)
}

func (p *Provider) redeemRefreshToken(w http.ResponseWriter, form url.Values, client Client) {
	now := p.cfg.Clock()
	p.mu.Lock()
	token := p.refresh[form.Get("refresh_token")]
	valid := token != nil && token.grant.client == client.ID && now.Before(token.expires) && !token.grant.revoked
	if valid && token.used {
		token.grant.revoked = true // somebody else has it: RFC 9700 section 4.14.2
		valid = false
	}
	if valid {
		token.used = !p.cfg.KeepRefreshToken
	}
	p.mu.Unlock()
	if !valid {
		oauthError(w, http.StatusBadRequest, "invalid_grant", "the refresh token is unknown, expired, revoked or used")
		return
	}
	// No nonce: there is no authentication request this answers (Core 1.0 section 12.2).
	p.answerWithTokens(w, token.grant, "", !p.cfg.KeepRefreshToken)
}

func (p *Provider) answerWithTokens(w http.ResponseWriter, g *grant, nonce string, withRefresh bool) {
	now := p.cfg.Clock()
	access := p.random()
	answer := map[string]any{
		"access_token": access, "token_type": "Bearer", "expires_in": int(p.cfg.AccessLife.Seconds()),
	}
	p.mu.Lock()
	person := p.person(g.person)
	if person == nil || p.disabled[g.person] {
		p.mu.Unlock()
		oauthError(w, http.StatusBadRequest, "invalid_grant", "the person has been disabled")
		return
	}
	p.sweep(now)
	p.access[access] = &accessToken{grant: g, expires: now.Add(p.cfg.AccessLife)}
	if withRefresh {
		refresh := p.random()
		p.refresh[refresh] = &refreshToken{grant: g, expires: now.Add(p.cfg.RefreshLife)}
		answer["refresh_token"] = refresh
	}
	claims := p.idTokenClaims(g, person, nonce, access, now)
	faults := p.faults
	p.mu.Unlock()

	if faults.IDToken != nil {
		faults.IDToken(claims)
	}
	idToken, err := p.signed(claims, "JWT")
	if err != nil {
		oauthError(w, http.StatusInternalServerError, "server_error", "cannot sign")
		return
	}
	answer["id_token"] = idToken
	if faults.TokenAnswer != nil {
		faults.TokenAnswer(answer)
	}
	writeJSON(w, http.StatusOK, answer)
}

// idTokenClaims builds the claims; p.mu is held.
func (p *Provider) idTokenClaims(g *grant, person *Person, nonce, access string, now time.Time) map[string]any {
	claims := map[string]any{}
	if !p.cfg.LeanIDToken {
		maps.Copy(claims, scopedClaims(person, g.scopes))
	}
	claims["iss"] = p.issuer
	claims["sub"] = person.Subject
	claims["aud"] = g.client
	claims["iat"] = now.Unix()
	claims["exp"] = now.Add(p.cfg.IDTokenLife).Unix()
	claims["auth_time"] = g.authTime.Unix()
	claims["sid"] = g.sessionID
	claims["at_hash"] = accessTokenHash(access)
	if nonce != "" {
		claims["nonce"] = nonce
	}
	return claims
}
