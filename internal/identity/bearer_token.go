package identity

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

const (
	// maxToken bounds a token, in bytes; nothing longer is looked into.
	maxToken = 16 << 10
	// maxDepth is how deep objects and arrays of a token may be nested.
	maxDepth = 32
	// maxKeyID bounds a kid, in bytes.
	maxKeyID = 256
)

// errOpaque: not a JOSE object at all, so nothing that bearer could read.
var errOpaque = errors.New("token is no JWT")

// signedToken is a JWT in JWS Compact Serialization (RFC 7519, RFC 7515 section
// 7.1), taken apart and not verified.
type signedToken struct {
	header, claims map[string]json.RawMessage
	signed         string // header and payload as they were signed
	signature      []byte
}

// parseToken takes a token apart. It returns errOpaque for what is no JOSE
// object; other errors are for what is one, and cannot be accepted by
// anybody here. They quote nothing of the token. padded accepts the
// base64url padding that AWS load balancers write.
func parseToken(raw string, padded bool) (signedToken, error) {
	if len(raw) > maxToken {
		return signedToken{}, errors.New("token is longer than 16 KiB")
	}
	parts := strings.SplitN(raw, ".", 6)
	header, err := part(parts[0], padded)
	if err != nil || (len(parts) != 3 && len(parts) != 5) {
		return signedToken{}, errOpaque
	}
	if _, ok := header["alg"]; !ok {
		return signedToken{}, errOpaque
	}
	if len(parts) == 5 {
		return signedToken{}, errors.New("token is encrypted (JWE)")
	}
	t := signedToken{header: header, signed: raw[:len(parts[0])+1+len(parts[1])]}
	if t.claims, err = part(parts[1], padded); err != nil {
		return signedToken{}, errors.New("token has no JSON object as its payload, or one too deep, or a claim twice")
	}
	if t.signature, err = decodeBase64(parts[2], padded); err != nil {
		return signedToken{}, errors.New("token has a signature that is no base64url")
	}
	return t, nil
}

func part(text string, padded bool) (map[string]json.RawMessage, error) {
	decoded, err := decodeBase64(text, padded)
	if err != nil {
		return nil, err
	}
	return flatObject(decoded)
}

func decodeBase64(text string, padded bool) ([]byte, error) {
	if padded {
		text = strings.TrimRight(text, "=")
	}
	return base64.RawURLEncoding.Strict().DecodeString(text)
}

// flatObject reads one JSON object, member names to the letter (encoding/json
// would take ISS for iss), none twice, nothing after it and nothing too deep.
func flatObject(document []byte) (map[string]json.RawMessage, error) {
	if tooDeep(document) || !utf8.Valid(document) { // decoding would fold bad bytes into one
		return nil, errors.New("JSON is nested too deeply, or no UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(document))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	members := map[string]json.RawMessage{}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, errors.New("not a JSON object")
		}
		text, ok := name.(string)
		if !ok {
			return nil, errors.New("not a JSON object")
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, errors.New("not a JSON object")
		}
		if _, twice := members[text]; twice {
			return nil, errors.New("a member stands twice")
		}
		members[text] = value
	}
	if _, err := decoder.Token(); err != nil {
		return nil, errors.New("not a JSON object")
	}
	if len(bytes.TrimSpace(document[decoder.InputOffset():])) > 0 {
		return nil, errors.New("something follows the JSON object")
	}
	return members, nil
}

// tooDeep counts brackets outside of strings.
func tooDeep(document []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(document); i++ {
		switch c := document[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// textMember reads a member that must be a text if it is there.
func textMember(members map[string]json.RawMessage, name string) (text string, err error) {
	raw, ok := members[name]
	if !ok || string(raw) == "null" {
		return "", nil
	}
	if json.Unmarshal(raw, &text) != nil {
		return "", errors.New(name + " is no text")
	}
	return text, nil
}

// issuer is the unverified iss, for routing; empty if there is none.
func (t signedToken) issuer() string {
	issuer, err := textMember(t.claims, "iss")
	if err != nil {
		return ""
	}
	return issuer
}
