//go:build linux

package main

// way is how a visit ends.
type way int

// Ways a WebSocket ends. Before it does, one message was echoed, except where
// the handshake is not finished.
const (
	closeFrame    way = iota // a Close frame, as the RFC has it
	fin                      // the tab is closed
	reset                    // the client crashes
	partFIN                  // in the middle of a frame
	partReset                // the same, and crashed
	unreadReset              // crashed with a lot under way
	unmasked                 // breaks the protocol
	upstreamClose            // Whisp says Close
	upstreamFIN              // Whisp closes without
	upstreamReset            // Whisp crashes
	upstreamPart             // Whisp closes in the middle of a frame
	stays                    // open until all others are gone, or its session
	silent                   // connects and sends nothing
	halfHandshake            // leaves in the middle of its request
	noAnswer                 // crashes before the answer
	// Of SockJS over HTTP: a stream, and a message on another connection.
	sockFIN
	sockReset
	sockUpstreamClose
	sockUpstreamReset
	ways
)

// What the upstream is told, and does.
const (
	tellClose = "bench-close"
	tellFIN   = "bench-fin"
	tellReset = "bench-rst"
	tellPart  = "bench-part"
)

func (w way) sockJS() bool { return w >= sockFIN }

// says is the message that is sent first.
func (w way) says() string {
	switch w {
	case sockUpstreamClose:
		return tellClose
	case sockUpstreamReset:
		return tellReset
	default:
		return "hello"
	}
}

// visit is one socket, or one SockJS session, from beginning to end.
type visit struct {
	Way     way
	Request []byte // that opens it
	Send    []byte `json:",omitempty"` // of SockJS: the request with the message
	// Doomed: its browser session ends meanwhile, so it may end, or be refused, at any time.
	Doomed bool `json:",omitempty"`
	// Vanish: a SockJS client does not come back to hear that its session is gone.
	Vanish bool `json:",omitempty"`
}
