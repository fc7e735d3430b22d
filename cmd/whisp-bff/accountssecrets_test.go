package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/broker"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

// A rotation at a terminal, with a real Redis.
func TestAccountsSecrets(t *testing.T) {
	t.Parallel()
	whisp, url := startWhisp(t, whispsim.Config{})
	redis, dir := startRedis(t), t.TempDir()
	const (
		ancient = "ancient-master-secret-of-32-bytes-never-to-be-seen"
		old     = "old-master-secret-of-more-than-32-bytes-never-to-be-seen"
		newest  = "new-master-secret-of-more-than-32-bytes-never-to-be-seen"
		sealKey = "seal-key-of-more-than-32-bytes-never-to-be-seen"
	)
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	configWith := func(masters, seal string) string {
		text := configFor(url, fmt.Sprintf("store:\n  kind: redis\n  redis: {addresses: [%q]}\n  seal_keys: [{value: %s}]\n", redis, seal))
		return strings.Replace(text, "{value: master-secret-of-more-than-32-bytes-never-to-be-seen}", masters, 1)
	}
	listOf := func(masters ...string) string { return "{value: " + strings.Join(masters, "}, {value: ") + "}" }
	run := func(args ...string) (stdout, stderr string) {
		t.Helper()
		stdout, stderr, exit := command(t, dir, append([]string{"accounts"}, args...)...)
		if exit != 0 {
			t.Fatalf("%v: exit %d, %s%s", args, exit, stdout, stderr)
		}
		if strings.Contains(stdout+stderr, "never-to-be-seen") {
			t.Errorf("%v: a secret shows: %s%s", args, stdout, stderr)
		}
		return stdout, stderr
	}
	write("before.yaml", configWith(listOf(old), sealKey))
	write("during.yaml", configWith(listOf(newest, old, ancient), sealKey))
	write("after.yaml", configWith(listOf(newest), sealKey))
	write("lockedout.yaml", configWith(listOf(newest, old), "another-"+sealKey))
	write("first.csv", "issuer,subject,nickname\nhttps://l.example,1,ann\nhttps://l.example,2,bob\n")
	write("second.csv", "issuer,subject,nickname\nhttps://l.example,3,carl\n")
	run("import", "first.csv", "-c", "before.yaml", "--rate", "0")
	run("import", "second.csv", "-c", "during.yaml", "--rate", "0")

	stdout, _ := run("secrets", "-c", "during.yaml")
	for _, line := range []string{
		`master secret  links  advice`,
		`1              1      newest: new accounts use it`,
		`2              2      still needed`,
		`3              0      used by no link: may be removed once every account of people without a link is known`,
	} {
		if !strings.Contains(stdout, line+"\n") {
			t.Errorf("no line %q in\n%s", line, stdout)
		}
	}
	if !strings.Contains(stdout, "Keep a copy") || regexp.MustCompile(`pending|unreadable|not listed`).MatchString(stdout) {
		t.Errorf("printed\n%s", stdout)
	}
	for config, want := range map[string]string{
		"during.yaml":    `{"secrets":[{"position":1,"links":1,"advice":"newest"},{"position":2,"links":2,"advice":"needed"},{"position":3,"links":0,"advice":"unused"}],"unlisted":0,"pending":0,"unreadable":0}`,
		"after.yaml":     `{"secrets":[{"position":1,"links":1,"advice":"newest"}],"unlisted":2,"pending":0,"unreadable":0}`,
		"lockedout.yaml": `{"secrets":[{"position":1,"links":0,"advice":"newest"},{"position":2,"links":0,"advice":"unsure"}],"unlisted":0,"pending":0,"unreadable":3}`,
	} {
		if stdout, _ := run("secrets", "-c", config, "--json"); stdout != want+"\n" {
			t.Errorf("%s: %s\nwant %s", config, stdout, want)
		}
	}
	if stdout, _ := run("secrets", "-c", "after.yaml"); !strings.Contains(stdout, "not listed     2      these people cannot sign in") {
		t.Errorf("removed too early:\n%s", stdout)
	}
	// The advice is worth its words: without the link, the old secret opens the account.
	run("release", "-c", "during.yaml", "--issuer", "https://l.example", "--subject", "1")
	if stdout, _ := run("secrets", "-c", "during.yaml", "--json"); !strings.Contains(stdout, `{"position":2,"links":1,"advice":"needed"}`) {
		t.Errorf("after a release: %s", stdout)
	}
	run("import", "first.csv", "-c", "during.yaml", "--rate", "0", "--resume=false")
	if stdout, _ := run("secrets", "-c", "during.yaml", "--json"); !strings.Contains(stdout, `{"position":2,"links":2,"advice":"needed"}`) {
		t.Errorf("after an import: %s", stdout)
	}
	if users := whisp.Users(); len(users) != 3 {
		t.Errorf("Whisp has %d accounts", len(users))
	}
	write("nobody.yaml", strings.ReplaceAll(configWith(listOf(newest), sealKey), redis, "127.0.0.1:1"))
	if stdout, stderr, exit := command(t, dir, "accounts", "secrets", "-c", "nobody.yaml"); exit != 1 || stdout != "" || !strings.Contains(stderr, "the store does not answer") {
		t.Errorf("without Redis: exit %d, %s%s", exit, stdout, stderr)
	}
}

func TestSecretAdviceIsCareful(t *testing.T) {
	report := func(second, unlisted, pending, unreadable int) secretReport {
		return newSecretReport([]broker.SecretUse{
			{State: broker.SecretListed, Position: 1}, {State: broker.SecretListed, Position: 2, Links: second},
			{State: broker.SecretUnlisted, Links: unlisted}, {State: broker.SecretPending, Links: pending}, {State: broker.SecretUnreadable, Links: unreadable},
		})
	}
	for _, c := range []struct {
		report secretReport
		want   rotationAdvice
		says   string
	}{
		{report(0, 0, 0, 0), adviceUnused, "may be removed"},
		{report(1234, 0, 5, 5), adviceNeeded, "1,234  still needed"},
		{report(0, 7, 0, 0), adviceUnused, "put their secret back"},
		{report(0, 0, 1, 0), adviceUnsure, "settled at their next sign-in"},
		{report(0, 0, 0, 1), adviceUnsure, "store.seal_keys lacks a key"},
	} {
		var out strings.Builder
		if err := c.report.print(&out); err != nil {
			t.Fatal(err)
		}
		if c.report.Secrets[0].Advice != adviceNewest || c.report.Secrets[1].Advice != c.want || !strings.Contains(out.String(), c.says) {
			t.Errorf("%+v:\n%s", c.report, &out)
		}
		if strings.Contains(out.String(), "may be removed") != (c.want == adviceUnused) {
			t.Errorf("%+v: removal advised:\n%s", c.report, &out)
		}
	}
}
