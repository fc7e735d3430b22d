package sockproxy

import (
	"crypto/sha1" //nolint:gosec // RFC 6455 section 1.3 wants SHA-1; nothing depends on its strength
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/whisp-bff/whisp-bff/internal/problem"
)

const (
	keyGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // RFC 6455 section 1.3
	// maxProtocols and maxProtocol bound what is passed on of a client's offer.
	maxProtocols = 16
	maxProtocol  = 64
)

// opening is a browser's opening handshake that passed checkOpening.
type opening struct {
	key       string
	protocols []string // as offered, in order
}

// checkOpening checks a client's handshake: RFC 6455 section 4.2.1, stricter
// where it lets pass what no client sends (doubled fields, a body).
func checkOpening(r *http.Request) (opening, error) {
	if r.Method != http.MethodGet || r.ProtoMajor != 1 || r.ProtoMinor < 1 ||
		r.ContentLength != 0 || len(r.TransferEncoding) > 0 ||
		!hasToken(r.Header["Upgrade"], "websocket") || !hasToken(r.Header["Connection"], "upgrade") {
		return opening{}, problem.UpgradeInvalid()
	}
	if version := r.Header["Sec-Websocket-Version"]; len(version) != 1 || version[0] != "13" {
		return opening{}, upgradeRequired()
	}
	key := r.Header["Sec-Websocket-Key"]
	if len(key) != 1 || !validKey(key[0]) {
		return opening{}, problem.UpgradeInvalid()
	}
	protocols, ok := offered(r.Header["Sec-Websocket-Protocol"])
	if !ok {
		return opening{}, problem.UpgradeInvalid()
	}
	return opening{key: key[0], protocols: protocols}, nil
}

// upgradeRequired is the answer to another version (RFC 6455 section 4.2.2);
// the caller sets Sec-WebSocket-Version.
func upgradeRequired() *problem.Problem {
	p := *problem.UpgradeInvalid()
	p.Status = http.StatusUpgradeRequired
	return &p
}

// validKey reports whether key is the base64 of 16 bytes.
func validKey(key string) bool {
	decoded, err := base64.StdEncoding.DecodeString(key)
	return err == nil && len(decoded) == 16 && len(key) == 24
}

// offered reads Sec-WebSocket-Protocol: unique tokens (RFC 6455 section 4.1).
func offered(lines []string) (protocols []string, ok bool) {
	for _, line := range lines {
		for item := range strings.SplitSeq(line, ",") {
			item = strings.Trim(item, " \t")
			if item == "" || len(item) > maxProtocol || len(protocols) == maxProtocols || !consists(item, "!#$%&'*+-.^_`|~") {
				return nil, false
			}
			for _, earlier := range protocols {
				if item == earlier {
					return nil, false
				}
			}
			protocols = append(protocols, item)
		}
	}
	return protocols, true
}

// hasToken looks for a token in a comma-separated list, whatever its case
// ("Connection: keep-alive, Upgrade" is common).
func hasToken(lines []string, token string) bool {
	for _, line := range lines {
		for item := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.Trim(item, " \t"), token) {
				return true
			}
		}
	}
	return false
}

// acceptKey is what a server answers to a key (RFC 6455 section 4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + keyGUID)) //nolint:gosec // see import
	return base64.StdEncoding.EncodeToString(sum[:])
}
