package upstream

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

const (
	maxToken = 16 << 10
	// maxExpiry is the last second of the year 9999, the end of what RFC 3339 can write.
	maxExpiry = 253402300799
)

// bearer takes a token out of an Authorization value of Whisp: "Bearer x",
// "bearer x", or the bare token, which some versions send. It returns the empty
// secret for anything else.
func bearer(value string) secret.Text {
	value = strings.Trim(value, " \t")
	if scheme, rest, found := strings.Cut(value, " "); found {
		if !strings.EqualFold(scheme, "Bearer") {
			return secret.Text{}
		}
		value = strings.Trim(rest, " \t")
	}
	if len(value) > maxToken || !token68(value) {
		return secret.Text{}
	}
	return secret.New(value)
}

// token68 is the syntax of RFC 9110 section 11.2.
func token68(value string) bool {
	body := strings.TrimRight(value, "=")
	for i := range len(body) {
		c := body[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("-._~+/", c) >= 0:
		default:
			return false
		}
	}
	return body != ""
}

// readJWT returns sub (possibly empty) and exp of a JWT of Whisp.
//
// The signature is NOT checked: it is made with the vendor's secret. That is
// sound only because the token came from Whisp over a connection of ours. Nor
// is exp compared with a clock. An exp that is missing or beyond the year 9999
// is an error.
func readJWT(token secret.Text) (subject string, expires time.Time, err error) {
	var claims jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(token.Reveal(), &claims); err != nil {
		return "", time.Time{}, fmt.Errorf("read JWT: not a JSON Web Token") // err could quote it
	}
	if claims.ExpiresAt == nil {
		return "", time.Time{}, fmt.Errorf("read JWT: no exp")
	}
	if seconds := claims.ExpiresAt.Unix(); seconds <= 0 || seconds > maxExpiry || seconds == math.MinInt64 {
		return "", time.Time{}, fmt.Errorf("read JWT: exp out of range")
	}
	return claims.Subject, claims.ExpiresAt.Time, nil
}
