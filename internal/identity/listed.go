package identity

import (
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxIssuer bounds an issuer in bytes; RFC 3986 sets no limit, servers do.
const maxIssuer = 2048

// FieldError says what is wrong with an identity that somebody wrote down. It
// does not quote the value.
type FieldError struct {
	// Field is issuer, subject or claims.
	Field string
	// Problem in a few words, to follow the field's name.
	Problem string
}

func (e *FieldError) Error() string { return e.Field + " " + e.Problem }

// Listed returns an identity that an administrator wrote down, as a login would
// have: claims are bounded and decoded by [DecodeClaims], which changes them.
// Whether issuer and subject are anybody's is not checked, and cannot be: they
// must be exactly what the provider's tokens say, a trailing slash included.
//
// The error is a [*FieldError]. dropped names claims that were too large.
func Listed(issuer, subject string, claims map[string]json.RawMessage) (id Identity, dropped []string, err error) {
	switch {
	case issuer == "":
		return Identity{}, nil, &FieldError{"issuer", "is empty"}
	case len(issuer) > maxIssuer || !utf8.ValidString(issuer) || strings.ContainsFunc(issuer, unicode.IsControl):
		return Identity{}, nil, &FieldError{"issuer", "is longer than 2048 bytes or has characters that no issuer has"}
	case subject == "":
		return Identity{}, nil, &FieldError{"subject", "is empty"}
	case !ValidSubject(subject):
		return Identity{}, nil, &FieldError{"subject", "is longer than 255 bytes or has control characters"}
	}
	decoded, dropped, err := DecodeClaims(claims)
	if err != nil {
		return Identity{}, nil, &FieldError{"claims", "cannot be read"}
	}
	return Identity{Issuer: issuer, Subject: subject, Claims: decoded}.Keyed(), dropped, nil
}
