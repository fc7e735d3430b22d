package whispsim

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// chat is a conversation. Guarded by Server.mu; it has at least one member, and
// its creator is one of them.
type chat struct {
	id, name string
	creator  *user
	created  time.Time
	group    bool
	members  []*member // in the order in which they joined

	messages  []*chatMessage // oldest first
	byMessage map[string]*chatMessage

	last   string // what getChats shows as lastMessage
	lastAt time.Time
}

// member is one person's place in a chat.
type member struct {
	user     *user
	joined   time.Time
	lastSeen string // message id, or ""
}

// chatDetails is openapi's ChatDetails.
type chatDetails struct {
	ChatID               string  `json:"chatId"`
	ChatName             string  `json:"chatName"`
	LastMessageTimestamp *string `json:"lastMessageTimestamp"`
	LastMessage          *string `json:"lastMessage"`
	CreatedAt            string  `json:"createdAt"`
	Creator              string  `json:"creator"`
	GroupChat            bool    `json:"groupChat"`
}

// chatUserInfo is openapi's ChatUserInfo.
type chatUserInfo struct {
	UserID          string  `json:"userId"`
	Username        string  `json:"username"`
	JoinedChatAt    string  `json:"joinedChatAt"`
	LastSeenMessage *string `json:"lastSeenMessage"`
}

func (c *chat) details() chatDetails {
	d := chatDetails{
		ChatID: c.id, ChatName: c.name, CreatedAt: stamp(c.created), Creator: c.creator.id, GroupChat: c.group,
		LastMessageTimestamp: stampOrNil(c.lastAt),
	}
	if !c.lastAt.IsZero() {
		last := c.last // a copy: the answer is written without the lock
		d.LastMessage = &last
	}
	return d
}

// activity orders chats in getChats.
func (c *chat) activity() time.Time {
	if c.lastAt.After(c.created) {
		return c.lastAt
	}
	return c.created
}

func (c *chat) member(u *user) *member {
	for _, m := range c.members {
		if m.user == u {
			return m
		}
	}
	return nil
}

// chatOf returns the chat with that id if u is in it.
func (s *Server) chatOf(u *user, id string) *chat { return u.chats[id] }

// newChat creates a chat of these people, creator first, and tells them.
func (s *Server) newChat(name string, people []*user) *chat {
	now := s.cfg.Clock()
	c := &chat{
		id: s.newID(), name: name, creator: people[0], created: now, group: len(people) > 2,
		byMessage: map[string]*chatMessage{},
	}
	for _, u := range people {
		c.members = append(c.members, &member{user: u, joined: now})
		u.chats[c.id] = c
	}
	s.chats[c.id] = c
	s.emit(c, event{Type: "NEW_CHAT", SenderID: c.creator.id, Message: name, TimeStamp: stamp(now)})
	return c
}

// join adds u and tells everybody, u included.
func (s *Server) join(c *chat, by, u *user) {
	c.members = append(c.members, &member{user: u, joined: s.cfg.Clock()})
	c.group = c.group || len(c.members) > 2
	u.chats[c.id] = c
	s.emit(c, event{Type: "USER_JOIN", SenderID: by.id, Message: u.id, Username: u.username})
}

// leave removes u after telling everybody, u included. An owner who leaves is
// followed by whoever has been in longest; an empty chat is no more.
func (s *Server) leave(c *chat, u *user) {
	s.emit(c, event{
		Type: "USER_LEAVE", SenderID: u.id, Message: u.username + " left the Chat", TimeStamp: stamp(s.cfg.Clock()),
	})
	c.members = slices.DeleteFunc(c.members, func(m *member) bool { return m.user == u })
	delete(u.chats, c.id)
	if len(c.members) == 0 {
		s.dropChat(c)
		return
	}
	if c.creator == u {
		c.creator = c.members[0].user
	}
}

// dropChat removes the chat and everything in it.
func (s *Server) dropChat(c *chat) {
	for _, m := range c.members {
		delete(m.user.chats, c.id)
	}
	for _, m := range c.messages {
		s.dropReactions(m)
	}
	delete(s.chats, c.id)
}

// deleteUser removes the account with its messages, reactions, refresh tokens
// and sockets. JWTs of it stop working since their subject is gone.
func (s *Server) deleteUser(u *user) {
	for _, c := range u.chats {
		for _, m := range slices.Clone(c.messages) {
			if m.sender == u.id {
				s.dropMessage(c, m)
				continue
			}
			for _, r := range slices.Clone(m.reactions) {
				if r.SenderID == u.id {
					s.dropReaction(m, r.ReactionID)
				}
			}
		}
		s.leave(c, u)
	}
	s.people.endRefreshTokens(u)
	delete(s.people.byID, u.id)
	delete(s.people.byName, u.username)
	for socket := range u.sockets {
		socket.close(closePolicy, "user deleted")
	}
}

// chatNameFault is our reading of "invalid chat name format" (assumed).
func chatNameFault(name string) string {
	if n := utf8.RuneCountInString(name); strings.TrimSpace(name) == "" || n > 100 {
		return "chatName: size must be between 1 and 100"
	}
	return ""
}
