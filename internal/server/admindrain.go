package server

import (
	"errors"
	"net/http"
)

// adminDrain empties this process of realtime while it goes on with everything
// else: before a node is taken away, or to move people to other replicas.
//
//	POST /admin/drain   begins, and says how much is left; again: says it
//	GET  /admin/drain   says it
//
// From then on /readyz is 503, sockets and SockJS sessions are refused with 503, and
// those open are closed with 1012, spread over realtime.drain. There is no
// way back but a restart: whoever balances has long sent everybody elsewhere.
type adminDrain struct{ site *Site }

func (a adminDrain) register(api *adminAPI) {
	api.endpoint("/admin/drain", map[string]func(*adminCall) error{http.MethodPost: a.begin, http.MethodGet: a.show})
}

type drainJSON struct {
	Draining       bool `json:"draining"`
	Tunnels        int  `json:"tunnels"`
	SockJSSessions int  `json:"sockjsSessions"`
}

func (a adminDrain) begin(c *adminCall) error {
	a.site.parts.Realtime.BeginDrain()
	return a.answer(c, http.StatusAccepted)
}

func (a adminDrain) show(c *adminCall) error { return a.answer(c, http.StatusOK) }

func (a adminDrain) answer(c *adminCall, status int) error {
	draining, tunnels, sockJS := a.site.parts.Realtime.Draining()
	return c.write(status, drainJSON{draining, tunnels, sockJS})
}

var errDrained = errors.New("drained on demand")

// realtimeReady is the check of /readyz: a process without realtime is no place to
// send people.
func (s *Site) realtimeReady() error {
	if draining, _, _ := s.parts.Realtime.Draining(); draining {
		return errDrained
	}
	return nil
}
