package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
)

const (
	operationRegister = "registerUser"
	operationSignIn   = "signIn"
	operationUser     = "getUser"
	operationProbe    = "probeKey"

	pathRegister = "/api/user/registerUser"
	pathSignIn   = "/api/user/signin"
)

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

// The bodies of openapi.json that hold secrets in clear, for encoding only.
type (
	registerBody struct {
		Username  string `json:"username"`
		FirstName string `json:"firstName,omitempty"`
		SurName   string `json:"surName,omitempty"`
		Email     string `json:"email"`
		Password  string `json:"password"`
	}
	signInBody struct {
		Username string `json:"username"`
		Password string `json:"password"`
	}
	refreshBody struct {
		ExpiredJWT string `json:"expiredJwt"`
	}
	renameBody struct {
		NewUsername string `json:"newUsername"`
	}
	logoutBody struct {
		RefreshToken string `json:"refreshToken"`
	}
	userBody struct {
		ID           string `json:"id"`
		Username     string `json:"username"`
		Email        string `json:"email"`
		RefreshToken string `json:"refreshToken"`
	}
)

// Register creates an account. [*InvalidError] means a malformed field or a name
// or e-mail that is taken. When the error is WhispTimeout, WhispUnreachable or
// WhispFailed the account may exist nevertheless: see surelyNotProcessed. With
// [ErrKeyChanged] nothing was registered, and a 401 at sign-in before it may
// have been about the key: look for the account again. A 403 although the key
// is good is WhispRateLimited.
func (w *Whisp) Register(ctx context.Context, r Registration) error {
	a, err := w.do(ctx, ours{
		operation: operationRegister, method: http.MethodPost, path: pathRegister,
		keyed: true, repeat: surelyNotProcessed, headerOnly: true,
		body: registerBody{r.Username, r.FirstName, r.SurName, r.Email, r.Password.Reveal()},
	})
	if err != nil {
		return err
	}
	if a.status == http.StatusCreated || a.status == http.StatusOK {
		return nil
	}
	return refusal(operationRegister, a)
}

// SignIn returns a new grant. [ErrUnauthorized] means a wrong name or password,
// or, with only one API key, that it was revoked (see [Whisp.ProbeKey]). An answer without a readable JWT
// and refresh token, or whose user id is not the JWT's sub, is WhispBadAnswer.
func (w *Whisp) SignIn(ctx context.Context, username string, password secret.Text) (SignedIn, error) {
	a, err := w.do(ctx, ours{
		operation: operationSignIn, method: http.MethodPost, path: pathSignIn,
		keyed: true, repeat: always,
		body: signInBody{username, password.Reveal()},
	})
	if err != nil {
		return SignedIn{}, err
	}
	if a.status != http.StatusOK {
		return SignedIn{}, refusal(operationSignIn, a)
	}
	in, err := readSignedIn(a)
	if err != nil {
		return SignedIn{}, w.bad(operationSignIn, err)
	}
	return in, nil
}

func readSignedIn(a answer) (SignedIn, error) {
	var body userBody
	if err := json.Unmarshal(a.body, &body); err != nil {
		return SignedIn{}, errors.New("body is not the documented JSON")
	}
	token := bearer(a.header.Get("Authorization"))
	if token.Empty() {
		return SignedIn{}, errors.New("no JWT in the Authorization header")
	}
	subject, expires, err := readJWT(token)
	switch {
	case err != nil:
		return SignedIn{}, err
	case body.RefreshToken == "" || len(body.RefreshToken) > maxToken || !token68(body.RefreshToken):
		return SignedIn{}, errors.New("no usable refreshToken")
	case body.ID != "" && subject != "" && !strings.EqualFold(body.ID, subject):
		return SignedIn{}, errors.New("id and the JWT's sub differ")
	case body.ID == "":
		body.ID = subject
	}
	if body.ID == "" {
		return SignedIn{}, errors.New("neither id nor sub")
	}
	return SignedIn{
		UserID: body.ID, Username: body.Username, Email: body.Email,
		JWT: token, RefreshToken: secret.New(body.RefreshToken), Expires: expires,
	}, nil
}

// Refresh returns a new JWT for the refresh token, which stays valid.
// [ErrUnauthorized] means that the refresh token is dead.
func (w *Whisp) Refresh(ctx context.Context, refreshToken, expiredJWT secret.Text) (jwt secret.Text, expires time.Time, err error) {
	a, err := w.do(ctx, ours{
		operation: OperationRefresh, method: http.MethodPost, path: "/api/auth/refresh",
		bearer: refreshToken, repeat: always, headerOnly: true,
		body: refreshBody{expiredJWT.Reveal()},
	})
	if err != nil {
		return secret.Text{}, time.Time{}, err
	}
	return w.newJWT(OperationRefresh, a)
}

// User asks whom a JWT belongs to.
func (w *Whisp) User(ctx context.Context, jwt secret.Text) (User, error) {
	a, err := w.do(ctx, ours{
		operation: operationUser, method: http.MethodGet, path: "/api/user/getUser",
		bearer: jwt, repeat: always,
	})
	if err != nil {
		return User{}, err
	}
	if a.status != http.StatusOK {
		return User{}, refusal(operationUser, a)
	}
	var body userBody
	if err := json.Unmarshal(a.body, &body); err != nil || body.ID == "" || body.Username == "" {
		return User{}, w.bad(operationUser, errors.New("body is not the documented JSON"))
	}
	return User{ID: body.ID, Username: body.Username, Email: body.Email}, nil
}

// Logout ends one refresh token. [ErrUnauthorized] means that the JWT was
// refused: refresh it and try again.
func (w *Whisp) Logout(ctx context.Context, jwt, refreshToken secret.Text) error {
	a, err := w.do(ctx, ours{
		operation: OperationLogout, method: http.MethodPost, path: "/api/auth/logout",
		bearer: jwt, repeat: always, headerOnly: true,
		body: logoutBody{refreshToken.Reveal()},
	})
	if err != nil {
		return err
	}
	if a.status == http.StatusOK || a.status == http.StatusNoContent {
		return nil
	}
	return refusal(OperationLogout, a)
}

// ChangeUsername renames the account that a JWT belongs to, and returns the JWT
// that takes its place. From then on sign-in works only with the new name.
//
// [*InvalidError] means a malformed name or one that is taken (the account's own
// included), [ErrUnauthorized] that the JWT was refused: refresh it and try
// again. Both mean that nothing changed. After WhispTimeout, WhispUnreachable,
// WhispFailed or WhispBadAnswer the name may have changed nevertheless, as after
// context.Canceled: [Whisp.User] tells. Like Register it
// is repeated only where it surely was not processed, since a repetition after
// a success would be told that the name is taken.
func (w *Whisp) ChangeUsername(ctx context.Context, jwt secret.Text, newUsername string) (newJWT secret.Text, expires time.Time, err error) {
	a, err := w.do(ctx, ours{
		operation: OperationChangeUsername, method: http.MethodPost, path: "/api/user/changeUsername",
		bearer: jwt, repeat: surelyNotProcessed, headerOnly: true,
		body: renameBody{newUsername},
	})
	if err != nil {
		return secret.Text{}, time.Time{}, err
	}
	return w.newJWT(OperationChangeUsername, a)
}

// newJWT reads the JWT that an answer carries in its Authorization header.
func (w *Whisp) newJWT(operation string, a answer) (secret.Text, time.Time, error) {
	if a.status != http.StatusOK {
		return secret.Text{}, time.Time{}, refusal(operation, a)
	}
	token := bearer(a.header.Get("Authorization"))
	if token.Empty() {
		return secret.Text{}, time.Time{}, w.bad(operation, errors.New("no JWT in the Authorization header"))
	}
	_, expires, err := readJWT(token)
	if err != nil {
		return secret.Text{}, time.Time{}, w.bad(operation, err)
	}
	return token, expires, nil
}

// refusal is the error for an answer that is neither success nor 429 nor 5xx.
func refusal(operation string, a answer) error {
	switch a.status {
	case http.StatusUnauthorized:
		return fmt.Errorf("%s: %w", operation, ErrUnauthorized)
	case http.StatusBadRequest:
		var body struct {
			Message string `json:"message"`
		}
		_ = json.Unmarshal(a.body, &body) // without a message it is still a 400
		if len(body.Message) > 200 {
			body.Message = strings.ToValidUTF8(body.Message[:200], "")
		}
		return fmt.Errorf("%s: %w", operation, &InvalidError{Message: body.Message})
	default:
		return fmt.Errorf("%s: %w", operation, problem.WhispBadAnswer().Because(fmt.Errorf("status %d", a.status)))
	}
}

// bad is the error for a success that cannot be used.
func (w *Whisp) bad(operation string, cause error) error {
	w.metrics.calls.WithLabelValues("client", operation, "bad_answer").Inc()
	return fmt.Errorf("%s: %w", operation, problem.WhispBadAnswer().Because(cause))
}
