package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func noEnvironment(string) string { return "" }

func TestItServesAndStops(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	addresses := make(chan [2]string, 1)
	environment := func(name string) string { return map[string]string{keyVariable: "key-2"}[name] }
	command := newCommand(environment, func(whisp, control string) { addresses <- [2]string{whisp, control} })
	var out bytes.Buffer
	command.SetOut(&out)
	command.SetErr(io.Discard)
	command.SetArgs([]string{"--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--api-key", "key-1", "--user", "alice:SecureP@ss123"})
	ended := make(chan error, 1)
	go func() { ended <- command.ExecuteContext(ctx) }()
	var at [2]string
	select {
	case at = <-addresses:
	case err := <-ended:
		t.Fatalf("it did not start: %v", err)
	}

	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for _, key := range []string{"key-1", "key-2"} {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+at[0]+"/api/user/signin",
			strings.NewReader(`{"username":"alice","password":"SecureP@ss123"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("x-api-key", key)
		r.Header.Set("Content-Type", "application/json")
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Errorf("%s: status %d", key, answer.StatusCode)
		}
	}
	answer, err := client.Get("http://" + at[1] + "/users")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if !strings.Contains(string(body), `"username":"alice"`) {
		t.Errorf("users: %s", body)
	}

	stop()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	if text := out.String(); !strings.Contains(text, "http://"+at[0]) || !strings.Contains(text, "http://"+at[1]) {
		t.Errorf("printed %q", text)
	}
}

func TestMistakesAreExplained(t *testing.T) {
	for says, args := range map[string][]string{
		"--api-key":     {},
		"name:password": {"--api-key", "k", "--user", "alice"},
		"password: ":    {"--api-key", "k", "--user", "alice:weak"},
		"listen":        {"--api-key", "k", "--listen", "256.0.0.1:1"},
	} {
		command := newCommand(noEnvironment, nil)
		command.SetArgs(args)
		command.SetOut(io.Discard)
		command.SetErr(io.Discard)
		if err := command.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v, want it to mention %q", args, err, says)
		}
	}
}
