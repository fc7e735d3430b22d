package whispsim

import (
	"net/http"

	"github.com/whisp-bff/whisp-bff/internal/whispsim/stomp"
)

// chatDestination is where clients send.
const chatDestination = "/api/chat"

// action is what a SEND asks for, checked as far as that goes without looking
// at the chats.
type action struct {
	kind, chat, message, text, reaction string
}

// actionFields tells which fields an action needs.
var actionFields = map[string]struct{ chat, message, text, emoji, reaction bool }{
	"SEND_MSG":     {chat: true, text: true},
	"EDIT_MSG":     {chat: true, message: true, text: true},
	"DELETE_MSG":   {chat: true, message: true},
	"REPLY":        {chat: true, message: true, text: true},
	"TYPING":       {chat: true},
	"REACT":        {chat: true, message: true, emoji: true},
	"DELETE_REACT": {reaction: true},
	"READ_MSG":     {chat: true, message: true},
}

// sendAction handles a SEND. It returns a fault for what no correct client
// sends; what merely does not apply is dropped and counted.
func (c *stompSession) sendAction(f *stomp.Frame) string {
	if destination, _ := f.Get("destination"); destination != chatDestination {
		return "no such destination"
	}
	a, err := c.parseAction(f.Body)
	if err != nil {
		return err.Error()
	}
	c.server.mu.Lock()
	applied := c.server.act(c.user, a)
	c.server.mu.Unlock()
	status := http.StatusOK
	if !applied {
		status = http.StatusBadRequest
		c.server.log.Debug("action does not apply", "type", a.kind)
	}
	c.server.record.action("stomp."+a.kind, status)
	return ""
}

func (c *stompSession) parseAction(body []byte) (a action, err error) {
	fields, err := parseFields(body)
	if err != nil {
		return a, err
	}
	if a.kind, err = fields.need("type"); err != nil {
		return a, err
	}
	needs, known := actionFields[a.kind]
	if !known {
		return a, errField{"type", "is unknown"}
	}
	if sender, given, err := fields.text("senderId"); err != nil || given && sender != c.user.id {
		return a, errField{"senderId", "must be one's own"}
	}
	for _, want := range []struct {
		needed bool
		name   string
		into   *string
		read   func(string) (string, error)
	}{
		{needs.chat, "chatId", &a.chat, fields.id},
		{needs.message, "messageId", &a.message, fields.id},
		{needs.text, "message", &a.text, fields.need},
		{needs.emoji, "reaction", &a.text, fields.need},
		{needs.reaction, "reactionId", &a.reaction, fields.id},
	} {
		if !want.needed {
			continue
		}
		if *want.into, err = want.read(want.name); err != nil {
			return a, err
		}
		if *want.into == "" {
			return a, errField{want.name, "must not be empty"}
		}
	}
	return a, nil
}

// act does what an action asks for and reports whether it applied. s.mu is
// held.
func (s *Server) act(from *user, a action) bool {
	if a.kind == "DELETE_REACT" {
		return s.unreact(from, a.reaction)
	}
	c := s.chatOf(from, a.chat)
	if c == nil {
		return false
	}
	switch a.kind {
	case "SEND_MSG":
		s.post(c, from, a.text, nil)
		return true
	case "TYPING":
		s.emit(c, event{Type: "TYPING", SenderID: from.id})
		return true
	}
	m := c.byMessage[a.message]
	if m == nil {
		return false
	}
	own := m.sender == from.id
	switch a.kind {
	case "EDIT_MSG":
		if own {
			s.edit(c, m, a.text)
		}
		return own
	case "DELETE_MSG":
		if own {
			s.erase(c, m)
		}
		return own
	case "REPLY":
		s.post(c, from, a.text, m)
	case "REACT":
		s.react(c, m, from, a.text)
	case "READ_MSG":
		s.read(c, from, m)
	}
	return true
}
