package store_test

import "crypto/rand"

// cryptoRand is crypto/rand for constructors that Open does not call.
type cryptoRand struct{}

func (cryptoRand) Read(p []byte) (int, error) { return rand.Read(p) }
