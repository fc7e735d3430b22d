package config

import "testing"

func TestNearest(t *testing.T) {
	known := []string{"issuer", "client_id", "client_secret", "scopes", "url", "ca_file"}
	for name, want := range map[string]string{
		"isuer": "issuer", "client-id": "client_id", "clientSecret": "client_secret", "CLIENT_ID": "client_id",
		"scope": "scopes", "scpoes": "scopes", "uri": "url", "cafile": "ca_file", "client_sercet": "client_secret",
		"password": "", "u": "", "timeout": "", "": "",
	} {
		if got, _ := nearest(name, known); got != want {
			t.Errorf("%q is taken for %q, want %q", name, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"idle", "idel", 1}, {"kitten", "sitting", 3}, {"same", "same", 0}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
