package whispsim_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
	"github.com/whisp-bff/whisp-bff/internal/whispsim/stomp"
)

func TestTwoPeopleChatOverEveryTransport(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			b := start(t, whispsim.Config{})
			alice, bob := b.person("alice"), b.person("bobby")
			a, o, second := alice.talk(transport, "aa"), bob.talk(transport, "bb"), bob.talk("wsConnect", "")
			id := alice.chat("ours", bob)
			for _, c := range []*talk{a, o, second} {
				if e := c.event(); e["type"] != "NEW_CHAT" || e["chatId"] != id || e["message"] != "ours" || e["senderId"] != alice.id {
					t.Errorf("event = %v", e)
				}
			}
			text := "héllo \"👍\" <b>\\ \u2028\x01 " + strings.Repeat("x", 200_000)
			a.say("type", "SEND_MSG", "chatId", id, "message", text, "senderId", alice.id)
			for c, recipient := range map[*talk]string{a: alice.id, o: bob.id, second: bob.id} {
				if e := c.event(); e["message"] != text || e["recipientId"] != recipient || e["senderId"] != alice.id {
					t.Errorf("event = %.300v", e)
				}
			}
			for i := range 100 {
				o.say("type", "SEND_MSG", "chatId", id, "message", fmt.Sprint(i))
			}
			for i := range 100 {
				if e := a.event(); e["message"] != fmt.Sprint(i) {
					t.Fatalf("message %v, want %d", e["message"], i)
				}
			}
			a.write("DISCONNECT\nreceipt:bye\n\n\x00")
			for frame := a.frame(); frame.Command != "RECEIPT"; {
				t.Fatalf("frame = %v", frame)
			}
			if why := a.ended(); why != "1000" {
				t.Errorf("ended: %s, want 1000", why)
			}
		})
	}
}

func TestEveryAction(t *testing.T) {
	b := start(t, whispsim.Config{})
	alice, bob := b.person("alice"), b.person("bobby")
	id := alice.chat("ours", bob)
	a, o := alice.talk("wsConnect", ""), bob.talk("wsConnect", "")
	// both gets the same event at both ends, but for the recipient.
	both := func(kind string, want ...any) map[string]any {
		t.Helper()
		at, bt := a.event(), o.event()
		if at["recipientId"] != alice.id || bt["recipientId"] != bob.id {
			t.Errorf("recipients %v, %v", at["recipientId"], bt["recipientId"])
		}
		delete(bt, "recipientId")
		recipient := at["recipientId"]
		delete(at, "recipientId")
		if fmt.Sprint(at) != fmt.Sprint(bt) || at["type"] != kind || at["chatId"] != id || recipient == nil {
			t.Fatalf("events %v and %v, want two %s", at, bt, kind)
		}
		for i := 0; i < len(want); i += 2 {
			if at[want[i].(string)] != want[i+1] {
				t.Errorf("%s: %s = %v, want %v", kind, want[i], at[want[i].(string)], want[i+1])
			}
		}
		return at
	}

	a.say("type", "SEND_MSG", "chatId", id, "message", "one")
	first := both("SEND_MSG", "message", "one", "senderId", alice.id, "timeStamp", "2026-01-02T03:04:05Z")["messageId"]
	o.say("type", "REPLY", "chatId", id, "messageId", first, "message", "two")
	reply := both("REPLY", "message", "two", "senderId", bob.id)
	if quoted := reply["replyTo"].(map[string]any); quoted["messageId"] != first || quoted["content"] != "one" || quoted["edited"] != false {
		t.Errorf("replyTo = %v", quoted)
	}
	a.say("type", "EDIT_MSG", "chatId", id, "messageId", first, "message", "uno")
	both("EDIT_MSG", "messageId", first, "message", "uno", "editedAt", "2026-01-02T03:04:05Z")
	o.say("type", "TYPING", "chatId", id)
	both("TYPING", "senderId", bob.id)
	o.say("type", "REACT", "chatId", id, "messageId", first, "reaction", "👍")
	both("REACT", "parentMessageId", first, "message", "👍")
	o.say("type", "REACT", "chatId", id, "messageId", first, "reaction", "🎉")
	reaction := both("REACT", "parentMessageId", first, "message", "🎉")["messageId"]

	var history struct {
		Messages []struct {
			MessageID, Content string
			Edited             bool
			ReplyTo            map[string]any
			Reactions          []struct{ ReactionID, Reaction string }
		}
	}
	alice.call("GET", "/api/messages/getMessages/"+id, "").want(t, 200).decode(t, &history)
	both("READ_MSG", "messageId", reply["messageId"], "senderId", alice.id)
	if len(history.Messages) != 2 || history.Messages[0].Content != "two" || !history.Messages[1].Edited ||
		len(history.Messages[1].Reactions) != 1 || history.Messages[1].Reactions[0].Reaction != "🎉" {
		t.Errorf("history = %+v", history)
	}

	o.say("type", "DELETE_REACT", "reactionId", reaction)
	both("DELETE_REACT", "messageId", reaction)
	o.say("type", "READ_MSG", "chatId", id, "messageId", first)
	both("READ_MSG", "messageId", first, "senderId", bob.id)
	a.say("type", "DELETE_MSG", "chatId", id, "messageId", first)
	both("DELETE_MSG", "messageId", first)

	carol := b.person("carol")
	alice.call("POST", "/api/chat/addUser", object("chatId", id, "newUsername", "carol")).want(t, 200)
	both("USER_JOIN", "message", carol.id, "username", "carol", "senderId", alice.id)
	carol.call("POST", "/api/chat/removeUser", object("chatId", id, "removeUser", carol.id)).want(t, 200)
	both("USER_LEAVE", "message", "carol left the Chat", "senderId", carol.id)
	alice.call("DELETE", "/api/chat/deleteChat?chatId="+id, "").want(t, 200)
	both("DELETE_CHAT", "senderId", alice.id)
}

func TestActionsThatDoNotApplyAreDropped(t *testing.T) {
	b := start(t, whispsim.Config{})
	alice, bob, carol := b.person("alice"), b.person("bobby"), b.person("carol")
	id := alice.chat("ours", bob)
	a, o, c := alice.talk("wsConnect", ""), bob.talk("wsConnect", ""), carol.talk("wsConnect", "")
	a.say("type", "SEND_MSG", "chatId", id, "message", "one")
	message := o.event()["messageId"]
	c.say("type", "SEND_MSG", "chatId", id, "message", "let me in")
	o.say("type", "EDIT_MSG", "chatId", id, "messageId", message, "message", "not mine")
	o.say("type", "DELETE_MSG", "chatId", id, "messageId", message)
	o.say("type", "REACT", "chatId", id, "messageId", alice.id, "reaction", "👍")
	o.say("type", "DELETE_REACT", "reactionId", alice.id)
	c.write("ACK\nid:1\nreceipt:done\n\n\x00")
	c.want("RECEIPT")
	o.say("type", "TYPING", "chatId", id)
	if e := o.event(); e["type"] != "TYPING" {
		t.Errorf("event = %v, want only TYPING", e)
	}
	counters := b.sim.Counters()
	for _, kind := range []string{"SEND_MSG", "EDIT_MSG", "DELETE_MSG", "REACT", "DELETE_REACT"} {
		if counters["stomp."+kind][400] != 1 {
			t.Errorf("%s: counters %v", kind, counters["stomp."+kind])
		}
	}
}

func TestWrongFramesEndTheSocket(t *testing.T) {
	b := start(t, whispsim.Config{})
	alice, bob := b.person("alice"), b.person("bobby")
	id := alice.chat("ours", bob)
	connect := alice.connectFrame()
	send := func(body string) string { return connect + "SEND\ndestination:/api/chat\n\n" + body + "\x00" }
	cases := []struct{ name, frames, says string }{
		{"SEND first", "SEND\ndestination:/api/chat\n\n{}\x00", "CONNECT must come first"},
		{"SUBSCRIBE first", "SUBSCRIBE\nid:1\n\n\x00", "CONNECT must come first"},
		{"no JWT", "CONNECT\naccept-version:1.2\n\n\x00", "AUTH_INVALID_TOKEN"},
		{"bare JWT", "CONNECT\naccept-version:1.2\nAuthorization:" + alice.jwt + "\n\n\x00", "AUTH_INVALID_TOKEN"},
		{"header in lower case", "CONNECT\naccept-version:1.2\nauthorization:Bearer " + alice.jwt + "\n\n\x00", "AUTH_INVALID_TOKEN"},
		{"another's JWT", bob.connectFrame(), "AUTH_INVALID_TOKEN"},
		{"first header counts", "CONNECT\nAuthorization:Bearer x\nAuthorization:Bearer " + alice.jwt + "\n\n\x00", "AUTH_INVALID_TOKEN"},
		{"version", "CONNECT\naccept-version:2.0\n\n\x00", "supported protocol versions"},
		{"CONNECT twice", connect + connect, "already connected"},
		{"foreign queue", connect + "SUBSCRIBE\nid:1\ndestination:/user/" + bob.id + "/queue/messages\n\n\x00", "denied"},
		{"other queue", connect + "SUBSCRIBE\nid:1\ndestination:/topic/all\n\n\x00", "denied"},
		{"no subscription id", connect + "SUBSCRIBE\ndestination:/user/" + alice.id + "/queue/messages\n\n\x00", "needs an id"},
		{"other destination", connect + "SEND\ndestination:/api/other\n\n{}\x00", "no such destination"},
		{"transaction", connect + "BEGIN\ntransaction:1\n\n\x00", "unsupported command"},
		{"escape", connect + "SEND\ndestination:\\t\n\n{}\x00", "escape"},
		{"no JSON", send("hello"), "JSON"},
		{"no type", send("{}"), "type"},
		{"unknown type", send(object("type", "USER_JOIN")), "type"},
		{"foreign sender", send(object("type", "SEND_MSG", "senderId", bob.id, "chatId", id, "message", "x")), "senderId"},
		{"chat id", send(object("type", "SEND_MSG", "chatId", "1", "message", "x")), "chatId"},
		{"no text", send(object("type", "SEND_MSG", "chatId", id, "message", "")), "message"},
		{"text not a string", send(object("type", "SEND_MSG", "chatId", id, "message", 1)), "message"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			talk := &talk{wire: b.wire("wsConnect", "", alice.ticket()), decoder: stomp.Decoder{Version: stomp.V12}}
			talk.write(c.frames)
			frame := talk.frame()
			if frame.Command == "CONNECTED" {
				frame = talk.want("ERROR")
			}
			if text, _ := frame.Get("message"); frame.Command != "ERROR" || !strings.Contains(text, c.says) {
				t.Errorf("frame = %v", frame)
			}
			if why := talk.ended(); why != "1002" {
				t.Errorf("ended: %s, want 1002", why)
			}
		})
	}
}

func TestJWTExpiresBeforeButNotAfterCONNECT(t *testing.T) {
	b := start(t, whispsim.Config{})
	alice, bob := b.person("alice"), b.person("bobby")
	a := alice.talk("wsConnect", "")
	late := &talk{wire: b.wire("wsConnect", "", bob.ticket())}
	b.clock.forward(301 * time.Second)
	late.write(bob.connectFrame())
	late.want("ERROR")
	a.write("ACK\nid:1\nreceipt:r\n\n\x00")
	a.want("RECEIPT")
}

func TestVersionsEscapingAndSubscriptions(t *testing.T) {
	b := start(t, whispsim.Config{})
	alice, bob := b.person("alice"), b.person("bobby")
	id := alice.chat("ours", bob)
	for _, version := range []stomp.Version{stomp.V10, stomp.V11, stomp.V12} {
		c := &talk{wire: b.wire("wsConnect", "", alice.ticket()), decoder: stomp.Decoder{Version: version}}
		c.write("STOMP\naccept-version:" + version.String() + "\nAuthorization:Bearer " + alice.jwt + "\n\n\x00")
		if agreed, _ := c.want("CONNECTED").Get("version"); agreed != version.String() {
			t.Errorf("version = %s, want %s", agreed, version)
		}
		name := "a:b\\c"
		for _, subscription := range []string{name, "other"} {
			frame := stomp.Frame{Command: "SUBSCRIBE", Headers: []stomp.Header{
				{Name: "id", Value: subscription}, {Name: "receipt", Value: name},
				{Name: "destination", Value: "/user/" + alice.id + "/queue/messages"},
			}}
			c.write(string(frame.Append(nil, version)))
			if receipt, _ := c.want("RECEIPT").Get("receipt-id"); receipt != name {
				t.Errorf("%s: receipt-id = %q", version, receipt)
			}
		}
		c.say("type", "TYPING", "chatId", id)
		for _, subscription := range []string{name, "other"} {
			if got, _ := c.want("MESSAGE").Get("subscription"); got != subscription {
				t.Errorf("%s: subscription = %q, want %q", version, got, subscription)
			}
		}
		c.write("UNSUBSCRIBE\nid:other\n\n\x00")
		c.say("type", "TYPING", "chatId", id)
		c.want("MESSAGE")
		c.write("DISCONNECT\nreceipt:end\n\n\x00")
		c.want("RECEIPT")
	}
}

func TestHeartBeats(t *testing.T) {
	b := start(t, whispsim.Config{HeartBeatSend: 20 * time.Millisecond, HeartBeatReceive: 20 * time.Millisecond})
	alice := b.person("alice")
	c := &talk{wire: b.wire("wsConnect", "", alice.ticket())}
	c.write(strings.Replace(alice.connectFrame(), "heart-beat:0,0", "heart-beat:20,20", 1))
	if agreed, _ := c.want("CONNECTED").Get("heart-beat"); agreed != "20,20" {
		t.Errorf("heart-beat = %s", agreed)
	}
	for range 3 { // the client keeps silent meanwhile, so it is also cut in the end
		if text := <-c.in; text != "\n" && text != "" {
			t.Errorf("message = %q, want a heart-beat", text)
		}
	}
	for range c.in {
	}
	if c.end != "-1" {
		t.Errorf("ended: %s, want a cut without a close frame", c.end)
	}
}

func TestTickets(t *testing.T) {
	b := start(t, whispsim.Config{})
	alice := b.person("alice")
	open := func(transport, session, ticket string) bool {
		c := &talk{wire: b.wire(transport, session, ticket)}
		if c.send == nil {
			return false
		}
		if err := c.send(alice.connectFrame()); err != nil { // a refused SockJS session is not found
			return false
		}
		return c.frame().Command == "CONNECTED"
	}
	once := alice.ticket()
	if !open("wsConnect", "", once) || open("wsConnect", "", once) || open("websocket", "s1", once) {
		t.Error("a ticket is good for exactly one plain WebSocket")
	}
	many := alice.ticket()
	b.call("GET", "/api/wsConnect/info?ticket="+many, nil, "").want(t, 200)
	if !open("websocket", "s2", many) || !open("websocket", "s3", many) || open("wsConnect", "", many) {
		t.Error("a ticket is good for one SockJS client on several transports, and then for nothing else")
	}
	b.call("POST", "/api/wsConnect/001/s4/xhr?ticket="+many, nil, "").want(t, 401) // another client
	old := alice.ticket()
	b.clock.forward(21 * time.Second)
	for _, ticket := range []string{old, many, "unknown", ""} {
		b.call("GET", "/api/wsConnect/info?ticket="+ticket, nil, "").want(t, 401)
		b.call("GET", "/api/wsConnect/iframe.html?ticket="+ticket, nil, "").want(t, 401)
		b.call("POST", "/api/wsConnect/000/s5/xhr?ticket="+ticket, nil, "").want(t, 401)
		b.call("GET", "/api/wsConnect?ticket="+ticket, nil, "").want(t, 401)
		if open("wsConnect", "", ticket) {
			t.Errorf("ticket %q was taken", ticket)
		}
	}
}

func TestAdmittedSockJSSessionOutlivesItsTicket(t *testing.T) {
	b := start(t, whispsim.Config{})
	alice := b.person("alice")
	c := alice.talk("xhr", "long")
	b.clock.forward(time.Hour)
	c.write("ACK\nid:1\nreceipt:still-here\n\n\x00")
	c.want("RECEIPT")
}

func TestCloseSocketsWithACode(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			b := start(t, whispsim.Config{})
			c := b.person("alice").talk(transport, "s")
			if b.sim.OpenSockets() != 1 {
				t.Fatalf("%d sockets", b.sim.OpenSockets())
			}
			b.sim.CloseSockets(4001, "maintenance")
			if why := c.ended(); why != "4001" {
				t.Errorf("ended: %s, want 4001", why)
			}
			until(t, func() bool { return b.sim.OpenSockets() == 0 })
		})
		t.Run(transport+" cut", func(t *testing.T) {
			b := start(t, whispsim.Config{SockJSDisconnectDelay: 500 * time.Millisecond})
			c := b.person("alice").talk(transport, "s")
			b.sim.CloseSockets(0, "")
			if why := c.ended(); why == "1000" || why == "" {
				t.Errorf("ended: %q, want no close frame", why)
			}
			until(t, func() bool { return b.sim.OpenSockets() == 0 })
		})
	}
}

func TestDeletedUserLosesSockets(t *testing.T) {
	b := start(t, whispsim.Config{})
	alice := b.person("alice")
	c := alice.talk("wsConnect", "")
	alice.call("DELETE", "/api/user/deleteUser", "").want(t, 200)
	if why := c.ended(); why != "1008" {
		t.Errorf("ended: %s, want 1008", why)
	}
	b.sim.AddUser("alice", "alice@example.com", secret.New(password))
}

// until waits for something that happens in other goroutines soon.
func until(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
	}
}
