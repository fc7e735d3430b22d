package identity

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
)

// otherPurposes are typ values of JWTs that say nothing about who sends a
// request, though their signature and iss may be fine (RFC 8725 section 3.11).
var otherPurposes = []string{"logout+jwt", "secevent+jwt", "dpop+jwt", "token-introspection+jwt", "kb+jwt", "oauth-authz-req+jwt", "client-authentication+jwt"}

// checkHeader is everything the header can be refused for before a signature
// costs time. jku, jwk, x5u and x5c are not looked at.
func (t *trusted) checkHeader(header map[string]json.RawMessage) (alg, kid string, err error) {
	alg, err = textMember(header, "alg")
	if err != nil {
		return "", "", err
	}
	typ, err := textMember(header, "typ")
	if err != nil {
		return "", "", err
	}
	if kid, err = textMember(header, "kid"); err != nil {
		return "", "", err
	}
	typ = strings.TrimPrefix(strings.ToLower(typ), "application/")
	_, critical := header["crit"]
	_, compressed := header["zip"]
	switch {
	case !slices.Contains(t.cfg.Algorithms, alg):
		return "", "", errors.New("alg is not one of those configured")
	case critical:
		return "", "", errors.New("crit asks for something we do not know")
	case compressed:
		return "", "", errors.New("zip is not for signed tokens")
	case len(kid) > maxKeyID || !plain(kid):
		return "", "", errors.New("kid is too long, or not text")
	case len(t.types) > 0 && !slices.Contains(t.types, typ):
		return "", "", errors.New("typ is not one of those configured")
	case len(t.types) == 0 && slices.Contains(otherPurposes, typ):
		return "", "", errors.New("typ is of a token for another purpose")
	}
	return alg, kid, nil
}

// checkClaims holds a verified payload against the configuration and the clock.
// It returns subject and end.
func (t *trusted) checkClaims(claims map[string]json.RawMessage) (subject string, expires time.Time, err error) {
	subject, err = textMember(claims, "sub")
	if err != nil {
		return "", time.Time{}, err
	}
	_, event := claims["events"]
	_, bound := claims["cnf"]
	switch {
	case validSubject(subject) != nil:
		return "", time.Time{}, errors.New("sub is missing, too long or not text")
	case event:
		return "", time.Time{}, errors.New("events makes it a security event or logout token")
	case bound:
		return "", time.Time{}, errors.New("cnf binds it to a key of the client, which is not checked here")
	}
	if err := t.checkAudience(claims); err != nil {
		return "", time.Time{}, err
	}
	if expires, err = t.checkTimes(claims); err != nil {
		return "", time.Time{}, err
	}
	return subject, expires, checkRequired(t.cfg.RequiredClaims, claims)
}

// checkAudience wants one of ours in aud. Where others stand beside it, azp must
// say that the token was made for a client of ours (OpenID Connect Core 1.0
// section 3.1.3.7, points 3 to 5).
func (t *trusted) checkAudience(claims map[string]json.RawMessage) error {
	party, err := textMember(claims, "azp")
	if err != nil {
		return err
	}
	if len(t.cfg.AuthorizedParties) > 0 && !slices.Contains(t.cfg.AuthorizedParties, party) {
		return errors.New("azp is not one of those configured")
	}
	if t.cfg.AnyAudience || t.alb != nil { // the load balancer's client has been checked
		return nil
	}
	audience, err := textOrList(claims["aud"])
	if err != nil {
		return errors.New("aud is no text or list of texts")
	}
	ours, others := false, false
	for _, one := range audience {
		if slices.Contains(t.cfg.Audience, one) {
			ours = true
		} else {
			others = true
		}
	}
	switch {
	case !ours:
		return errors.New("aud is missing, or none of those configured")
	case others && len(t.cfg.AuthorizedParties) == 0 && !slices.Contains(t.cfg.Audience, party):
		return errors.New("aud has others beside ours, and azp is none of those configured")
	}
	return nil
}

func textOrList(raw json.RawMessage) ([]string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}, nil
	}
	var list []string
	err := json.Unmarshal(raw, &list)
	return list, err
}

func (t *trusted) checkTimes(claims map[string]json.RawMessage) (expires time.Time, err error) {
	now, leeway := t.clock(), t.cfg.ClockLeeway.D()
	expires, ends, err := TimeClaim(claims, "exp")
	if err != nil {
		return time.Time{}, err
	}
	notBefore, hasNotBefore, err := TimeClaim(claims, "nbf")
	if err != nil {
		return time.Time{}, err
	}
	issued, hasIssued, err := TimeClaim(claims, "iat")
	if err != nil {
		return time.Time{}, err
	}
	switch {
	case !ends && !t.cfg.ExpOptional:
		return time.Time{}, errors.New("exp is missing")
	case ends && !now.Add(-leeway).Before(expires):
		return time.Time{}, errors.New("exp is past")
	case hasNotBefore && notBefore.After(now.Add(leeway)):
		return time.Time{}, errors.New("nbf is in the future")
	case hasIssued && issued.After(now.Add(leeway)):
		return time.Time{}, errors.New("iat is in the future")
	case t.cfg.MaxAge > 0 && (!hasIssued || now.Sub(issued) > t.cfg.MaxAge.D()+leeway):
		return time.Time{}, errors.New("iat is missing, or longer ago than max_age")
	}
	if t.cfg.MaxAge > 0 {
		if oldest := issued.Add(t.cfg.MaxAge.D()); !ends || oldest.Before(expires) {
			expires = oldest
		}
	}
	return expires, nil
}

// checkRequired wants every rule to hold. Texts are compared to the letter.
func checkRequired(rules []RequiredClaim, claims map[string]json.RawMessage) error {
	for _, rule := range rules {
		value, ok := lookUp(claims, rule.Claim)
		if !ok || !rule.holds(value) {
			return errors.New("required claim " + rule.Claim + " is missing or another")
		}
	}
	return nil
}

// lookUp finds a claim by its name, else by its path.
func lookUp(claims map[string]json.RawMessage, name string) (any, bool) {
	if raw, ok := claims[name]; ok {
		value, err := decodeJSON(raw)
		return value, err == nil
	}
	path, err := parseClaimPath(name)
	if err != nil || path[0].index >= 0 {
		return nil, false
	}
	raw, ok := claims[path[0].name]
	if !ok {
		return nil, false
	}
	value, err := decodeJSON(raw)
	if err != nil {
		return nil, false
	}
	return path[1:].find(value)
}

func (c RequiredClaim) holds(value any) bool {
	if c.Equals != "" {
		text, ok := scalarText(value)
		return ok && text == c.Equals
	}
	switch value := value.(type) {
	case string:
		return slices.Contains(strings.Fields(value), c.Contains)
	case []any:
		return slices.ContainsFunc(value, func(one any) bool {
			text, ok := scalarText(one)
			return ok && text == c.Contains
		})
	}
	return false
}

func scalarText(value any) (string, bool) {
	switch value := value.(type) {
	case string:
		return value, true
	case json.Number:
		return value.String(), true
	case bool:
		if value {
			return "true", true
		}
		return "false", true
	}
	return "", false
}
