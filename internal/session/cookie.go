package session

import (
	"net/http"
	"strings"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// CookieName is the session cookie's name on https. The prefix makes browsers
// insist on Secure, Path=/ and no Domain (RFC 6265bis section 4.1.3.2), so no
// sibling domain can plant one.
const CookieName = "__Host-whisp-session"

// LoopbackCookieName is its name on http://localhost, where browsers would
// refuse the prefix.
const LoopbackCookieName = "whisp-session"

// cookieValueLength is 32 bytes in unpadded base64url.
const cookieValueLength = 43

type cookieShape struct {
	name   string
	secure bool
}

func newCookieShape(public setting.URL) cookieShape {
	if public.Scheme == "http" && public.Loopback() {
		return cookieShape{name: LoopbackCookieName}
	}
	return cookieShape{name: CookieName, secure: true}
}

// FromRequest returns the session cookie's value. No cookie, and several of
// them (somebody planted one), are the empty value.
func (s *Sessions) FromRequest(r *http.Request) secret.Text {
	return cookieValue(r, s.cookie.name)
}

// cookieValue finds the one cookie of that name, as it stands, without parsing
// the others: this runs for every request.
func cookieValue(r *http.Request, name string) secret.Text {
	found, seen := "", false
	for _, line := range r.Header["Cookie"] {
		for line != "" {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			pairName, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			if pairName != name {
				continue
			}
			if seen {
				return secret.Text{}
			}
			found, seen = value, true
		}
	}
	return secret.New(found)
}

// Cookie carries a started session's id. It is a session cookie for the
// browser, too: the server alone decides when it ends.
func (s *Sessions) Cookie(value secret.Text) *http.Cookie {
	return &http.Cookie{
		Name: s.cookie.name, Value: value.Reveal(), Path: "/",
		Secure: s.cookie.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}

// ExpiredCookie deletes the session cookie. It has every attribute of the
// original, or browsers ignore it.
func (s *Sessions) ExpiredCookie() *http.Cookie {
	c := s.Cookie(secret.Text{})
	c.MaxAge = -1
	return c
}
