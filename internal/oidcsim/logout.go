package oidcsim

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
)

// serveEndSession is RP-Initiated Logout 1.0. With a valid id_token_hint, or on
// a POST from the provider's own page, it logs out at once; otherwise it asks,
// for an image tag must not log anybody out.
func (p *Provider) serveEndSession(w http.ResponseWriter, r *http.Request) {
	if !method(w, r, http.MethodGet, http.MethodPost) {
		return
	}
	if r.Method == http.MethodPost && p.csrf.Check(r) != nil {
		p.errorPage(w, http.StatusForbidden, "This logout was started on another site.")
		return
	}
	if err := r.ParseForm(); err != nil {
		p.errorPage(w, http.StatusBadRequest, "The logout request is damaged.")
		return
	}
	clientID, hinted, ok := p.logoutClient(r.Form)
	target := r.Form.Get("post_logout_redirect_uri")
	switch {
	case !ok:
		p.errorPage(w, http.StatusBadRequest, "The logout request does not come from an application we know (id_token_hint).")
		return
	case target != "" && !slices.Contains(p.clients[clientID].PostLogoutRedirectURIs, target):
		p.errorPage(w, http.StatusBadRequest, "The application asked to return to an address that is not registered (post_logout_redirect_uri).")
		return
	case !hinted && (r.Method != http.MethodPost || r.PostForm.Get("confirmed") == ""):
		p.logoutPage(w, r.Form)
		return
	}
	p.endSession(w, r) // tells the other clients first, as providers do
	if target == "" {
		p.messagePage(w, http.StatusOK, "Signed out", "You are signed out. You can close this page.")
		return
	}
	back, err := url.Parse(target)
	if err != nil {
		p.errorPage(w, http.StatusBadRequest, "The registered logout address cannot be parsed.")
		return
	}
	if state := r.Form.Get("state"); state != "" {
		query := back.Query()
		query.Set("state", state)
		back.RawQuery = query.Encode()
	}
	http.Redirect(w, r, back.String(), http.StatusSeeOther) //nolint:gosec // G710: target is one of the registered addresses
}

// logoutClient says which client asks, and whether a valid hint vouches for it.
func (p *Provider) logoutClient(form url.Values) (client string, hinted, ok bool) {
	client = form.Get("client_id")
	hint := form.Get("id_token_hint")
	if hint == "" {
		return client, false, true
	}
	claims, valid := p.readHint(hint)
	audience, _ := claims["aud"].(string)
	if !valid || (client != "" && client != audience) {
		return "", false, false
	}
	return audience, true, true
}

// endSession ends the browser's SSO session and the tokens that live by it, and
// tells the clients. That one of them cannot be told keeps nobody signed in here.
func (p *Provider) endSession(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	var ended []*ssoSession
	for _, cookie := range r.CookiesNamed(sessionCookie) {
		if session := p.sessions[cookie.Value]; session != nil {
			ended = append(ended, session)
			p.forget(cookie.Value)
		}
	}
	http.SetCookie(w, p.ssoCookie("", -1))
	p.mu.Unlock()
	_ = p.tell(r.Context(), ended)
}

// forget ends an SSO session and the tokens that live by it; p.mu is held.
func (p *Provider) forget(cookie string) {
	session := p.sessions[cookie]
	delete(p.sessions, cookie)
	maps.DeleteFunc(p.access, func(_ string, t *accessToken) bool { return t.grant.sessionID == session.id })
	maps.DeleteFunc(p.refresh, func(_ string, t *refreshToken) bool {
		return t.grant.sessionID == session.id && !slices.Contains(t.grant.scopes, "offline_access")
	})
}
