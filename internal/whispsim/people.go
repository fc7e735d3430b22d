package whispsim

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/mail"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

const roleUser = "USER"

// user is an account. Guarded by Server.mu.
type user struct {
	id, username, email, firstName, surName string

	salt   [16]byte
	digest [sha256.Size]byte

	chats   map[string]*chat
	sockets map[*stompSession]struct{}
}

// refreshToken is one sign-in that can be renewed.
type refreshToken struct {
	user    *user
	expires time.Time
}

// people is every account and refresh token. Guarded by Server.mu; an account
// is in byID exactly if it is in byName.
type people struct {
	byID    map[string]*user
	byName  map[string]*user
	refresh map[string]refreshToken
}

func newPeople() people {
	return people{byID: map[string]*user{}, byName: map[string]*user{}, refresh: map[string]refreshToken{}}
}

// registration is what registerUser takes.
type registration struct {
	username, email, firstName, surName string
	password                            secret.Text
}

// register adds an account, or says what is wrong with it.
func (s *Server) register(reg registration) (u *user, fault string) {
	if fault := usernameFault(reg.username); fault != "" {
		return nil, fault
	}
	if address, err := mail.ParseAddress(reg.email); err != nil || address.Address != reg.email {
		return nil, "email: must be a well-formed email address"
	}
	if fault := passwordFault(reg.password, s.cfg.LaxPasswords); fault != "" {
		return nil, fault
	}
	if s.people.byName[reg.username] != nil {
		return nil, "Username already exists"
	}
	if s.cfg.UniqueEmail && s.people.hasEmail(reg.email) {
		return nil, "Email already exists"
	}
	u = &user{
		id: s.newID(), username: reg.username, email: reg.email, firstName: reg.firstName, surName: reg.surName,
		chats: map[string]*chat{}, sockets: map[*stompSession]struct{}{},
	}
	s.random(u.salt[:])
	u.digest = u.hash(reg.password)
	s.people.byID[u.id], s.people.byName[u.username] = u, u
	return u, ""
}

// hash is one cheap round: a simulator has nothing to protect, and a benchmark
// must not measure bcrypt.
func (u *user) hash(password secret.Text) [sha256.Size]byte {
	return sha256.Sum256(append(u.salt[:], password.Reveal()...))
}

func (u *user) hasPassword(password secret.Text) bool {
	digest := u.hash(password)
	return subtle.ConstantTimeCompare(digest[:], u.digest[:]) == 1
}

func (p people) hasEmail(email string) bool {
	for _, u := range p.byID {
		if strings.EqualFold(u.email, email) {
			return true
		}
	}
	return false
}

// endRefreshTokens ends all of u's.
func (p people) endRefreshTokens(u *user) {
	for token, owner := range p.refresh {
		if owner.user == u {
			delete(p.refresh, token)
		}
	}
}

// usernameFault checks the documented limits, 3..50 characters, and that a
// person can tell the name from another: no control characters, no white space
// at either end (assumed).
func usernameFault(name string) string {
	if n := utf8.RuneCountInString(name); n < 3 || n > 50 {
		return "username: size must be between 3 and 50"
	}
	if strings.TrimSpace(name) != name || strings.ContainsFunc(name, unicode.IsControl) {
		return "username: has an incorrect format"
	}
	return ""
}

// passwordFault checks Config.LaxPasswords' policy.
func passwordFault(password secret.Text, lax bool) string {
	text := password.Reveal()
	if len(text) < 8 {
		return "password: size must be at least 8"
	}
	if lax {
		return ""
	}
	if len(text) > 72 {
		return "password: size must be at most 72 bytes"
	}
	var lower, upper, digit, special bool
	for _, r := range text {
		switch {
		case unicode.IsLower(r):
			lower = true
		case unicode.IsUpper(r):
			upper = true
		case unicode.IsDigit(r):
			digit = true
		default:
			special = true
		}
	}
	if !lower || !upper || !digit || !special {
		return "password: must contain a lower case letter, an upper case letter, a digit and a special character"
	}
	return ""
}
