package upstream

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/problem"
)

const chat = "550e8400-e29b-41d4-a716-446655440000"

func TestMatchLetsTheDocumentedRoutesPass(t *testing.T) {
	r := newRoutes(nil)
	for _, line := range []string{
		"POST /api/user/changeUsername changeUsername",
		"DELETE /api/user/deleteUser deleteUser",
		"GET /api/user/getUser getUser",
		"GET /api/auth/getTicket getTicket",
		"GET /api/user/getTicket getTicket",
		"POST /api/auth/refresh refreshToken",
		"POST /api/auth/logout logout",
		"POST /api/auth/logoutAll logoutAll",
		"POST /api/chat/createChat createChat",
		"GET /api/chat/getChats getChats",
		"POST /api/chat/addUser addUserToChat",
		"GET /api/chat/getUsers/" + chat + " getChatUsers",
		"POST /api/chat/changeName changeChatName",
		"DELETE /api/chat/deleteChat deleteChat",
		"POST /api/chat/removeUser removeUserFromChat",
		"GET /api/messages/getMessages/" + strings.ToUpper(chat) + " getMessages",
	} {
		f := strings.Fields(line)
		route, err := r.match(f[0], f[1])
		if err != nil || route.Operation != f[2] || route.Path != f[1] {
			t.Errorf("%s: got %+v, %v", line, route, err)
		}
	}
}

// security.md 25: no spelling of a route that takes the key ever matches.
func TestMatchRefusesEverythingElse(t *testing.T) {
	r := newRoutes([]ExtraRoute{{http.MethodPost, "/api/user/{action}"}, {http.MethodGet, "/api/{a}/{b}"}})
	for path, code := range map[string]string{
		"/api/user/signin":                        "route_forbidden",
		"/api/user/registerUser":                  "route_forbidden",
		"/api/user/SignIn":                        "route_forbidden",
		"/api/user/REGISTERUSER":                  "route_forbidden",
		"/api/user/sign-in":                       "route_forbidden",
		"/api/user/signin/x":                      "route_forbidden",
		"/api/messages/getMessages/not-a-uuid":    "route_forbidden",
		"/api/messages/getMessages/" + chat + "0": "route_forbidden",
		"/API/user/getUser":                       "route_forbidden",
		"/api/USER/getuser/x":                     "route_forbidden",
		"/api/wsConnect/info/websocket":           "route_forbidden",
		"/actuator":                               "route_forbidden",
		"/api//user/signin":                       "path_not_canonical",
		"//api/user/signin":                       "path_not_canonical",
		"/api/./user/signin":                      "path_not_canonical",
		"/api/x/../user/signin":                   "path_not_canonical",
		"/api/x/%2e%2e/user/signin":               "path_not_canonical",
		"/api/user%2fsignin":                      "path_not_canonical",
		"/api/user/%73ignin":                      "path_not_canonical",
		"/api/user/%2573ignin":                    "path_not_canonical",
		"/api/user/signin;v=1":                    "path_not_canonical",
		"/api/user/..;/user/signin":               "path_not_canonical",
		"/api/user/signin.":                       "path_not_canonical",
		"/api/user/signin/":                       "path_not_canonical",
		"/api/user/getUser/":                      "path_not_canonical",
		"/api/user/signin%20":                     "path_not_canonical",
		"/api/user/signin ":                       "path_not_canonical",
		"/api/user/signin%00":                     "path_not_canonical",
		"/api/user/sign\x00in":                    "path_not_canonical",
		`/api/user\signin`:                        "path_not_canonical",
		"/api/user/sıgnin":                        "path_not_canonical",
		"/api/user/get%55ser":                     "path_not_canonical",
		"/api/user/" + strings.Repeat("a", 3000):  "path_not_canonical",
		"api/user/getUser":                        "path_not_canonical",
		"/":                                       "path_not_canonical",
		"":                                        "path_not_canonical",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			if strings.HasPrefix(path, "/api/messages/getMessages") && method == http.MethodPost {
				continue
			}
			route, err := r.match(method, path)
			if err == nil || problem.From(err).Code != code {
				t.Errorf("%s %q: got %+v, %v, want %s", method, path, route, err, code)
			}
		}
	}
}

func TestMatchTellsTheMethodsThatARouteTakes(t *testing.T) {
	r := newRoutes([]ExtraRoute{{http.MethodPut, "/api/user/getUser"}})
	for _, method := range []string{http.MethodHead, http.MethodOptions, http.MethodPost, "get", "CONNECT"} {
		_, err := r.match(method, "/api/user/getUser")
		wrong, ok := errors.AsType[*MethodError](err)
		if !ok || wrong.Allow != "GET, PUT" || problem.From(err).Status != http.StatusMethodNotAllowed {
			t.Errorf("%s: got %v", method, err)
		}
	}
}

func TestMatchOfAnAddedRoute(t *testing.T) {
	r := newRoutes([]ExtraRoute{{http.MethodPost, "/api/chat/pin/{chatId}"}})
	route, err := r.match(http.MethodPost, "/api/chat/pin/abc")
	if err != nil || route.Operation != "extra" || route.Path != "/api/chat/pin/abc" {
		t.Errorf("got %+v, %v", route, err)
	}
	if _, err := r.match(http.MethodPost, "/api/chat/pin/"+strings.Repeat("x", 129)); err == nil {
		t.Error("a parameter of 129 bytes matched")
	}
}
