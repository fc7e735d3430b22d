package whispsim

import (
	"fmt"
	"slices"
	"strings"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// User is an account as tests see it.
type User struct {
	ID        string `json:"id"`
	Username  string `json:"username"`
	Email     string `json:"email"`
	FirstName string `json:"firstName"`
	SurName   string `json:"surName"`
	Sockets   int    `json:"sockets"`       // STOMP connections
	Refresh   int    `json:"refreshTokens"` // refresh tokens alive
}

// Users returns all accounts, by username.
func (s *Server) Users() []User {
	s.mu.Lock()
	defer s.mu.Unlock()
	alive := map[*user]int{}
	for _, token := range s.people.refresh {
		if s.cfg.Clock().Before(token.expires) {
			alive[token.user]++
		}
	}
	list := make([]User, 0, len(s.people.byID))
	for _, u := range s.people.byID {
		list = append(list, User{u.id, u.username, u.email, u.firstName, u.surName, len(u.sockets), alive[u]})
	}
	slices.SortFunc(list, func(a, b User) int { return strings.Compare(a.Username, b.Username) })
	return list
}

// AddUser makes an account and returns its UUID. It panics if registerUser
// would refuse it; see [Server.TryAddUser].
func (s *Server) AddUser(username, email string, password secret.Text) string {
	id, err := s.TryAddUser(username, email, password)
	if err != nil {
		panic("whispsim: AddUser: " + err.Error())
	}
	return id
}

// TryAddUser is AddUser for names and passwords that come from people.
func (s *Server) TryAddUser(username, email string, password secret.Text) (id string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, fault := s.register(registration{username: username, email: email, password: password})
	if fault != "" {
		return "", fmt.Errorf("user %q: %s", username, fault)
	}
	return u.id, nil
}

// RefreshTokenAlive reports whether a refresh would accept the token.
func (s *Server) RefreshTokenAlive(token secret.Text) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, there := s.people.refresh[token.Reveal()]
	return there && s.cfg.Clock().Before(found.expires)
}

// RevokeKey makes an API key stop working at once.
func (s *Server) RevokeKey(key secret.Text) { s.setKey(key, false) }

// RestoreKey makes an API key work, be it a revoked or a new one.
func (s *Server) RestoreKey(key secret.Text) { s.setKey(key, true) }

func (s *Server) setKey(key secret.Text, good bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[keyHash(key)] = good
}

// OpenSockets returns the number of sockets, plain and SockJS, from handshake
// to close.
func (s *Server) OpenSockets() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sockets)
}

// CloseSockets closes every socket with a WebSocket close code (RFC 6455,
// section 7.4), or cuts it without a close frame for code 0. SockJS sessions
// get the code in their close frame. It does not wait for them to be closed.
func (s *Server) CloseSockets(code int, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for socket := range s.sockets {
		if code == 0 {
			socket.cut()
		} else {
			socket.close(code, reason)
		}
	}
}
