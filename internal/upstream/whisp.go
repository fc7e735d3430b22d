package upstream

import (
	"errors"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// ErrUnauthorized means that Whisp answered 401: the credentials, the refresh
// token or the JWT were refused. At sign-in a revoked API key can look just the
// same: [Whisp.ProbeKey] tells the two apart.
var ErrUnauthorized = errors.New("whisp refuses the credentials")

// InvalidError means that Whisp answered 400: a field is malformed, or the user
// name or e-mail address is taken.
type InvalidError struct {
	// Message is what Whisp said, at most 200 bytes of it. It may quote user
	// data: never show it to a client, never branch on it.
	Message string
}

func (e *InvalidError) Error() string { return "whisp refuses the request as invalid" }

// Registration is a new account. FirstName and SurName may be empty.
type Registration struct {
	Username, Email, FirstName, SurName string
	Password                            secret.Text
}

// SignedIn is what a sign-in gives.
type SignedIn struct {
	UserID, Username, Email string
	JWT, RefreshToken       secret.Text
	// Expires is the JWT's exp, read without verification and not compared
	// with any clock.
	Expires time.Time
}

// User is whom a JWT belongs to.
type User struct{ ID, Username, Email string }
