package whispsim

import "net/http"

// ticketResponse is openapi's TicketResponse.
type ticketResponse struct {
	Ticket string `json:"ticket"`
}

func getTicket(s *Server, c *call) answer {
	text := s.newToken()
	s.tickets.issue(text, c.user, s.cfg.Clock(), s.cfg.TicketLife)
	return ok(ticketResponse{text})
}

// refresh renews a JWT. The old JWT may be expired or not, with or without
// "Bearer ", but must be one of ours and of the same person (assumed).
func refresh(s *Server, c *call) answer {
	expired, err := c.fields.need("expiredJwt")
	if err != nil {
		return invalid(err.Error())
	}
	token, _ := bearer(c.r.Header.Get("Authorization"))
	owner, alive := s.people.refresh[token]
	if !alive || !s.cfg.Clock().Before(owner.expires) {
		delete(s.people.refresh, token)
		return answer{status: http.StatusUnauthorized}
	}
	if bare, found := bearer(expired); found {
		expired = bare
	}
	if subject, err := s.verifyJWT(expired, true); err != nil || subject != owner.user.id {
		return answer{status: http.StatusUnauthorized}
	}
	return answer{status: http.StatusOK, jwt: s.issueJWT(owner.user)}
}

// logout ends one refresh token of one's own. An unknown one is fine: it is
// not alive, which is what was asked for.
func logout(s *Server, c *call) answer {
	token, err := c.fields.need("refreshToken")
	if err != nil {
		return invalid(err.Error())
	}
	if s.people.refresh[token].user == c.user {
		delete(s.people.refresh, token)
	}
	return ok(nil)
}

// logoutAll ends all of one's refresh tokens. JWTs and sockets live on.
func logoutAll(s *Server, c *call) answer {
	s.people.endRefreshTokens(c.user)
	return ok(nil)
}
