package oidcsim

import (
	"io"
	"net/http"
	"strings"
)

// Signature says how ID tokens are signed.
type Signature int

// Ways to sign, the first of which is right.
const (
	SignHonestly           Signature = iota
	SignNone                         // alg "none", no signature
	SignHS256WithPublicKey           // HMAC, with the PEM of the public key as its secret
	SignOtherKey                     // a key that is in no key set, under a key id that is
)

// Faults is what the provider does wrong. The zero value is an honest provider.
type Faults struct {
	// Endpoints replaces whole endpoints; see [Status], [Garbage], [Huge] and [Hang].
	Endpoints map[Endpoint]http.HandlerFunc
	// Metadata changes the discovery document before it is sent.
	Metadata func(document map[string]any)
	// IDToken changes the claims of an ID token before it is signed.
	IDToken func(claims map[string]any)
	// LogoutToken changes the claims of a logout token before it is signed;
	// LogoutTokenType replaces its typ.
	LogoutToken     func(claims map[string]any)
	LogoutTokenType string
	// Signature forges the signature of ID tokens and logout tokens.
	Signature Signature
	// Userinfo changes the answer of the userinfo endpoint.
	Userinfo func(claims map[string]any)
	// TokenAnswer changes the token endpoint's successful answer.
	TokenAnswer func(answer map[string]any)
	// AuthorizeError is answered to every valid authorization request, such as
	// "access_denied"; AuthorizeErrorDescription comes with it.
	AuthorizeError, AuthorizeErrorDescription string
	// CallbackIssuer replaces the iss parameter of RFC 9207; "-" leaves it out.
	CallbackIssuer string
}

// SetFaults replaces all faults; SetFaults(Faults{}) makes the provider honest again.
func (p *Provider) SetFaults(faults Faults) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = faults
}

func (p *Provider) currentFaults() Faults {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults
}

// Status answers with a bare status, such as 500 or 429 (which says Retry-After: 7).
func Status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if code == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", "7")
		}
		w.WriteHeader(code)
	}
}

// OAuthError answers like a token endpoint that refuses (RFC 6749 section 5.2).
func OAuthError(status int, code string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { oauthError(w, status, code, "fault on demand") }
}

// Garbage answers 200 with something that is no JSON, labelled JSON.
func Garbage() http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "<html>\x00\xff{{{")
	}
}

// Huge answers 200 with a JSON string of about size bytes.
func Huge(size int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"padding":"`)
		chunk := strings.Repeat("x", 32<<10)
		for sent := 0; sent < size; sent += len(chunk) {
			if _, err := io.WriteString(w, chunk); err != nil {
				return
			}
		}
		_, _ = io.WriteString(w, `"}`)
	}
}

// Hang answers nothing until the client goes away.
func Hang() http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only a read body lets the server notice the client leaving
		<-r.Context().Done()
	}
}

// Redirect answers 307 to location.
func Redirect(location string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusTemporaryRedirect)
	}
}
