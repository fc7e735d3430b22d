// Package sockjs is the server's end of SockJS 0.3.3, all transports, the way
// Spring speaks it
// (https://sockjs.github.io/sockjs-protocol/sockjs-protocol-0.3.3.html).
//
// A client opens a session under an id of its own choosing and receives frames
// over one transport: "o" open, "h" heart-beat, "a[…]" messages, "c[code,
// reason]" close. Over HTTP one request at a time receives; what comes in
// between waits in the session's queue. A session over HTTP lives as follows:
//
//	        first request admitted
//	              │
//	              ▼      answer ends       ┌─────────┐ DisconnectDelay
//	┌───────▶ attached ──────────────────▶ │ waiting │ ──────────────▶ gone
//	│             │                        └─────────┘
//	│             │ client aborts: 1002        │
//	│             ▼                            │ next request
//	│          closed ── DisconnectDelay ─▶ gone
//	└──────────────────────────────────────────┘
//
// A closed session answers each request with its close frame until it is gone.
//
// Who may open a session is not decided here: [Config].Admit and Open see every
// request that is not part of a session already opened. Session ids are as
// secret as their client keeps them; that a session's requests all come from
// the same person is not checked, as it is not by Spring.
package sockjs
