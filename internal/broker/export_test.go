package broker

import (
	"context"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// PasswordForTest derives what an account of id would have as its password.
func PasswordForTest(masterSecret string, id identity.Identity) (string, error) {
	password, err := master{value: secret.New(masterSecret)}.password(id)
	return password.Reveal(), err
}

// WorkOutbox does what Run does every now and then.
func (b *Broker) WorkOutbox(ctx context.Context) error { return b.outbox.work(ctx) }
