package identity

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"
)

// maxPayload bounds payload_header, in bytes of base64.
const maxPayload = 32 << 10

// readPayload reads the payload of a JWT that the proxy has verified: sub, exp
// and claims. Its signature is not here to be checked: the peer's secret vouches.
// An iss, if there, must be the configured one, so that a proxy that accepts
// two providers cannot mix up their people; an exp must not be over.
func (f *Forwarded) readPayload(header http.Header) (Answer, error) {
	values := header[f.names.payload]
	if len(values) != 1 {
		return Answer{}, fmt.Errorf("%s is there %d times", f.names.payload, len(values))
	}
	claims, err := decodePayload(values[0])
	if err != nil {
		return Answer{}, fmt.Errorf("%s %w", f.names.payload, err)
	}
	subject, isText := claims["sub"].(string)
	if !isText {
		return Answer{}, fmt.Errorf("%s has no sub", f.names.payload)
	}
	if err := validSubject(subject); err != nil {
		return Answer{}, fmt.Errorf("%s: sub %w", f.names.payload, err)
	}
	if issuer, given := claims["iss"]; given && issuer != any(f.cfg.Issuer) {
		return Answer{}, fmt.Errorf("%s: iss is not the configured issuer", f.names.payload)
	}
	var expires time.Time
	if exp, given := claims["exp"]; given {
		if expires, err = epoch(exp); err != nil {
			return Answer{}, fmt.Errorf("%s: exp %w", f.names.payload, err)
		}
		if !f.deps.Clock().Before(expires) {
			return Answer{}, fmt.Errorf("%s has expired", f.names.payload)
		}
	}
	maps.DeleteFunc(claims, func(name string, _ any) bool { return slices.Contains(protocolClaims, name) })
	return Answer{Identity: named(f.cfg.Issuer, subject, claims), Expires: expires}, nil
}

// decodePayload reads base64 of either alphabet, padded or not.
func decodePayload(value string) (map[string]any, error) {
	if len(value) > maxPayload {
		return nil, fmt.Errorf("is longer than %d bytes", maxPayload)
	}
	value = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(value, "="))
	decoded, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		return nil, errors.New("is not base64")
	}
	document, err := decodeJSON(decoded)
	if err != nil {
		return nil, err
	}
	claims, ok := document.(map[string]any)
	if !ok {
		return nil, errors.New("is no JSON object")
	}
	return claims, nil
}

// decodeJSON decodes exactly one value. Numbers become json.Number, so that a
// long employee number survives.
func decodeJSON(text []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var document any
	if err := decoder.Decode(&document); err != nil {
		return nil, errors.New("is not JSON")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("has something after its JSON")
	}
	return document, nil
}

// epoch reads a NumericDate (RFC 7519 section 2).
func epoch(value any) (time.Time, error) {
	number, ok := value.(json.Number)
	if !ok {
		return time.Time{}, errors.New("is no number")
	}
	seconds, err := number.Float64()
	if err != nil || !(seconds > 0 && seconds < 1<<40) { // written so that NaN fails
		return time.Time{}, errors.New("is no time")
	}
	return time.Unix(int64(math.Floor(seconds)), 0), nil
}
