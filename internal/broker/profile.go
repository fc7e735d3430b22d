package broker

import (
	"fmt"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf16"

	"golang.org/x/text/unicode/norm"

	"github.com/whisp-bff/whisp-bff/internal/claimtext"
	"github.com/whisp-bff/whisp-bff/internal/identity"
)

const (
	minUsername = 3
	maxUsername = 50 // UTF-16 code units, which is how a Java service counts
	maxName     = 50
	// suffixLength is 40 bits: enough that two people of one name never meet,
	// short enough to read.
	suffixLength = 8
)

// Profile is an identity as an account: what registerUser gets.
type Profile struct {
	// Usernames in order of preference, at least one. All are derived from the
	// identity alone.
	Usernames []string
	// Email as mapped; FallbackEmail is unique to the identity.
	Email, FallbackEmail string
	FirstName, SurName   string
}

// Mapping turns claims into profiles.
type Mapping struct {
	username, email, firstName, surName []*claimtext.Template
	emailDomain                         string
	onConflict                          OnConflict
}

// NewMapping parses the templates of cfg.
func NewMapping(cfg AccountConfig) (*Mapping, error) {
	m := &Mapping{emailDomain: cfg.EmailDomain, onConflict: cfg.OnConflict}
	for _, part := range []struct {
		name  string
		texts []string
		into  *[]*claimtext.Template
	}{
		{"username", cfg.Username, &m.username},
		{"email", cfg.Email, &m.email},
		{"first_name", cfg.FirstName, &m.firstName},
		{"sur_name", cfg.SurName, &m.surName},
	} {
		for _, text := range part.texts {
			parsed, err := claimtext.Parse(part.name, text)
			if err != nil {
				return nil, fmt.Errorf("account.%s: %w", part.name, err)
			}
			*part.into = append(*part.into, parsed)
		}
	}
	return m, nil
}

// Profile maps an identity. It always succeeds: what claims do not give is
// derived from issuer and subject.
func (m *Mapping) Profile(id identity.Identity) Profile {
	claims := make(map[string]any, len(id.Claims)+2)
	for name, value := range id.Claims {
		claims[name] = value
	}
	claims["iss"], claims["sub"] = id.Issuer, id.Subject

	hash := shortHash(id, suffixLength)
	p := Profile{
		FallbackEmail: shortHash(id, 26) + "@" + m.emailDomain,
		FirstName:     first(m.firstName, claims, func(s string) string { return truncate(cleanText(s), maxName) }),
		SurName:       first(m.surName, claims, func(s string) string { return truncate(cleanText(s), maxName) }),
	}
	p.Email = p.FallbackEmail
	// OpenID Connect Core 1.0 section 5.1: false means that nobody checked
	// whose address it is.
	if claims["email_verified"] != false {
		if address := first(m.email, claims, cleanEmail); address != "" {
			p.Email = address
		}
	}
	name := first(m.username, claims, cleanUsername)
	if name == "" {
		p.Usernames = []string{"user-" + hash}
		return p
	}
	p.Usernames = []string{name}
	if m.onConflict == Suffix {
		p.Usernames = append(p.Usernames, truncate(name, maxUsername-1-suffixLength)+"-"+hash)
	}
	return p
}

// first returns the first template's output that is not empty after cleaning.
func first(chain []*claimtext.Template, claims map[string]any, clean func(string) string) string {
	for _, t := range chain {
		text, err := t.Fill(claims)
		if err != nil {
			continue // a missing claim, or one of another type
		}
		if cleaned := clean(text); cleaned != "" {
			return cleaned
		}
	}
	return ""
}

// cleanUsername keeps what people can read and type: letters, digits, marks and
// . _ - @ +; white space becomes a dash. Control characters, bidirectional
// overrides, emoji and template braces go. Empty if fewer than three
// characters remain.
func cleanUsername(s string) string {
	var b strings.Builder
	dash := false
	for _, r := range norm.NFKC.String(s) {
		switch {
		case unicode.IsSpace(r):
			dash = b.Len() > 0
		case unicode.IsLetter(r), unicode.IsDigit(r), unicode.IsMark(r), strings.ContainsRune("._-@+", r):
			if dash {
				b.WriteByte('-')
				dash = false
			}
			b.WriteRune(r)
		}
	}
	name := truncate(b.String(), maxUsername)
	if utf16Length(name) < minUsername {
		return ""
	}
	return name
}

// cleanText keeps printable text on one line.
func cleanText(s string) string {
	kept := strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, norm.NFC.String(s))
	return strings.Join(strings.Fields(kept), " ")
}

func cleanEmail(s string) string {
	s = strings.TrimSpace(s)
	if !validAddress(s) {
		return ""
	}
	return s
}

// validAddress accepts a bare addr-spec (RFC 5322 section 3.4.1) of at most 254
// bytes (RFC 5321 section 4.5.3.1.3) with one @ and no quoting.
func validAddress(s string) bool {
	if len(s) > 254 || strings.Count(s, "@") != 1 || strings.ContainsAny(s, "\"<>()[]\\,;: \t\r\n") {
		return false
	}
	parsed, err := mail.ParseAddress(s)
	return err == nil && parsed.Address == s && parsed.Name == ""
}

// truncate shortens to at most limit UTF-16 code units, never inside a
// character, and leaves no mark or separator dangling.
func truncate(s string, limit int) string {
	length := 0
	for i, r := range s {
		length += utf16.RuneLen(r)
		if length > limit {
			return strings.TrimRight(s[:i], "-._ ")
		}
	}
	return s
}

func utf16Length(s string) int {
	length := 0
	for _, r := range s {
		length += utf16.RuneLen(r)
	}
	return length
}
