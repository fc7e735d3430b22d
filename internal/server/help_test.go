package server_test

import (
	"net/http"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

func secretOf(text string) secret.Text { return secret.New(text) }

func cookies(line string) option {
	return func(r *http.Request) { r.Header["Cookie"] = []string{line} }
}

func failing(operation string, status int) whispsim.Fault {
	return whispsim.Fault{Operation: operation, Status: status}
}

// flip changes the first character.
func flip(text string) string {
	if text[0] == 'A' {
		return "B" + text[1:]
	}
	return "A" + text[1:]
}

func hanging(operation string) whispsim.Fault {
	return whispsim.Fault{Operation: operation, Hang: true}
}
