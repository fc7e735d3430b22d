// Package whispsim simulates the Whisp chat service: every REST operation of
// testdata/openapi.json and realtime, as one [http.Handler] held in memory.
//
// Tests put it behind httptest, the demo behind a listener of its own, and
// anybody may run cmd/whispsim to try a frontend without an account at Whisp.
// It is a product of its own (README.md in this folder is its manual) and is
// never linked into whisp-bff.
//
// # Strict by default
//
// Whatever a client of ours could get away with at Whisp by luck is refused
// here: passwords must pass a strict policy, JSON names are case-sensitive, a
// JSON request without a JSON content type is 415, tickets are used once, a
// STOMP frame that is wrong in itself closes the socket, and answers whose
// body nobody promises have none. What the vendor's documentation leaves open
// is decided in one place and listed in README.md under "Assumed".
//
// # Faults on demand
//
// [Server.Fail] (or POST /faults on [Server.Control]) makes the next calls of
// an operation slow, refused, cut off, mangled or never answered;
// [Server.RevokeKey] and [Server.CloseSockets] do what their names say.
// [Server.Requests] tells afterwards what reached us, header by header.
//
// # How it is built
//
// All state sits behind one mutex, [Server].mu, and every operation runs
// inside it from its first check to its last event: an operation is atomic,
// and all members of a chat see its events in the order in which they
// happened. Nothing ever blocks inside: events are appended to each socket's
// queue, and a goroutine that lives only while that queue is not empty writes
// them out. An idle socket costs its reading goroutine and no more.
//
// The codec of STOMP frames is in the folder stomp, the SockJS transports in
// the folder sockjs; neither knows of chats.
//
// # What is not simulated
//
// Rate limits (use a [Fault] with status 429), persistence, several nodes
// sharing their state, message search, files, push notifications, and the
// dashboard API.
package whispsim
