package whispsim

import (
	"encoding/base64"
	"fmt"
	"io"
	"strings"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// claims are Whisp's own: ROLE in capitals, username, sub (the UUID), iat, exp.
type claims struct {
	Role     []string `json:"ROLE"`
	Username string   `json:"username"`
	jwt.RegisteredClaims
}

// issueJWT signs a JWT for u. s.mu is held.
func (s *Server) issueJWT(u *user) string {
	now := s.cfg.Clock()
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, claims{
		Role:     []string{roleUser},
		Username: u.username,
		RegisteredClaims: jwt.RegisteredClaims{
			Subject:   u.id,
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(s.cfg.JWTLife)),
		},
	})
	signed, err := token.SignedString(s.jwtKey)
	if err != nil { // HS256 with a byte slice cannot fail
		panic(fmt.Sprintf("whispsim: sign JWT: %v", err))
	}
	return signed
}

// verifyJWT returns the subject. An expired one passes only if mayBeExpired,
// which is for the expiredJwt of a refresh. Whether the subject still exists is
// the caller's to check.
func (s *Server) verifyJWT(text string, mayBeExpired bool) (subject string, err error) {
	options := []jwt.ParserOption{jwt.WithValidMethods([]string{"HS256"})}
	if mayBeExpired {
		options = append(options, jwt.WithoutClaimsValidation())
	} else {
		options = append(options, jwt.WithExpirationRequired(), jwt.WithTimeFunc(s.cfg.Clock))
	}
	var c claims
	_, err = jwt.NewParser(options...).ParseWithClaims(text, &c, func(*jwt.Token) (any, error) { return s.jwtKey, nil })
	if err != nil {
		return "", fmt.Errorf("verify JWT: %w", err)
	}
	return c.Subject, nil
}

// authorization is the value of the Authorization response header.
func (s *Server) authorization(jwt string) string {
	if s.cfg.BareJWT {
		return jwt
	}
	return "Bearer " + jwt
}

// bearer takes the token out of an Authorization value (RFC 6750, section 2.1;
// the scheme is case-insensitive). A bare token is not accepted.
func bearer(value string) (token string, found bool) {
	scheme, token, found := strings.Cut(value, " ")
	token = strings.TrimSpace(token)
	if !found || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", false
	}
	return token, true
}

// newToken returns 256 random bits as text. s.mu is held.
func (s *Server) newToken() string {
	var bits [32]byte
	s.random(bits[:])
	return base64.RawURLEncoding.EncodeToString(bits[:])
}

// newID returns a random UUID. s.mu is held.
func (s *Server) newID() string {
	var id uuid.UUID
	s.random(id[:])
	id[6] = id[6]&0x0f | 0x40 // RFC 9562, section 5.4: version 4
	id[8] = id[8]&0x3f | 0x80
	return id.String()
}

// random fills p from the configured source, which the mutex protects.
func (s *Server) random(p []byte) {
	if _, err := io.ReadFull(s.cfg.Rand, p); err != nil {
		panic(fmt.Sprintf("whispsim: read randomness: %v", err))
	}
}
