package config

import (
	"strings"
	"testing"
	"testing/fstest"
)

// complete is a configuration to break, one line for each thing to be wrong.
const complete = `public_url: https://app.example.com
app:
  url: http://127.0.0.1:3000
login:
  issuer: https://login.example.com/realms/acme
  client_id: web
  client_secret: {file: secret}
  scopes: [openid, profile]
whisp:
  url: https://acme.api.whispchat.com
  api_keys:
    - {file: key}
account:
  master_secrets:
    - {file: master}
`

// refused are the mistakes that people make. Each is what replaces a part of
// complete, or goes to its end, and the first message: place, key, problem and fix.
// What schema says is whether an editor marks it too; the rest only Validate knows.
var refused = []struct {
	name, old, new, says string
	schema               bool
}{
	{"typo in a key", "client_id", "clientid", "6:3: login.clientid is not a known key: did you mean client_id?", true},
	{"typo in a section", "account:", "acount:", "13:1: acount is not a known key: did you mean account?", true},
	{"key in the wrong section", "  client_id: web", "  client_id: web\n  api_keys: []", "7:3: login.api_keys is not a known key: this key belongs under whisp", true},
	{"duration without unit", "", "session: {idle: 30}", "16:17: session.idle has no unit: write 30s for seconds or 30m for minutes", true},
	{"duration with the unit of another language", "", "session: {idle: 30min}", "16:17: session.idle is not a duration: write it like 300ms, 20s, 5m, 12h or 30d", true},
	{"negative duration", "", "session: {idle: -5m}", "16:17: session.idle is negative: durations start at 0s", true},
	{"size without unit", "", "server: {max_header: 65536}", "16:22: server.max_header has no unit: write 65536B for bytes or 65536KiB", true},
	{"key above its section", "", "max_header: 64KiB", "16:1: max_header is not a known key: this key belongs under server", true},
	{"size in a unit nobody has", "", "server: {max_header: 64k}", "16:22: server.max_header is not a size: write it like 64KiB, 1MiB or 10MB", true},
	{"out of range", "", "session: {idle: 10s}", "16:11: session.idle is out of range: write a duration from 1m up to session.absolute, such as 30m", false},
	{"idle beyond absolute", "", "session: {idle: 24h, absolute: 12h}", "16:11: session.idle is out of range: write a duration from 1m up to session.absolute, such as 30m", false},
	{"number out of range", "  url: https://acme", "  retries: 5\n  url: https://acme", "10:3: whisp.retries is out of range: write a number from 0 to 2", true},
	{"word for a number", "  url: https://acme", "  retries: two\n  url: https://acme", "10:12: whisp.retries is a text, a whole number is expected: write digits", true},
	{"number for a switch", "", "log: {access_log: 1}", "16:19: log.access_log is a number, true or false is expected: write true or false", true},
	{"quoted switch", "", `log: {access_log: "true"}`, "16:19: log.access_log is a text in quotes, true or false is expected: remove the quotes", true},
	{"unknown word", "", "log: {level: verbose}", "16:7: log.level is not a known level: write debug, info, warn or error", true},
	{"unknown store", "", "store: {kind: postgres}", "16:9: store.kind is no kind of store: write memory or redis", true},
	{"unknown exposure", "", "tokens: {exposure: none}", "16:10: tokens.exposure is not a known choice", true},
	{"unknown identity source", "", "identity: {sources: [cookie]}", "16:22: identity.sources[0] is not a known source: write one of session, bearer, introspection, forwarded, app_session", true},
	{"identity source twice", "", "identity: {sources: [session, session]}", "16:31: identity.sources[1] is listed twice: remove it: the first place decides", false},
	{"no identity source", "", "identity: {sources: []}", "16:12: identity.sources is empty: list at least one of session, bearer, introspection, forwarded, app_session", false},
	{"http public URL, Secure cookies", "https://app", "http://app", "1:1: public_url is plain http: use https; http is for localhost only, since anyone on the way could take the session", false},
	{"public URL with a path", "app.example.com", "app.example.com/chat", "1:1: public_url has a path: write scheme and host only: whisp-bff serves a whole origin", false},
	{"public URL without scheme", "https://app.example.com", "app.example.com", "1:13: public_url does not start with https:// or http://: write it like https://app.example.com", true},
	{"no public URL", "public_url: https://app.example.com\n", "", "public_url is required: write the address that browsers use, like https://app.example.com", true},
	{"app is whisp-bff itself", "http://127.0.0.1:3000", "https://app.example.com", "3:3: app.url is the same as public_url: write the address at which the app itself listens, like http://127.0.0.1:3000", false},
	{"app with a path", ":3000", ":3000/base", "3:3: app.url has a path: leave it out: links and cookies of an app that is moved to another path break", false},
	{"URL with a password", "https://login.", "https://user:hunter2@login.", "5:11: login.issuer has a user name or password in it", false},
	{"URL with a query", "https://acme.api.whispchat.com", "https://acme.api.whispchat.com?key=hunter2", "10:8: whisp.url has a query or fragment", false},
	{"issuer over http", "https://login", "http://login", "5:3: login.issuer uses plain http: use https; http is only safe on a loopback address such as 127.0.0.1", false},
	{"missing scope", "[openid, profile]", "[profile]", "8:3: login.scopes lacks openid: add openid; without it the provider gives no ID token", false},
	{"scopes in one text", "[openid, profile]", `["openid profile"]`, "8:3: login.scopes lacks openid: add openid; without it the provider gives no ID token", false},
	{"scopes as a text", "[openid, profile]", "openid profile", "8:11: login.scopes is a text, a list is expected: write each element on a line of its own, starting with \"- \"", true},
	{"prompt none", "  client_id: web", "  client_id: web\n  prompt: none", "7:3: login.prompt is not known: write login, consent, select_account or create, or leave it out", true},
	{"parameter of the protocol", "  client_id: web", "  client_id: web\n  extra_authorize_params: {nonce: x}", "7:28: login.extra_authorize_params.nonce belongs to the protocol: take it out; prompt and max_age have keys of their own", false},
	{"algorithm none", "  client_id: web", "  client_id: web\n  signing_algorithms: [none]", "7:3: login.signing_algorithms has an algorithm that is not allowed", true},
	{"no client id", "  client_id: web\n", "", "4:1: login.client_id is required: register this site at the provider and write the client id it gave", false},
	{"API key over http", "https://acme", "http://acme", "10:3: whisp.url is plain http: use https, or set allow_http if the network between is trusted with the API key", false},
	{"no API key", "  api_keys:\n    - {file: key}\n", "", "9:1: whisp.api_keys is required: list at least one key, like - {file: /run/secrets/whisp-api-key}", true},
	{"one API key instead of a list", "  api_keys:\n    - {file: key}", "  api_keys: {file: key}", "11:13: whisp.api_keys is a mapping, a list of secrets is expected: write each as an element, like - {file: /run/secrets/name}", true},
	{"API key with a space", "{file: key}", "{file: spaced}", "12:7: whisp.api_keys[0] has white space or characters that cannot stand in a header: check that the source holds the key and nothing else", false},
	{"secret in the open", "client_secret: {file: secret}", "client_secret: hunter2", "7:18: login.client_secret is a secret written as a text: write {file: /run/secrets/name}, {env: NAME}, or {value: …} for a demo", true},
	{"secret with two sources", "client_secret: {file: secret}", "client_secret: {file: secret, env: SECRET}", "7:18: login.client_secret names more than one source: keep exactly one of value, env and file", true},
	{"secret from the shell", "client_secret: {file: secret}", "client_secret: {value: \"${SECRET}\"}", "7:26: login.client_secret contains ${…}, which is not expanded: write {env: SECRET} instead", true},
	{"secret file that is not there", "{file: secret}", "{file: none}", "7:25: login.client_secret names the file none, which does not exist: create it, or correct the path", false},
	{"secret variable that is not set", "{file: secret}", "{env: NOT_SET}", "7:24: login.client_secret names the environment variable NOT_SET, which is not set: set it, or use {file: …}", false},
	{"placeholder", "{file: secret}", "{value: change-me}", "7:26: login.client_secret is a well-known placeholder", false},
	{"short secret", "{file: master}", "{file: short}", "15:7: account.master_secrets[0] is too short: it has 20 bytes; use at least 32, such as the output of: openssl rand -base64 48", false},
	{"master secret is the client secret", "client_secret: {file: secret}", "client_secret: {file: master}", "15:7: account.master_secrets[0] is the same as login.client_secret", false},
	{"short admin token", "", "server: {admin_token: {file: short}}", "16:10: server.admin_token is too short: it has 20 bytes; use at least 32, such as the output of: openssl rand -base64 32", false},
	{"user name template", "  master_secrets:", "  username: [\"{{.name\"]\n  master_secrets:", "14:14: account.username[0] is not a Go template", false},
	{"overlapping paths", "", "access: {rules: [{path: /**}, {path: /admin}]}", "16:32: access.rules[1].path is never reached: an earlier rule for /** decides first: put this one before it", false},
	{"path with a star within", "", "access: {rules: [{path: /a*}]}", "16:19: access.rules[0].path is not a path pattern: write it like /admin/**, /reports/*/edit or /about", false},
	{"public path with a claim", "", "access: {rules: [{path: /a, require: public, claim: x, equals: y}]}", "16:29: access.rules[0].require contradicts claim: a public path asks for no claim: leave one of the two out", false},
	{"identity header of the protocol", "", "access: {headers: {Cookie: sub}}", "16:20: access.headers.Cookie cannot be an identity header: choose a name of your own, such as X-User-Id", false},
	{"route of the key", "  url: https://acme", "  extra_routes: [{method: POST, path: /api/user/signin}]\n  url: https://acme", "10:33: whisp.extra_routes[0].path is a route that needs the API key: registerUser and signin never pass; browsers sign in with POST /auth/whisp/sign-in", false},
	{"element without what it needs", "  url: https://acme", "  extra_routes: [{method: POST}]\n  url: https://acme", "10:18: whisp.extra_routes[0].path is not a canonical path below /api", true},
	{"one address for two listeners", "", "server: {listen: \":8080\", admin_listen: \":8080\"}", "16:27: server.admin_listen is the same as listen: give it a port of its own, which browsers cannot reach", false},
	{"listener without port", "", "server: {listen: localhost}", "16:10: server.listen is not host:port: write it like 127.0.0.1:8080, or :8080 for every interface", false},
	{"proxy that is none", "", "server: {trusted_proxies: [nginx]}", "16:28: server.trusted_proxies[0] is not an address or CIDR range: write it like 10.0.0.0/8 or 192.0.2.7", false},
	{"Redis URL", "", "store: {kind: redis, seal_keys: [{file: master}], redis: {addresses: [\"redis://redis:6379\"]}}", "16:71: store.redis.addresses[0] is not host:port: write it like redis.internal:6379, without redis://", false},
	{"Redis without seal key", "", "store: {kind: redis, redis: {addresses: [\"redis:6379\"]}}", "16:1: store.seal_keys is required for kind: redis: write one secret of 32 random bytes, made with: openssl rand -base64 32", false},
	{"Cluster with Sentinels", "", "store: {kind: redis, seal_keys: [{file: master}], redis: {addresses: [\"r:6379\"], cluster: true, sentinel_master: m}}", "16:97: store.redis.sentinel_master cannot go with ", false},
	{"bearer that is not used", "", "identity: {bearer: [{issuer: \"https://x\", audience: [a]}]}", "16:12: identity.bearer is not used: add bearer to identity.sources, or remove this section", false},
	{"key without value", "client_id: web", "client_id:", "6:3: login.client_id has no value: write one after the colon, or remove the line to use the default", true},
}

func TestRefusedConfigurations(t *testing.T) {
	schema := compiled(t)
	if err := held(t, schema, complete); err != nil {
		t.Fatal(err)
	}
	for _, c := range refused {
		t.Run(c.name, func(t *testing.T) {
			text := complete + c.new + "\n"
			if c.old != "" {
				if text = strings.Replace(complete, c.old, c.new, 1); text == complete {
					t.Fatal("nothing was replaced")
				}
			}
			files := fstest.MapFS{"config.yaml": {Data: []byte(text)}}
			for name, content := range map[string]string{
				"secret": "the-client-secret", "key": "wk-0123456789", "spaced": "wk 0123 456", "short": "twenty-bytes-exactly",
				"master": "0123456789abcdef0123456789abcdef0123456789",
			} {
				files[name] = &fstest.MapFile{Data: []byte(content), Mode: 0o400}
			}
			_, err := Load("config.yaml", func(string) (string, bool) { return "", false }, mapOpener(files))
			if err == nil {
				t.Fatal("was accepted")
			}
			first, _, _ := strings.Cut(err.Error(), "\n")
			if !strings.Contains(first, c.says) {
				t.Errorf("says   %s\nwanted %s", first, c.says)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("shows a secret:\n%v", err)
			}
			if marked := held(t, schema, text); (marked != nil) != c.schema {
				t.Errorf("the schema says: %v", marked)
			}
		})
	}
}
