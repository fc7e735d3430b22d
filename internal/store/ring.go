package store

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// A sealed value is
//
//	version (1 byte, 0x01) | key id (4) | nonce (24) | ciphertext | tag (16)
//
// by XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha). AES-256-GCM would take a
// 12-byte nonce, which may be random for 2^32 values per key only: five days of
// ten thousand sessions a second. 24 bytes may be random for ever.
//
// The associated data are version, key id, and — each with its length in front
// — scope, what it is (value or message), and the name.
const (
	sealVersion  = 0x01
	sealOverhead = headLength + chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead
	headLength   = 1 + len(keyID{})
	minKeyLength = 32
)

type keyID [4]byte

type sealKind string

const (
	sealedValue   sealKind = "value"
	sealedMessage sealKind = "message"
)

// ring seals with its newest key and opens with any.
type ring struct {
	scope  string
	rand   io.Reader
	newest sealKey
	keys   map[keyID]sealKey
}

type sealKey struct {
	id   keyID
	aead cipher.AEAD
}

var (
	errShortKey = errors.New("shorter than 32 bytes")
	errSameKey  = errors.New("same key as another")
)

// deriveKey makes key and id of a configured secret (RFC 5869), so that
// whatever text it is, it gives 32 even bytes, and the id tells nothing of it.
func deriveKey(text secret.Text) (sealKey, error) {
	raw := []byte(text.Reveal())
	if len(raw) < minKeyLength {
		return sealKey{}, errShortKey
	}
	derived, err := hkdf.Key(sha256.New, raw, nil, "whisp-bff store seal v1", chacha20poly1305.KeySize+len(keyID{}))
	if err != nil {
		return sealKey{}, fmt.Errorf("derive key: %w", err)
	}
	aead, err := chacha20poly1305.NewX(derived[:chacha20poly1305.KeySize])
	if err != nil {
		return sealKey{}, fmt.Errorf("derive key: %w", err)
	}
	return sealKey{id: keyID(derived[chacha20poly1305.KeySize:]), aead: aead}, nil
}

func (r *ring) seal(kind sealKind, name string, plain []byte) ([]byte, error) {
	sealed := make([]byte, headLength+chacha20poly1305.NonceSizeX, sealOverhead+len(plain))
	sealed[0] = sealVersion
	copy(sealed[1:], r.newest.id[:])
	nonce := sealed[headLength:]
	if _, err := io.ReadFull(r.rand, nonce); err != nil {
		return nil, fmt.Errorf("store: seal: %w", err)
	}
	return r.newest.aead.Seal(sealed, nonce, plain, r.binding(sealed[:headLength], kind, name)), nil
}

// open returns a new slice, or an error that wraps ErrSealed.
func (r *ring) open(kind sealKind, name string, sealed []byte) ([]byte, error) {
	if len(sealed) < sealOverhead || sealed[0] != sealVersion {
		return nil, fmt.Errorf("%w: not a sealed value", ErrSealed)
	}
	head, rest := sealed[:headLength], sealed[headLength:]
	key, known := r.keys[keyID(head[1:])]
	if !known {
		return nil, fmt.Errorf("%w: key %x is not in the ring", ErrSealed, head[1:])
	}
	nonce, ciphertext := rest[:chacha20poly1305.NonceSizeX], rest[chacha20poly1305.NonceSizeX:]
	plain, err := key.aead.Open(nil, nonce, ciphertext, r.binding(head, kind, name))
	if err != nil {
		return nil, fmt.Errorf("%w: altered or moved", ErrSealed)
	}
	return plain, nil
}

func (r *ring) binding(head []byte, kind sealKind, name string) []byte {
	data := make([]byte, 0, len(head)+3*binary.MaxVarintLen32+len(r.scope)+len(kind)+len(name))
	data = append(data, head...)
	for _, field := range []string{r.scope, string(kind), name} {
		data = binary.AppendUvarint(data, uint64(len(field)))
		data = append(data, field...)
	}
	return data
}
