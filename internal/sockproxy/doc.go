// Package sockproxy carries realtime: everything under /api/wsConnect, which is
// a Spring SockJS endpoint with STOMP inside.
//
// # What may pass
//
// An allow-list of the SockJS protocol's paths and methods (route.go); of the
// query only ticket, t and c. Origin is checked on every request (origin.go),
// because neither a WebSocket handshake nor a script tag is subject to the
// browser's same-origin rule. A ticket must have been fetched through us by the
// same browser session not more than 20 s ago (ticket.go); it is kept as a hash,
// spent once, and written to no log. All of that happens before Whisp is dialled.
//
// # Tunnels
//
// A WebSocket is two connections and two flows (flow.go), one per direction:
//
//	browser ──up──▶ Whisp       handshake.go checks the browser's handshake,
//	browser ◀─down─ Whisp       answer.go makes our own with Whisp
//
// Whisp's name may have several addresses: a tunnel goes to any of them, spread
// (nodes.go). How often one client address may begin something is bounded (rate.go).
//
// Only after Whisp's 101 is the browser's connection taken over; any other
// answer becomes an ordinary HTTP answer. We negotiate no extension, so there
// is no compression to bomb us with, and a subprotocol comes back only if the
// browser offered it.
//
// An idle flow on plain TCP has neither a buffer nor, on Linux, a goroutine: one
// loop for every two processors waits for all of them (loop_linux.go) and passes on what
// came as long as that needs no waiting. A flow that has to wait, for a full
// socket above all, gets a goroutine until it is idle again. Nothing is read
// before the other side took everything, so one buffer per direction is all
// that is ever in flight, and a peer that takes longer than write_timeout for
// one buffer is cut. Frame headers are followed (frame.go, RFC 6455 section 5.2)
// and payloads are neither copied nor unmasked: that is enough to bound messages,
// refuse what the RFC forbids, and know where a frame ends, the only place
// where a Close frame of our own may be put in.
//
// TLS is different: bytes may wait, decrypted, inside the connection, where no
// readiness tells of them. Reading such a side takes a goroutine and a small
// buffer. So does a listener that wraps its connections: hand us plain ones.
//
// # How a tunnel ends
//
//	open ──Close frame or FIN of one side──▶ passed on, other side has closeGrace
//	open ──reset, write timeout, half-open──▶ cut: both connections closed at once
//	open ──session ended, drain, limit──────▶ closing: a Close frame each way at
//	                                          the next frame boundary, then cut
//
// It lives no longer than its session: EndSession ends it with 1000, and so does what
// the store answers when it is asked, which happens now and then for every session,
// used or not (inquire.go). A store that does not answer ends nothing. [Proxy.Drain] ends
// all with 1012, spread evenly.
//
// A flow that waits for a full dst does not read, and so does not see its src end. On
// plain TCP the loop still hears of a browser's reset and cuts the tunnel. Over
// TLS, and where there are no loops, the limit is write_timeout.
//
// # SockJS over HTTP
//
// Requests are passed on with an allow-list of headers and flushed as they come
// (sockjs.go). The session id a ticket admitted stays admitted for that browser
// session until it has been quiet for sockJSIdle. All its requests go to the node of Whisp
// that answered the first. With a store that replicas share, they may arrive at
// any replica (share.go).
//
// # What is not checked
//
// Payloads: neither UTF-8 nor Close codes nor STOMP. And whether the caller's
// session lives: that is the caller's work before each [Proxy.Serve].
package sockproxy
