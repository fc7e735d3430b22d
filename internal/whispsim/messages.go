package whispsim

import (
	"slices"
	"time"
)

// deletedText is what a chat shows as its last message after that was deleted.
const deletedText = "Message Deleted"

// chatMessage is one message. Guarded by Server.mu.
type chatMessage struct {
	id, sender, content string
	at                  time.Time
	editedAt            time.Time // zero: never
	replyTo             *messageContent
	reactions           []reaction
}

// messageContent is openapi's MessageContent.
type messageContent struct {
	ChatID    string  `json:"chatId"`
	TimeStamp string  `json:"timeStamp"`
	MessageID string  `json:"messageId"`
	SenderID  string  `json:"senderId"`
	Content   string  `json:"content"`
	Edited    bool    `json:"edited"`
	EditedAt  *string `json:"editedAt"`
}

// messageView is openapi's Message.
type messageView struct {
	messageContent
	ReplyTo   *messageContent `json:"replyTo"`
	Reactions []reaction      `json:"reactions"`
}

// reaction is openapi's Reaction.
type reaction struct {
	ReactionID string `json:"reactionId"`
	ChatID     string `json:"chatId"`
	MessageID  string `json:"messageId"`
	SenderID   string `json:"senderId"`
	Reaction   string `json:"reaction"`
	CreatedAt  string `json:"createdAt"`
}

// reactionPlace finds a reaction, whose id comes without its chat.
type reactionPlace struct {
	chat    *chat
	message *chatMessage
}

func (m *chatMessage) view(c *chat) messageContent {
	return messageContent{
		ChatID: c.id, TimeStamp: stamp(m.at), MessageID: m.id, SenderID: m.sender, Content: m.content,
		Edited: !m.editedAt.IsZero(), EditedAt: stampOrNil(m.editedAt),
	}
}

func (m *chatMessage) full(c *chat) messageView {
	reactions := slices.Clone(m.reactions)
	if reactions == nil {
		reactions = []reaction{}
	}
	return messageView{messageContent: m.view(c), ReplyTo: m.replyTo, Reactions: reactions}
}

// post adds a message, or a reply to another one, and tells everybody.
func (s *Server) post(c *chat, from *user, content string, replyTo *chatMessage) {
	m := &chatMessage{id: s.newID(), sender: from.id, content: content, at: s.cfg.Clock()}
	e := event{Type: "SEND_MSG", SenderID: from.id, MessageID: m.id, Message: content, TimeStamp: stamp(m.at)}
	if replyTo != nil {
		quoted := replyTo.view(c)
		m.replyTo = &quoted
		e.Type, e.ReplyTo = "REPLY", &quoted
	}
	if len(c.messages) >= s.cfg.History {
		s.dropMessage(c, c.messages[0])
	}
	c.messages = append(c.messages, m)
	c.byMessage[m.id] = m
	c.last, c.lastAt = content, m.at
	s.emit(c, e)
}

// edit changes a message's text.
func (s *Server) edit(c *chat, m *chatMessage, content string) {
	m.content, m.editedAt = content, s.cfg.Clock()
	if c.messages[len(c.messages)-1] == m {
		c.last = content
	}
	s.emit(c, event{
		Type: "EDIT_MSG", SenderID: m.sender, MessageID: m.id, Message: content, EditedAt: stamp(m.editedAt),
	})
}

// erase deletes a message and tells everybody.
func (s *Server) erase(c *chat, m *chatMessage) {
	if c.messages[len(c.messages)-1] == m {
		c.last = deletedText
	}
	s.dropMessage(c, m)
	s.emit(c, event{Type: "DELETE_MSG", SenderID: m.sender, MessageID: m.id, TimeStamp: stamp(s.cfg.Clock())})
}

// dropMessage forgets a message with its reactions, silently.
func (s *Server) dropMessage(c *chat, m *chatMessage) {
	s.dropReactions(m)
	delete(c.byMessage, m.id)
	if c.messages[0] == m { // what trimming the history does, at no cost
		c.messages = c.messages[1:]
		return
	}
	c.messages = slices.DeleteFunc(c.messages, func(other *chatMessage) bool { return other == m })
}

// react adds from's reaction, in place of an earlier one.
func (s *Server) react(c *chat, m *chatMessage, from *user, text string) {
	for _, r := range m.reactions {
		if r.SenderID == from.id {
			s.dropReaction(m, r.ReactionID)
			break
		}
	}
	r := reaction{
		ReactionID: s.newID(), ChatID: c.id, MessageID: m.id, SenderID: from.id, Reaction: text,
		CreatedAt: stamp(s.cfg.Clock()),
	}
	m.reactions = append(m.reactions, r)
	s.reactions[r.ReactionID] = reactionPlace{c, m}
	s.emit(c, event{
		Type: "REACT", SenderID: from.id, MessageID: r.ReactionID, ParentMessageID: m.id, Message: text, TimeStamp: r.CreatedAt,
	})
}

// unreact removes a reaction and tells everybody; it reports whether there was
// one of from's.
func (s *Server) unreact(from *user, id string) bool {
	place, there := s.reactions[id]
	if !there || s.chatOf(from, place.chat.id) == nil {
		return false
	}
	own := slices.ContainsFunc(place.message.reactions, func(r reaction) bool {
		return r.ReactionID == id && r.SenderID == from.id
	})
	if !own {
		return false
	}
	s.dropReaction(place.message, id)
	s.emit(place.chat, event{
		Type: "DELETE_REACT", SenderID: from.id, MessageID: id, ParentMessageID: place.message.id,
	})
	return true
}

func (s *Server) dropReaction(m *chatMessage, id string) {
	m.reactions = slices.DeleteFunc(m.reactions, func(r reaction) bool { return r.ReactionID == id })
	delete(s.reactions, id)
}

func (s *Server) dropReactions(m *chatMessage) {
	for _, r := range m.reactions {
		delete(s.reactions, r.ReactionID)
	}
	m.reactions = nil
}

// read notes that u has seen m and tells everybody.
func (s *Server) read(c *chat, u *user, m *chatMessage) {
	c.member(u).lastSeen = m.id
	s.emit(c, event{Type: "READ_MSG", SenderID: u.id, MessageID: m.id})
}
