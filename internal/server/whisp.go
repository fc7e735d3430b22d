package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/sockproxy"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
)

// signInAnswer is what whisp.setAuth takes, and two fields more. The vendor's
// browser guide reads exactly jwt, refreshToken and userId.
type signInAnswer struct {
	// JWT comes without "Bearer ", as setAuth wants it.
	JWT          string `json:"jwt"`
	RefreshToken string `json:"refreshToken"`
	UserID       string `json:"userId"`
	Username     string `json:"username"`
	// ExpiresAt is RFC 3339 in UTC; text, because encoding/json checks what a
	// time.Time marshals to once more.
	ExpiresAt string `json:"expiresAt"`
}

// signIn hands the browser its grant. Who signs in is what the session says.
func (s *Site) signIn(x *exchange) error {
	who, err := s.caller(x, true)
	if err != nil {
		return err
	}
	request, err := readSignIn(x)
	if err != nil {
		return err
	}
	grant, err := s.parts.Broker.SignIn(x.r.Context(), who.broker(), request.Fresh)
	if err != nil {
		return err
	}
	return writeJSON(x, signInAnswer{
		JWT: grant.JWT.Reveal(), RefreshToken: grant.RefreshToken.Reveal(),
		UserID: grant.UserID, Username: grant.Username, ExpiresAt: grant.Expires.UTC().Format(time.RFC3339Nano),
	})
}

// signOut revokes the grant and keeps the session.
func (s *Site) signOut(x *exchange) error {
	who, err := s.caller(x, false)
	if err != nil {
		return err
	}
	if err := s.parts.Broker.SignOut(x.r.Context(), who.holder); err != nil {
		return err
	}
	x.Header().Set("Cache-Control", "no-store")
	x.WriteHeader(http.StatusNoContent)
	return nil
}

type signInRequest struct {
	// Fresh asks for a new grant even if the present one is good.
	Fresh bool `json:"fresh"`
}

// readSignIn takes an empty body or {"fresh": bool}. Credentials get an error
// of their own: somebody ports a page from the vendor's guide, whose form
// sends them.
func readSignIn(x *exchange) (signInRequest, error) {
	var request signInRequest
	if x.body == nil {
		return request, nil
	}
	raw, err := readSmall(x)
	if err != nil {
		return request, err
	}
	if raw = bytes.TrimSpace(raw); len(raw) == 0 {
		return request, nil
	}
	if !jsonBody(x.r) {
		return request, problem.BodyInvalid()
	}
	return parseSignIn(raw)
}

// parseSignIn is stricter than encoding/json, which takes FRESH for fresh and
// the last of two.
func parseSignIn(raw []byte) (request signInRequest, err error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return request, problem.BodyInvalid()
	}
	fields := make(map[string]json.RawMessage)
	doubled := false
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return request, problem.BodyInvalid()
		}
		var value json.RawMessage
		if decoder.Decode(&value) != nil {
			return request, problem.BodyInvalid()
		}
		key := name.(string) //nolint:errcheck,forcetypeassert // what stands before a value in an object is a string
		if strings.EqualFold(key, "username") || strings.EqualFold(key, "password") {
			return request, problem.CredentialsNotAccepted()
		}
		doubled = doubled || fields[key] != nil
		fields[key] = value
	}
	if _, err := decoder.Token(); err != nil { // the closing brace
		return request, problem.BodyInvalid()
	}
	if _, err := decoder.Token(); err != io.EOF {
		return request, problem.BodyInvalid()
	}
	switch fresh := string(fields["fresh"]); {
	case doubled, len(fields) > 1, len(fields) == 1 && fresh != "true" && fresh != "false":
		return request, problem.BodyInvalid()
	default:
		request.Fresh = fresh == "true"
	}
	return request, nil
}

// readSmall reads a body that needs no more than a packet, and no more than ten
// seconds.
func readSmall(x *exchange) ([]byte, error) {
	x.body.endBy(min(10*time.Second, x.body.patience))
	// The writer below, so that net/http learns to close the connection.
	raw, err := io.ReadAll(http.MaxBytesReader(x.ResponseWriter, x.body, signInBodyLimit))
	if err == nil {
		return raw, nil
	}
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, problem.BodyTooLarge()
	}
	x.Header().Set("Connection", "close")
	p := problem.BodyInvalid()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.Status = http.StatusRequestTimeout
	}
	return nil, p.Because(err)
}

// serveREST carries a call to Whisp's REST API for a session.
func (s *Site) serveREST(x *exchange, path string) error {
	route, err := s.parts.WhispREST.Match(x.r.Method, path)
	if err != nil {
		if method, ok := errors.AsType[*upstream.MethodError](err); ok {
			x.Header().Set("Allow", method.Allow)
		}
		return err
	}
	if s.denied[route.Operation] {
		return problem.RouteForbidden().Because(fmt.Errorf("%s is denied: see account.self_service, and note that renaming needs a durable store", route.Operation))
	}
	if x.r.Method != http.MethodGet {
		if err := s.origins.checkWrite(x.r); err != nil {
			return err
		}
	}
	who, err := s.whispCaller(x)
	if err != nil {
		return err
	}
	s.parts.WhispREST.Serve(x, x.r, route, who.holder)
	return nil
}

// serveRealtime carries sockets and SockJS for a session. Origin and ticket are
// sockproxy's to check.
func (s *Site) serveRealtime(x *exchange, path string) error {
	who, err := s.whispCaller(x)
	if err != nil {
		return err
	}
	s.parts.Realtime.Serve(x, x.r, path, sockproxy.Caller{
		Session: who.holder, User: who.userKey(), Expires: who.unused, Address: x.client,
	})
	return nil
}

// Header values of every JSON answer, shared: never written to.
var (
	headerJSON       = []string{"application/json"}
	headerNoStore    = []string{"no-store"}
	headerNoSniff    = []string{"nosniff"}
	headerSameOrigin = []string{"same-origin"}
	headerOrigin     = []string{"Origin"}
)

// writeJSON answers 200 with something that no cache, frame or script tag may
// use.
func writeJSON(x *exchange, answer any) error {
	encoded, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	h := x.Header()
	h["Content-Type"] = headerJSON
	h["Cache-Control"] = headerNoStore
	h["X-Content-Type-Options"] = headerNoSniff
	h["Cross-Origin-Resource-Policy"] = headerSameOrigin
	x.WriteHeader(http.StatusOK)
	_, _ = x.Write(encoded)
	return nil
}
