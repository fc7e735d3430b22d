package oidcsim

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// scopedClaims returns the claims that the scopes ask for (OpenID Connect Core
// 1.0 section 5.4). Claims no scope of the specification names, such as groups,
// come with profile.
func scopedClaims(person *Person, scopes []string) map[string]any {
	claims := maps.Clone(person.Claims)
	if claims == nil {
		claims = map[string]any{}
	}
	maps.DeleteFunc(claims, func(name string, _ any) bool {
		if name == "email" || name == "email_verified" {
			return !slices.Contains(scopes, "email")
		}
		return !slices.Contains(scopes, "profile")
	})
	return claims
}

func (p *Provider) serveUserinfo(w http.ResponseWriter, r *http.Request) {
	if !method(w, r, http.MethodGet, http.MethodPost) {
		return
	}
	scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	now := p.cfg.Clock()
	p.mu.Lock()
	token := p.access[value]
	var claims map[string]any
	if strings.EqualFold(scheme, "Bearer") && token != nil && now.Before(token.expires) && !token.grant.revoked && !p.disabled[token.grant.person] {
		person := p.person(token.grant.person)
		claims = scopedClaims(person, token.grant.scopes)
		claims["sub"] = person.Subject
	}
	faults := p.faults
	p.mu.Unlock()
	if claims == nil {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if faults.Userinfo != nil {
		faults.Userinfo(claims)
	}
	writeJSON(w, http.StatusOK, claims)
}
