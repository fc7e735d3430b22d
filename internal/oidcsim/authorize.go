package oidcsim

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// sessionCookie holds the SSO session. Cookies ignore ports, so on a developer's
// machine it must not share a name with anything the app or whisp-bff sets.
const sessionCookie = "oidcsim-sso"

// ssoSession is one browser's login at the provider.
type ssoSession struct {
	id       string // sid claim
	person   string
	authTime time.Time
	expires  time.Time
	clients  []string // that somebody logged in to during the session
}

// authorization is a checked authorization request (OpenID Connect Core 1.0 section 3.1.2.1).
type authorization struct {
	client      Client
	redirectURI string
	state       string
	nonce       string
	challenge   string
	scopes      []string
	prompt      []string
	maxAge      time.Duration // negative: not asked for
	loginHint   string
}

// refusal is an authorization error. Without a trustworthy redirect URI it is
// shown on a page; else it goes back to the client (RFC 6749 section 4.1.2.1).
type refusal struct {
	page              string
	code, description string
}

func (p *Provider) readAuthorization(query url.Values) (authorization, *refusal) {
	client, known := p.clients[query.Get("client_id")]
	switch {
	case !known:
		return authorization{}, &refusal{page: "The application is not registered here (client_id)."}
	case len(query["redirect_uri"]) != 1 || !client.allows(query.Get("redirect_uri")):
		return authorization{}, &refusal{page: "The application asked to return to an address that is not registered (redirect_uri)."}
	}
	request := authorization{
		client:      client,
		redirectURI: query.Get("redirect_uri"),
		state:       query.Get("state"),
		nonce:       query.Get("nonce"),
		challenge:   query.Get("code_challenge"),
		scopes:      strings.Fields(query.Get("scope")),
		prompt:      strings.Fields(query.Get("prompt")),
		loginHint:   query.Get("login_hint"),
		maxAge:      -1,
	}
	for name, values := range query {
		if len(values) > 1 {
			return request, &refusal{code: "invalid_request", description: "repeated parameter " + strconv.Quote(name)}
		}
	}
	if text := query.Get("max_age"); text != "" {
		seconds, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return request, &refusal{code: "invalid_request", description: "max_age is not a number of seconds"}
		}
		request.maxAge = time.Duration(seconds) * time.Second
	}
	return request, request.refuse(query)
}

func (a authorization) refuse(query url.Values) *refusal {
	switch {
	case query.Has("request"):
		return &refusal{code: "request_not_supported", description: "request objects are not supported"}
	case query.Get("response_type") != "code":
		return &refusal{code: "unsupported_response_type", description: "only response_type=code"}
	case query.Get("response_mode") != "" && query.Get("response_mode") != "query":
		return &refusal{code: "invalid_request", description: "only response_mode=query"}
	case !slices.Contains(a.scopes, "openid"):
		return &refusal{code: "invalid_scope", description: "scope openid is required"}
	case a.state == "":
		return &refusal{code: "invalid_request", description: "state is required"}
	case query.Get("code_challenge_method") != "S256" || len(a.challenge) != 43:
		return &refusal{code: "invalid_request", description: "PKCE with S256 is required"}
	case slices.Contains(a.prompt, "none") && len(a.prompt) > 1:
		return &refusal{code: "invalid_request", description: "prompt none stands alone"}
	}
	return nil
}

func (p *Provider) serveAuthorize(w http.ResponseWriter, r *http.Request) {
	if !method(w, r, http.MethodGet) {
		return
	}
	request, refused := p.readAuthorization(r.URL.Query())
	if refused != nil {
		p.refuse(w, r, request, refused)
		return
	}
	if faults := p.currentFaults(); faults.AuthorizeError != "" {
		p.refuse(w, r, request, &refusal{code: faults.AuthorizeError, description: faults.AuthorizeErrorDescription})
		return
	}
	session := p.currentSession(r, request)
	if session == nil && p.cfg.TrustLoginHint && !slices.Contains(request.prompt, "none") {
		session = p.logIn(w, request.loginHint)
	}
	switch {
	case session != nil:
		p.answerWithCode(w, r, request, session)
	case slices.Contains(request.prompt, "none"):
		p.refuse(w, r, request, &refusal{code: "login_required", description: "nobody is logged in"})
	default:
		p.loginPage(w, request, r.URL.RawQuery)
	}
}

// serveLogin takes a click on a name. The authorization request travels
// through the form as it came and is checked again.
func (p *Provider) serveLogin(w http.ResponseWriter, r *http.Request) {
	if !method(w, r, http.MethodPost) {
		return
	}
	if err := p.csrf.Check(r); err != nil {
		p.errorPage(w, http.StatusForbidden, "This login was started on another site.")
		return
	}
	query, err := url.ParseQuery(r.PostFormValue("request"))
	if err != nil {
		p.errorPage(w, http.StatusBadRequest, "The login form is damaged. Go back to the application and start again.")
		return
	}
	request, refused := p.readAuthorization(query)
	if refused != nil {
		p.refuse(w, r, request, refused)
		return
	}
	if r.PostFormValue("cancel") != "" {
		p.refuse(w, r, request, &refusal{code: "access_denied", description: "the person cancelled"})
		return
	}
	session := p.logIn(w, r.PostFormValue("person"))
	if session == nil {
		p.errorPage(w, http.StatusForbidden, "This person does not exist or has been disabled.")
		return
	}
	p.answerWithCode(w, r, request, session)
}

// currentSession returns the SSO session that may answer the request, or nil.
func (p *Provider) currentSession(r *http.Request, request authorization) *ssoSession {
	if slices.Contains(request.prompt, "login") || slices.Contains(request.prompt, "select_account") {
		return nil
	}
	now := p.cfg.Clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, cookie := range r.CookiesNamed(sessionCookie) {
		session := p.sessions[cookie.Value]
		if session == nil || !now.Before(session.expires) || p.disabled[session.person] {
			continue
		}
		if request.maxAge >= 0 && now.Sub(session.authTime) > request.maxAge {
			continue
		}
		return session
	}
	return nil
}

// logIn starts an SSO session and sets its cookie; nil if the person may not.
func (p *Provider) logIn(w http.ResponseWriter, personID string) *ssoSession {
	now := p.cfg.Clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.person(personID) == nil || p.disabled[personID] {
		return nil
	}
	p.sweep(now)
	session := &ssoSession{id: p.random()[:22], person: personID, authTime: now, expires: now.Add(p.cfg.SessionLife)}
	cookie := p.random()
	p.sessions[cookie] = session
	http.SetCookie(w, p.ssoCookie(cookie, 0))
	return session
}

// ssoCookie builds the cookie; p.mu is held.
func (p *Provider) ssoCookie(value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: sessionCookie, Value: value, Path: p.base + "/", MaxAge: maxAge, HttpOnly: true,
		SameSite: http.SameSiteLaxMode, Secure: strings.HasPrefix(p.issuer, "https:"),
	}
}

func (p *Provider) answerWithCode(w http.ResponseWriter, r *http.Request, request authorization, session *ssoSession) {
	code := p.random()
	now := p.cfg.Clock()
	p.mu.Lock()
	p.sweep(now)
	if !slices.Contains(session.clients, request.client.ID) {
		session.clients = append(session.clients, request.client.ID)
	}
	p.codes[code] = &grantedCode{
		redirectURI: request.redirectURI,
		challenge:   request.challenge,
		expires:     now.Add(p.cfg.CodeLife),
		grant: &grant{
			client: request.client.ID, person: session.person, nonce: request.nonce, scopes: request.scopes,
			sessionID: session.id, authTime: session.authTime,
		},
	}
	p.mu.Unlock()
	p.answer(w, r, request, url.Values{"code": {code}})
}

func (p *Provider) refuse(w http.ResponseWriter, r *http.Request, request authorization, refused *refusal) {
	if refused.page != "" {
		p.errorPage(w, http.StatusBadRequest, refused.page)
		return
	}
	answer := url.Values{"error": {refused.code}}
	if refused.description != "" {
		answer.Set("error_description", refused.description)
	}
	p.answer(w, r, request, answer)
}

// answer sends the browser back to the client with state and iss (RFC 9207).
func (p *Provider) answer(w http.ResponseWriter, r *http.Request, request authorization, answer url.Values) {
	if request.state != "" {
		answer.Set("state", request.state)
	}
	switch faults := p.currentFaults(); faults.CallbackIssuer {
	case "":
		answer.Set("iss", p.Issuer())
	case "-":
	default:
		answer.Set("iss", faults.CallbackIssuer)
	}
	target, err := url.Parse(request.redirectURI)
	if err != nil {
		p.errorPage(w, http.StatusBadRequest, "The registered redirect address cannot be parsed.")
		return
	}
	query := target.Query()
	for name, values := range answer {
		query[name] = values
	}
	target.RawQuery = query.Encode()
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, target.String(), http.StatusSeeOther)
}
