//go:build linux

package main

import (
	"slices"
	"testing"
	"time"
)

func TestOptions(t *testing.T) {
	for _, test := range []struct {
		name     string
		args     []string
		binaries []string
		only     []string
		soak     time.Duration
		wrong    bool
	}{
		{name: "none", binaries: []string{"bin/whisp-bff"}, soak: 24 * time.Second},
		{name: "two binaries, twice", args: []string{"-bff", "a", "-bff", "b"}, binaries: []string{"a", "b"}, soak: 24 * time.Second},
		{name: "two binaries, a list", args: []string{"-bff", "a,b"}, binaries: []string{"a", "b"}, soak: 24 * time.Second},
		{name: "parts", args: []string{"-only", "sockets,tls"}, binaries: []string{"bin/whisp-bff"}, only: []string{"sockets", "tls"}, soak: 24 * time.Second},
		{name: "a long soak alone", args: []string{"-soak", "10m"}, binaries: []string{"bin/whisp-bff"}, only: []string{"soak"}, soak: 10 * time.Minute},
		{name: "a soak with parts", args: []string{"-soak", "10m", "-only", "http"}, wrong: true},
		{name: "unknown part", args: []string{"-only", "sokets"}, wrong: true},
		{name: "an argument", args: []string{"short"}, wrong: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			opts, err := parse(test.args)
			if test.wrong {
				if err == nil {
					t.Fatal("no error")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(opts.binaries, test.binaries) || !slices.Equal(opts.only, test.only) {
				t.Errorf("binaries %q, parts %q", opts.binaries, opts.only)
			}
			p := opts.plan()
			if p.soak != test.soak || p.limit < p.soak*time.Duration(len(opts.binaries)) {
				t.Errorf("soak of %s within %s", p.soak, p.limit)
			}
		})
	}
}

func TestSeveralBinariesGetNames(t *testing.T) {
	one, two := binariesOf([]string{"bin/whisp-bff"}), binariesOf([]string{"a", "b"})
	if one[0].name != "whisp-bff" || two[0].name != "whisp-bff A" || two[1].name != "whisp-bff B" || two[1].path != "b" {
		t.Errorf("names: %v, %v", one, two)
	}
}
