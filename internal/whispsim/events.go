package whispsim

import "encoding/json"

// event is what members receive. The names are those of the vendor's SDK.
type event struct {
	Type            string          `json:"type"`
	ChatID          string          `json:"chatId"`
	SenderID        string          `json:"senderId"`
	RecipientID     string          `json:"recipientId"`
	MessageID       string          `json:"messageId,omitempty"`
	ParentMessageID string          `json:"parentMessageId,omitempty"`
	Message         string          `json:"message,omitempty"`
	Username        string          `json:"username,omitempty"`
	ReplyTo         *messageContent `json:"replyTo,omitempty"`
	TimeStamp       string          `json:"timeStamp,omitempty"`
	EditedAt        string          `json:"editedAt,omitempty"`
}

// emit queues e on every socket of every member of c. s.mu is held, so all
// members see the same order.
func (s *Server) emit(c *chat, e event) {
	e.ChatID = c.id
	for _, m := range c.members {
		if len(m.user.sockets) == 0 {
			continue
		}
		e.RecipientID = m.user.id
		body, err := json.Marshal(e)
		if err != nil { // strings only: cannot fail
			s.log.Error("event is not JSON", "type", e.Type, "error", err)
			return
		}
		for socket := range m.user.sockets {
			socket.deliver(body)
		}
	}
}
