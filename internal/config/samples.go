package config

import (
	"reflect"

	"github.com/whisp-bff/whisp-bff/internal/identity"
)

// minimum holds the settings that have no default, with the values that the
// example gives them. They are its active lines, and all that anyone needs.
var minimum = map[string]string{ //nolint:gosec // G101 sees names of files
	"public_url":             "https://app.example.com",
	"app.url":                "http://127.0.0.1:3000",
	"login.issuer":           "https://login.example.com/realms/acme",
	"login.client_id":        "web",
	"login.client_secret":    "{file: /run/secrets/oidc-client-secret}",
	"whisp.url":              "https://acme.api.whispchat.com",
	"whisp.api_keys":         "\n    - {file: /run/secrets/whisp-api-key}",
	"account.master_secrets": "\n    - {file: /run/secrets/whisp-master-secret}",
}

// samples are what the example shows where a default would be nothing: keys
// that are required once their section is used, mappings of names to values,
// and the telling keys of an element. They are YAML on one line, and together
// valid.
var samples = map[string]string{ //nolint:gosec // G101 sees names of files
	"login.extra_authorize_params": "{audience: https://api.example.com}",

	"identity.bearer[].issuer":                   "https://login.example.com/realms/acme",
	"identity.bearer[].audience":                 "[web]",
	"identity.bearer[].required_claims[].claim":  "email_verified",
	"identity.bearer[].required_claims[].equals": `"true"`,

	"identity.introspection.url":                        "https://login.example.com/oauth2/introspect",
	"identity.introspection.issuer":                     "https://login.example.com/realms/acme",
	"identity.introspection.client_id":                  "whisp-bff",
	"identity.introspection.audience":                   "[web]",
	"identity.introspection.required_claims[].claim":    "realm_access.roles",
	"identity.introspection.required_claims[].contains": "chat",

	"identity.forwarded.trusted_peers": "[10.0.3.0/24]",
	"identity.forwarded.secrets":       "[{file: /run/secrets/auth-proxy-secret}]",
	"identity.forwarded.issuer":        "https://login.example.com/realms/acme",

	"identity.app_session.url":            "/api/auth/session",
	"identity.app_session.cookies":        `["next-auth.session-token*"]`,
	"identity.app_session.headers":        "{X-Requested-With: XMLHttpRequest}",
	"identity.app_session.secret_headers": "{X-Api-Key: {file: /run/secrets/app-session-key}}",
	"identity.app_session.issuer":         "https://app.example.com",
	"identity.app_session.subject":        "user.id",
	"identity.app_session.claims":         "{email: user.email, name: user.name}",

	"access.rules[].path":     "/admin/**",
	"access.rules[].require":  "signed_in",
	"access.rules[].claim":    "groups",
	"access.rules[].contains": "admins",
	"access.headers":          "{X-User-Id: sub, X-User-Email: email}",

	"whisp.extra_routes[].method": "POST",
	"whisp.extra_routes[].path":   "/api/chat/pin/{chatId}",

	"store.redis.addresses": `["redis.internal:6379"]`,
	"store.seal_keys":       "[{file: /run/secrets/store-seal-key}]",
}

// elementDefaults is what a list's element of type t has where it says nothing.
func elementDefaults(t reflect.Type) reflect.Value {
	if t == reflect.TypeFor[identity.BearerConfig]() {
		return reflect.ValueOf(identity.DefaultBearerConfig())
	}
	return reflect.Zero(t)
}
