package whispsim

import "net/http"

const closePolicy = 1008

type stompSession struct{}

func (*stompSession) deliver([]byte)    {}
func (*stompSession) close(int, string) {}
func (*stompSession) cut()              {}

func (s *Server) admitSockJS() {}
func (s *Server) openSockJS()  {}

func (s *Server) routeRealtime(*http.Request, string) target {
	return target{id: "wsConnect", serve: s.always(answer{status: http.StatusNotImplemented})}
}
