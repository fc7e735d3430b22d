package oidcsim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// logoutTokenLife is what the specification recommends at most (OpenID
	// Connect Back-Channel Logout 1.0 section 2.4).
	logoutTokenLife = 2 * time.Minute
	// deliveryPatience bounds one delivery of a logout token.
	deliveryPatience = 10 * time.Second

	logoutEvent = "http://schemas.openid.net/event/backchannel-logout"
)

// LogoutToken returns a logout token for a client, altered as the faults demand:
// about one SSO session, or, with an empty sid, about all of a subject's.
func (p *Provider) LogoutToken(clientID, subject, sid string) (string, error) {
	now := p.cfg.Clock()
	p.mu.Lock()
	claims := map[string]any{
		"iss": p.issuer, "aud": clientID, "iat": now.Unix(), "exp": now.Add(logoutTokenLife).Unix(), "jti": p.random(),
		"events": map[string]any{logoutEvent: map[string]any{}},
	}
	faults := p.faults
	p.mu.Unlock()
	if subject != "" {
		claims["sub"] = subject
	}
	if sid != "" {
		claims["sid"] = sid
	}
	if faults.LogoutToken != nil {
		faults.LogoutToken(claims)
	}
	kind := "logout+jwt"
	if faults.LogoutTokenType != "" {
		kind = faults.LogoutTokenType
	}
	return p.signed(claims, kind)
}

// Deliver posts a logout token to the client's BackChannelLogoutURI. It returns an
// error unless the client answers 200 or 204 (section 2.8).
func (p *Provider) Deliver(ctx context.Context, clientID, token string) error {
	client := p.clients[clientID]
	if p.cfg.HTTP == nil || client.BackChannelLogoutURI == "" {
		return errors.New("oidcsim: no Config.HTTP, or no BackChannelLogoutURI of the client")
	}
	ctx, cancel := context.WithTimeout(ctx, deliveryPatience)
	defer cancel()
	form := url.Values{"logout_token": {token}}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, client.BackChannelLogoutURI, strings.NewReader(form))
	if err != nil {
		return fmt.Errorf("oidcsim: deliver logout token: %w", err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := p.cfg.HTTP.Do(request)
	if err != nil {
		return fmt.Errorf("oidcsim: deliver logout token: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusNoContent {
		return fmt.Errorf("oidcsim: the client answered the logout token with %s", response.Status)
	}
	return nil
}

// LogOut does what an administrator does who signs a person out: it ends their SSO
// sessions, and the tokens that live by them, and tells the clients.
func (p *Provider) LogOut(ctx context.Context, personID string) error {
	p.mu.Lock()
	var ended []*ssoSession
	for cookie, session := range p.sessions {
		if session.person == personID {
			ended = append(ended, session)
			p.forget(cookie)
		}
	}
	p.mu.Unlock()
	return p.tell(ctx, ended)
}

// tell sends a logout token to every client that took part in the sessions and
// wants one.
func (p *Provider) tell(ctx context.Context, ended []*ssoSession) error {
	var failed []error
	for _, session := range ended {
		p.mu.Lock()
		person, clients := p.person(session.person), slices.Clone(session.clients)
		p.mu.Unlock()
		for _, id := range clients {
			if p.clients[id].BackChannelLogoutURI == "" || p.cfg.HTTP == nil {
				continue
			}
			token, err := p.LogoutToken(id, person.Subject, session.id)
			if err == nil {
				err = p.Deliver(ctx, id, token)
			}
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}
