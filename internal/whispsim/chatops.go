package whispsim

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

type chatsList struct {
	Chats []chatDetails `json:"chats"`
}

type chatUsers struct {
	Users []chatUserInfo `json:"users"`
}

type messagesList struct {
	Messages []messageView `json:"messages"`
}

var notInChat = invalid("Chat does not exist or user is not in chat")

func createChat(s *Server, c *call) answer {
	name, err := c.fields.need("chatName")
	if err != nil {
		return invalid(err.Error())
	}
	if fault := chatNameFault(name); fault != "" {
		return invalid(fault)
	}
	names, err := c.fields.texts("userNames")
	if err != nil {
		return invalid(err.Error())
	}
	if !slices.Contains(names, c.user.username) {
		return invalid("Own username must be included")
	}
	people := []*user{c.user}
	for _, n := range names {
		u := s.people.byName[n]
		if u == nil {
			return invalid("Invalid username: " + n)
		}
		if !slices.Contains(people, u) {
			people = append(people, u)
		}
	}
	if len(people) < 2 {
		return invalid("userNames: at least two users are needed")
	}
	return answer{status: http.StatusCreated, body: s.newChat(name, people).details()}
}

// getChats lists the chats with the latest activity first (assumed).
func getChats(_ *Server, c *call) answer {
	page, a, bad := c.number("page", 0, 0, 1<<20)
	if bad {
		return a
	}
	size, a, bad := c.number("size", 20, 1, 1000)
	if bad {
		return a
	}
	all := make([]*chat, 0, len(c.user.chats))
	for _, chat := range c.user.chats {
		all = append(all, chat)
	}
	slices.SortFunc(all, func(x, y *chat) int {
		if order := y.activity().Compare(x.activity()); order != 0 {
			return order
		}
		return strings.Compare(x.id, y.id)
	})
	list := chatsList{Chats: []chatDetails{}}
	from := min(page*size, len(all))
	for _, chat := range all[from:min(from+size, len(all))] {
		list.Chats = append(list.Chats, chat.details())
	}
	return ok(list)
}

func addUserToChat(s *Server, c *call) answer {
	id, err := c.fields.id("chatId")
	if err != nil {
		return invalid(err.Error())
	}
	name, err := c.fields.need("newUsername")
	if err != nil {
		return invalid(err.Error())
	}
	chat := s.chatOf(c.user, id)
	if chat == nil {
		return notInChat
	}
	u := s.people.byName[name]
	if u == nil {
		return invalid("Invalid username")
	}
	if chat.member(u) != nil {
		return invalid("User already in chat")
	}
	s.join(chat, c.user, u)
	return ok(nil)
}

func getChatUsers(s *Server, c *call) answer {
	chat, a, bad := c.chatArgument(s)
	if bad {
		return a
	}
	list := chatUsers{Users: []chatUserInfo{}}
	for _, m := range chat.members {
		info := chatUserInfo{UserID: m.user.id, Username: m.user.username, JoinedChatAt: stamp(m.joined)}
		if seen := m.lastSeen; seen != "" { // a copy: the answer is written without the lock
			info.LastSeenMessage = &seen
		}
		list.Users = append(list.Users, info)
	}
	return ok(list)
}

func changeChatName(s *Server, c *call) answer {
	id, err := c.fields.id("chatId")
	if err != nil {
		return invalid(err.Error())
	}
	name, err := c.fields.need("newChatName")
	if err != nil {
		return invalid(err.Error())
	}
	if fault := chatNameFault(name); fault != "" {
		return invalid(fault)
	}
	chat := s.chatOf(c.user, id)
	if chat == nil {
		return notInChat
	}
	chat.name = name // no event is documented
	return ok(nil)
}

func deleteChat(s *Server, c *call) answer {
	id, good := canonicalUUID(c.query.Get("chatId"))
	if !good {
		return invalid("chatId: must be a UUID")
	}
	chat := s.chatOf(c.user, id)
	if chat == nil {
		return notInChat
	}
	if chat.creator != c.user {
		return invalid("Only the creator can delete a chat")
	}
	s.emit(chat, event{Type: "DELETE_CHAT", SenderID: c.user.id})
	s.dropChat(chat)
	return ok(nil)
}

// removeUserFromChat lets a person leave, and the creator remove others.
func removeUserFromChat(s *Server, c *call) answer {
	id, err := c.fields.id("chatId")
	if err != nil {
		return invalid(err.Error())
	}
	who, err := c.fields.id("removeUser")
	if err != nil {
		return invalid(err.Error())
	}
	chat := s.chatOf(c.user, id)
	if chat == nil {
		return notInChat
	}
	u := s.people.byID[who]
	if u == nil || chat.member(u) == nil {
		return invalid("User not in chat")
	}
	if u != c.user && chat.creator != c.user {
		return invalid("Not authorized to remove this user")
	}
	s.leave(chat, u)
	return ok(nil)
}

// getMessages lists the newest first (assumed); lastMessage asks for those
// older than it. The newest message of the chat counts as read by the caller.
func getMessages(s *Server, c *call) answer {
	chat, a, bad := c.chatArgument(s)
	if bad {
		return a
	}
	size, a, bad := c.number("size", 50, 1, 1000)
	if bad {
		return a
	}
	end := len(chat.messages)
	if c.query.Has("lastMessage") {
		cursor, good := canonicalUUID(c.query.Get("lastMessage"))
		if !good {
			return invalid("lastMessage: must be a UUID")
		}
		end = slices.Index(chat.messages, chat.byMessage[cursor])
		if end < 0 {
			return invalid("lastMessage: no such message in this chat")
		}
	}
	list := messagesList{Messages: []messageView{}}
	for i := end - 1; i >= max(end-size, 0); i-- {
		list.Messages = append(list.Messages, chat.messages[i].full(chat))
	}
	if n := len(chat.messages); n > 0 {
		s.read(chat, c.user, chat.messages[n-1])
	}
	return ok(list)
}

// chatArgument is the chat named in the path.
func (c *call) chatArgument(s *Server) (*chat, answer, bool) {
	id, good := canonicalUUID(c.argument)
	if !good {
		return nil, invalid("chatId: must be a UUID"), true
	}
	chat := s.chatOf(c.user, id)
	if chat == nil {
		return nil, notInChat, true
	}
	return chat, answer{}, false
}

// number reads an integer from the query.
func (c *call) number(name string, absent, low, high int) (int, answer, bool) {
	text := c.query.Get(name)
	if text == "" {
		return absent, answer{}, false
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return 0, invalid(name + ": must be between " + strconv.Itoa(low) + " and " + strconv.Itoa(high)), true
	}
	return n, answer{}, false
}
