package whispsim_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

func TestRegisterUser(t *testing.T) {
	valid := object("username", "johndoe", "email", "john@example.com", "password", password)
	cases := []struct {
		name   string
		header map[string]string
		body   string
		status int
		says   string
	}{
		{"valid", withKey(), valid, 201, ""},
		{"same name again", withKey(), valid, 400, "Username already exists"},
		{"same e-mail", withKey(), object("username", "other", "email", "john@example.com", "password", password), 201, ""},
		{"optional and unknown fields", withKey(), object("username", "full", "email", "f@example.com", "password", password,
			"firstName", "F", "surName", nil, "shoeSize", 42), 201, ""},
		{"no key", nil, valid, 401, ""},
		{"wrong key", map[string]string{"x-api-key": "nope"}, valid, 401, ""},
		{"name too short", withKey(), object("username", "jo", "email", "j@example.com", "password", password), 400, "username"},
		{"name too long", withKey(), object("username", strings.Repeat("é", 51), "email", "j@example.com", "password", password), 400, "username"},
		{"name of 50 letters", withKey(), object("username", strings.Repeat("é", 50), "email", "j@example.com", "password", password), 201, ""},
		{"name missing", withKey(), object("email", "j@example.com", "password", password), 400, "username"},
		{"name in wrong case", withKey(), object("userName", "johndoe9", "email", "j@example.com", "password", password), 400, "username"},
		{"name a number", withKey(), object("username", 12345, "email", "j@example.com", "password", password), 400, "username"},
		{"bad e-mail", withKey(), object("username", "jane", "email", "jane", "password", password), 400, "email"},
		{"weak password", withKey(), object("username", "jane", "email", "j@example.com", "password", "password123"), 400, "password"},
		{"short password", withKey(), object("username", "jane", "email", "j@example.com", "password", "aA1!"), 400, "password"},
		{"password bcrypt would cut", withKey(), object("username", "jane", "email", "j@example.com", "password", strings.Repeat("aA1!", 19)), 400, "password"},
		{"not JSON", withKey(), "{", 400, "JSON"},
		{"a list", withKey(), "[]", 400, "JSON"},
		{"null", withKey(), "null", 400, "JSON"},
		{"form", map[string]string{"x-api-key": goodKey, "Content-Type": "text/plain"}, valid, 415, "Content-Type"},
	}
	b := start(t, whispsim.Config{})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := b.call("POST", "/api/user/registerUser", c.header, c.body).want(t, c.status)
			if c.says == "" {
				if r.body != "" {
					t.Errorf("body = %q, want none", r.body)
				}
				return
			}
			var body struct{ Message string }
			r.decode(t, &body)
			if !strings.Contains(body.Message, c.says) {
				t.Errorf("message = %q, want it to mention %q", body.Message, c.says)
			}
		})
	}
}

func TestRegisterUserLimits(t *testing.T) {
	b := start(t, whispsim.Config{MaxUsers: 2, UniqueEmail: true, LaxPasswords: true})
	register := func(name, email string) reply {
		return b.call("POST", "/api/user/registerUser", withKey(), object("username", name, "email", email, "password", "password123"))
	}
	register("alice", "same@example.com").want(t, 201)
	register("bobby", "Same@example.com").want(t, 400)
	register("bobby", "bob@example.com").want(t, 201)
	register("carol", "carol@example.com").want(t, 429)
}

func TestSignInAndWhatItGives(t *testing.T) {
	b := start(t, whispsim.Config{})
	id := b.sim.AddUser("alice", "alice@example.com", secret.New(password))
	r := b.call("POST", "/api/user/signin", withKey(), object("username", "alice", "password", password)).want(t, 200)

	var body map[string]any
	r.decode(t, &body)
	for field, want := range map[string]string{"id": id, "username": "alice", "email": "alice@example.com", "roles": "[USER]"} {
		if got := fmt.Sprint(body[field]); got != want {
			t.Errorf("%s = %s, want %s", field, got, want)
		}
	}
	if token, _ := body["refreshToken"].(string); !b.sim.RefreshTokenAlive(secret.New(token)) {
		t.Error("the refresh token is not alive")
	}
	if !strings.HasPrefix(r.header.Get("Authorization"), "Bearer ") {
		t.Errorf("Authorization = %q", r.header.Get("Authorization"))
	}
	claims := claimsOf(t, r.jwt())
	if claims["sub"] != id || claims["username"] != "alice" || claims["ROLE"] == nil {
		t.Errorf("claims = %v", claims)
	}
	if life := claims["exp"].(float64) - claims["iat"].(float64); life != 300 {
		t.Errorf("life = %v s, want 300", life)
	}

	for name, body := range map[string]string{
		"wrong password": object("username", "alice", "password", password+"!"),
		"wrong name":     object("username", "Alice", "password", password),
	} {
		if r := b.call("POST", "/api/user/signin", withKey(), body).want(t, 401); r.body != "" {
			t.Errorf("%s: body = %q, want none", name, r.body)
		}
	}
	b.call("POST", "/api/user/signin", withKey(), object("username", "alice")).want(t, 400)
}

func claimsOf(t *testing.T, jwt string) map[string]any {
	t.Helper()
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		t.Fatalf("JWT has %d parts", len(parts))
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(text, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestBareJWT(t *testing.T) {
	b := start(t, whispsim.Config{BareJWT: true})
	alice := b.person("alice")
	if strings.Contains(alice.jwt, " ") {
		t.Errorf("Authorization = %q, want a bare JWT", alice.jwt)
	}
	alice.call("GET", "/api/user/getUser", "").want(t, 200)
	b.call("GET", "/api/user/getUser", map[string]string{"Authorization": alice.jwt}, "").want(t, 401)
}

func TestKeysComeAndGo(t *testing.T) {
	b := start(t, whispsim.Config{APIKeys: []secret.Text{secret.New("one"), secret.New("two")}, KeyRefusedStatus: 403})
	b.sim.AddUser("alice", "alice@example.com", secret.New(password))
	signIn := func(key string) int {
		return b.call("POST", "/api/user/signin", map[string]string{"x-api-key": key}, object("username", "alice", "password", password)).status
	}
	if signIn("one") != 200 || signIn("two") != 200 || signIn("three") != 403 || signIn("") != 403 {
		t.Fatal("exactly the keys of the configuration should work")
	}
	b.sim.RevokeKey(secret.New("one"))
	b.sim.RestoreKey(secret.New("three"))
	if signIn("one") != 403 || signIn("two") != 200 || signIn("three") != 200 {
		t.Fatal("a revoked key works, or a restored one does not")
	}
}

func TestJWTIsChecked(t *testing.T) {
	b := start(t, whispsim.Config{})
	alice := b.person("alice")
	parts := strings.Split(alice.jwt, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + parts[1] + "."
	cases := map[string]string{
		"none at all":     "",
		"no scheme":       alice.jwt,
		"other scheme":    "Basic " + alice.jwt,
		"not a JWT":       "Bearer invalid.jwt.token",
		"other signature": "Bearer " + parts[0] + "." + parts[1] + "." + strings.Repeat("A", len(parts[2])),
		"alg none":        "Bearer " + none,
		"refresh token":   "Bearer " + alice.refresh,
	}
	for name, value := range cases {
		t.Run(name, func(t *testing.T) {
			r := b.call("GET", "/api/user/getUser", map[string]string{"Authorization": value}, "").want(t, 401)
			var body map[string]any
			r.decode(t, &body)
			if body["status"] != "401" || body["code"] != "AUTH_INVALID_TOKEN" || body["instance"] != "/api/user/getUser" {
				t.Errorf("body = %v", body)
			}
			if r.header.Get("WWW-Authenticate") == "" {
				t.Error("no WWW-Authenticate")
			}
		})
	}
	b.call("GET", "/api/user/getUser", map[string]string{"Authorization": "bEARER " + alice.jwt}, "").want(t, 200)
	b.clock.forward(299 * time.Second)
	alice.call("GET", "/api/user/getUser", "").want(t, 200)
	b.clock.forward(2 * time.Second)
	alice.call("GET", "/api/user/getUser", "").want(t, 401)
}

func TestGetUserSaysRole(t *testing.T) {
	alice := start(t, whispsim.Config{}).person("alice")
	var body map[string]any
	alice.call("GET", "/api/user/getUser", "").want(t, 200).decode(t, &body)
	if body["id"] != alice.id || body["username"] != "alice" || body["role"] == nil || body["roles"] != nil {
		t.Errorf("body = %v", body)
	}
}

func TestRefresh(t *testing.T) {
	b := start(t, whispsim.Config{RefreshLife: time.Hour})
	alice, bob := b.person("alice"), b.person("bobby")
	refresh := func(token, expired string) reply {
		return b.call("POST", "/api/auth/refresh", map[string]string{"Authorization": "Bearer " + token}, object("expiredJwt", expired))
	}
	b.clock.forward(10 * time.Minute)
	for name, expired := range map[string]string{"bare": alice.jwt, "with Bearer": "Bearer " + alice.jwt} {
		r := refresh(alice.refresh, expired).want(t, 200)
		if r.body != "" || r.jwt() == "" || r.jwt() == alice.jwt {
			t.Errorf("%s: body %q, JWT %q", name, r.body, r.jwt())
		}
		alice := *alice
		alice.jwt = r.jwt()
		alice.call("GET", "/api/user/getUser", "").want(t, 200)
		refresh(alice.refresh, alice.jwt).want(t, 200) // not expired: fine
	}
	refresh(alice.refresh, bob.jwt).want(t, 401)
	refresh(alice.refresh, "placeholder").want(t, 401)
	refresh("unknown", alice.jwt).want(t, 401)
	b.call("POST", "/api/auth/refresh", map[string]string{"Authorization": alice.refresh}, object("expiredJwt", alice.jwt)).want(t, 401)
	b.call("POST", "/api/auth/refresh", map[string]string{"Authorization": "Bearer " + alice.refresh}, "{}").want(t, 400)
	b.clock.forward(time.Hour)
	refresh(alice.refresh, alice.jwt).want(t, 401)
}

func TestLogout(t *testing.T) {
	b := start(t, whispsim.Config{})
	bob := b.person("bobby")
	one := b.person("alice")
	two, three := b.signIn("alice"), b.signIn("alice")
	alive := func() string {
		var list []bool
		for _, p := range []*person{one, two, three, bob} {
			list = append(list, b.sim.RefreshTokenAlive(secret.New(p.refresh)))
		}
		return fmt.Sprint(list)
	}
	one.call("POST", "/api/auth/logout", object("refreshToken", one.refresh)).want(t, 200)
	one.call("POST", "/api/auth/logout", object("refreshToken", bob.refresh)).want(t, 200)
	if got := alive(); got != "[false true true true]" {
		t.Fatalf("after logout alive = %s", got)
	}
	one.call("POST", "/api/auth/logoutAll", "").want(t, 200)
	if got := alive(); got != "[false false false true]" {
		t.Fatalf("after logoutAll alive = %s", got)
	}
	one.call("GET", "/api/user/getUser", "").want(t, 200) // the JWT lives on
}

func TestChangeUsername(t *testing.T) {
	b := start(t, whispsim.Config{})
	alice := b.person("alice")
	b.person("bobby")
	alice.call("POST", "/api/user/changeUsername", object("newUsername", "bobby")).want(t, 400)
	alice.call("POST", "/api/user/changeUsername", object("newUsername", "al")).want(t, 400)
	r := alice.call("POST", "/api/user/changeUsername", object("newUsername", "alicia")).want(t, 200)
	if claims := claimsOf(t, r.jwt()); claims["username"] != "alicia" || claims["sub"] != alice.id {
		t.Errorf("claims = %v", claims)
	}
	b.call("POST", "/api/user/signin", withKey(), object("username", "alice", "password", password)).want(t, 401)
	b.call("POST", "/api/user/signin", withKey(), object("username", "alicia", "password", password)).want(t, 200)
	b.call("POST", "/api/user/registerUser", withKey(), object("username", "alice", "email", "a@example.com", "password", password)).want(t, 201)
}

func TestChatLife(t *testing.T) {
	b := start(t, whispsim.Config{})
	alice, bob, carol := b.person("alice"), b.person("bobby"), b.person("carol")
	create := func(name string, names ...string) reply {
		return alice.call("POST", "/api/chat/createChat", object("chatName", name, "userNames", names))
	}
	create("x", "bobby", "carol").want(t, 400)
	create("x", "alice").want(t, 400)
	create("x", "alice", "nobody").want(t, 400)
	create(" ", "alice", "bobby").want(t, 400)
	alice.call("POST", "/api/chat/createChat", object("chatName", "x", "userNames", "alice")).want(t, 400)

	r := create("Project", "alice", "bobby").want(t, 201)
	var chat map[string]any
	r.decode(t, &chat)
	if chat["chatName"] != "Project" || chat["creator"] != alice.id || chat["groupChat"] != false || chat["lastMessage"] != nil {
		t.Errorf("chat = %v", chat)
	}
	id := chat["chatId"].(string)

	carol.call("GET", "/api/chat/getUsers/"+id, "").want(t, 400)
	alice.call("GET", "/api/chat/getUsers/nonsense", "").want(t, 400)
	carol.call("POST", "/api/chat/addUser", object("chatId", id, "newUsername", "carol")).want(t, 400)
	bob.call("POST", "/api/chat/addUser", object("chatId", id, "newUsername", "nobody")).want(t, 400)
	bob.call("POST", "/api/chat/addUser", object("chatId", id, "newUsername", "carol")).want(t, 200)
	bob.call("POST", "/api/chat/addUser", object("chatId", id, "newUsername", "carol")).want(t, 400)
	if got := members(t, alice, id); got != "alice bobby carol" {
		t.Errorf("members = %s", got)
	}
	carol.call("POST", "/api/chat/changeName", object("chatId", id, "newChatName", "Renamed")).want(t, 200)
	carol.call("POST", "/api/chat/changeName", object("chatId", id, "newChatName", "")).want(t, 400)
	if got := chatsOf(t, bob); got != "Renamed" {
		t.Errorf("chats of bob = %s", got)
	}

	bob.call("DELETE", "/api/chat/deleteChat?chatId="+id, "").want(t, 400)
	bob.call("POST", "/api/chat/removeUser", object("chatId", id, "removeUser", carol.id)).want(t, 400)
	alice.call("POST", "/api/chat/removeUser", object("chatId", id, "removeUser", alice.id)).want(t, 200)
	alice.call("GET", "/api/chat/getUsers/"+id, "").want(t, 400)
	bob.call("POST", "/api/chat/removeUser", object("chatId", id, "removeUser", carol.id)).want(t, 200) // the owner now
	bob.call("DELETE", "/api/chat/deleteChat?chatId=1", "").want(t, 400)
	bob.call("DELETE", "/api/chat/deleteChat?chatId="+id, "").want(t, 200)
	if got := chatsOf(t, bob); got != "" {
		t.Errorf("chats of bob = %s", got)
	}
}

func TestGetChatsPages(t *testing.T) {
	b := start(t, whispsim.Config{})
	alice, bob := b.person("alice"), b.person("bobby")
	for i := range 5 {
		b.clock.forward(time.Second)
		alice.chat(fmt.Sprint("chat", i), bob)
	}
	for query, want := range map[string]string{
		"":                 "chat4 chat3 chat2 chat1 chat0",
		"?page=0&size=2":   "chat4 chat3",
		"?page=2&size=2":   "chat0",
		"?page=9&size=100": "",
	} {
		if got := names(t, alice.call("GET", "/api/chat/getChats"+query, "")); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	for _, query := range []string{"?page=-1", "?size=0", "?size=x"} {
		alice.call("GET", "/api/chat/getChats"+query, "").want(t, 400)
	}
}

func TestDeleteUser(t *testing.T) {
	b := start(t, whispsim.Config{})
	alice, bob := b.person("alice"), b.person("bobby")
	id := alice.chat("ours", bob)
	alice.call("DELETE", "/api/user/deleteUser", "").want(t, 200)
	alice.call("GET", "/api/user/getUser", "").want(t, 401)
	b.call("POST", "/api/user/signin", withKey(), object("username", "alice", "password", password)).want(t, 401)
	if b.sim.RefreshTokenAlive(secret.New(alice.refresh)) {
		t.Error("the refresh token outlived its user")
	}
	if got := members(t, bob, id); got != "bobby" {
		t.Errorf("members = %s", got)
	}
	if users := b.sim.Users(); len(users) != 1 || users[0].Username != "bobby" {
		t.Errorf("users = %v", users)
	}
}

func members(t *testing.T, p *person, chat string) string {
	t.Helper()
	var body struct {
		Users []struct{ Username, UserID, JoinedChatAt string }
	}
	p.call("GET", "/api/chat/getUsers/"+chat, "").want(t, 200).decode(t, &body)
	var list []string
	for _, u := range body.Users {
		if _, err := time.Parse(time.RFC3339, u.JoinedChatAt); err != nil || u.UserID == "" {
			t.Errorf("member %v", u)
		}
		list = append(list, u.Username)
	}
	return strings.Join(list, " ")
}

func chatsOf(t *testing.T, p *person) string {
	t.Helper()
	return names(t, p.call("GET", "/api/chat/getChats", ""))
}

func names(t *testing.T, r reply) string {
	t.Helper()
	var body struct{ Chats []struct{ ChatName string } }
	r.want(t, 200).decode(t, &body)
	var list []string
	for _, c := range body.Chats {
		list = append(list, c.ChatName)
	}
	return strings.Join(list, " ")
}

func TestPathsAreMatchedAsSpringDoes(t *testing.T) {
	b := start(t, whispsim.Config{})
	for path, want := range map[string]int{
		"/api/user/%73ignin":        401, // decoded, then matched: reaches signin
		"/api/user/signin/":         404,
		"/api/user/SIGNIN":          404,
		"/api//user/signin":         400,
		"/api/user/signin;v=1":      400,
		"/api/user/x/../signin":     400,
		"/api/user/x/%2e%2e/signin": 400,
		"/api/user%2fsignin":        400,
		"/api/user/signin%00":       400,
		"/api/user/getUser":         405,
		"/":                         404,
		"/api/wsConnectX":           404,
	} {
		if r := b.call("POST", path, nil, "{}"); r.status != want {
			t.Errorf("POST %s: %d, want %d", path, r.status, want)
		}
	}
}

func TestCORS(t *testing.T) {
	b := start(t, whispsim.Config{})
	r := b.call("OPTIONS", "/api/user/getUser", map[string]string{
		"Origin": "https://app.example.com", "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization",
	}, "").want(t, 200)
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin":      "https://app.example.com",
		"Access-Control-Allow-Credentials": "true",
		"Access-Control-Allow-Headers":     "authorization",
		"Access-Control-Allow-Methods":     "GET",
	} {
		if got := r.header.Get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	alice := b.person("alice")
	r = b.call("GET", "/api/user/getUser", map[string]string{"Origin": "https://app.example.com", "Authorization": "Bearer " + alice.jwt}, "")
	if !slices.Contains(r.header.Values("Access-Control-Expose-Headers"), "Authorization") {
		t.Errorf("headers = %v", r.header)
	}
}

func TestNodeBalancerAndBench(t *testing.T) {
	b := start(t, whispsim.Config{Node: "a", BalancerCookie: "AWSALB", Bench: true})
	r := b.call("GET", "/api/user/getUser", nil, "").want(t, 401)
	cookies := strings.Join(r.header.Values("Set-Cookie"), "\n")
	if r.header.Get("X-Sim-Node") != "a" || !strings.Contains(cookies, "AWSALB=") || !strings.Contains(cookies, "AWSALBCORS=") {
		t.Errorf("headers = %v", r.header)
	}
	r = b.call("GET", "/bench/1k", nil, "").want(t, 200)
	if len(r.body) != 1024 || !json.Valid([]byte(r.body)) {
		t.Errorf("body of %d bytes", len(r.body))
	}
	start(t, whispsim.Config{}).call("GET", "/bench/1k", nil, "").want(t, 404)
}
