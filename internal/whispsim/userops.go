package whispsim

import (
	"net/http"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// signedIn is openapi's SignInResponse.
type signedIn struct {
	ID           string   `json:"id"`
	Username     string   `json:"username"`
	Email        string   `json:"email"`
	RefreshToken string   `json:"refreshToken"`
	Roles        []string `json:"roles"`
}

// userInfo is openapi's UserInfo: role, where signin says roles.
type userInfo struct {
	ID       string   `json:"id"`
	Username string   `json:"username"`
	Email    string   `json:"email"`
	Role     []string `json:"role"`
}

func registerUser(s *Server, c *call) answer {
	var reg registration
	var err error
	if reg.username, err = c.fields.need("username"); err != nil {
		return invalid(err.Error())
	}
	if reg.email, err = c.fields.need("email"); err != nil {
		return invalid(err.Error())
	}
	password, err := c.fields.need("password")
	if err != nil {
		return invalid(err.Error())
	}
	reg.password = secret.New(password)
	if reg.firstName, _, err = c.fields.text("firstName"); err != nil {
		return invalid(err.Error())
	}
	if reg.surName, _, err = c.fields.text("surName"); err != nil {
		return invalid(err.Error())
	}
	if s.cfg.MaxUsers > 0 && len(s.people.byID) >= s.cfg.MaxUsers {
		return answer{status: s.cfg.MaxUsersStatus, body: message{"User limit of the plan reached"}}
	}
	if _, fault := s.register(reg); fault != "" {
		return invalid(fault)
	}
	return answer{status: http.StatusCreated}
}

func signIn(s *Server, c *call) answer {
	username, err := c.fields.need("username")
	if err != nil {
		return invalid(err.Error())
	}
	password, err := c.fields.need("password")
	if err != nil {
		return invalid(err.Error())
	}
	u := s.people.byName[username]
	if u == nil || !u.hasPassword(secret.New(password)) {
		return answer{status: http.StatusUnauthorized} // no body is promised
	}
	token := s.newToken()
	s.people.refresh[token] = refreshToken{user: u, expires: s.cfg.Clock().Add(s.cfg.RefreshLife)}
	return answer{status: http.StatusOK, jwt: s.issueJWT(u), body: signedIn{
		ID: u.id, Username: u.username, Email: u.email, RefreshToken: token, Roles: []string{roleUser},
	}}
}

func changeUsername(s *Server, c *call) answer {
	name, err := c.fields.need("newUsername")
	if err != nil {
		return invalid(err.Error())
	}
	if fault := usernameFault(name); fault != "" {
		return invalid(fault)
	}
	if s.people.byName[name] != nil {
		return invalid("Username already exists")
	}
	delete(s.people.byName, c.user.username)
	c.user.username = name
	s.people.byName[name] = c.user
	return answer{status: http.StatusOK, jwt: s.issueJWT(c.user)}
}

func deleteUser(s *Server, c *call) answer {
	s.deleteUser(c.user)
	return ok(nil)
}

func getUser(_ *Server, c *call) answer {
	return ok(userInfo{ID: c.user.id, Username: c.user.username, Email: c.user.email, Role: []string{roleUser}})
}
