package config

// choices are the words that a key can have; "[]" stands for the elements of a
// list. They are Validate's, which a test asks about each of them and about
// others.
var choices = map[string][]string{
	"login.token_endpoint_auth":   {"auto", "basic", "post"},
	"login.prompt":                {"", "login", "consent", "select_account", "login consent", "select_account consent", "create"},
	"login.signing_algorithms[]":  publicAlgorithms,
	"identity.sources[]":          {"session", "bearer", "introspection", "forwarded", "app_session"},
	"identity.bearer[].preset":    {"", "aws_alb", "azure_easy_auth", "cloudflare_access", "google_iap", "oauth2_proxy"},
	"identity.app_session.method": {"GET", "POST"},

	"identity.bearer[].algorithms[]":       append([]string{"HS256", "HS384", "HS512"}, publicAlgorithms...),
	"identity.introspection.client_auth":   {"basic", "post", "private_key_jwt"},
	"access.default":                       {"public", "signed_in"},
	"access.rules[].require":               {"", "public", "signed_in"},
	"whisp.extra_routes[].method":          {"GET", "POST", "PUT", "PATCH", "DELETE"},
	"account.on_conflict":                  {"suffix", "fail"},
	"account.on_lost":                      {"fail", "register"},
	"account.self_service.change_username": {"allow", "deny"},
	"account.self_service.delete_user":     {"allow", "deny"},
	"tokens.exposure":                      {"direct"},
	"store.kind":                           {"memory", "redis"},
	"log.level":                            {"debug", "info", "warn", "error"},
	"log.format":                           {"auto", "json", "text"},
}

var publicAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// bounds of a whole number; high 0 is none.
type bounds struct{ low, high int64 }

// ranges are the numbers that a key can have: Validate's too.
var ranges = map[string]bounds{
	"app.max_connections":                  {0, 1_000_000},
	"identity.introspection.cache_size":    {1, 1_000_000},
	"identity.app_session.max_connections": {1, 10_000},
	"whisp.retries":                        {0, 2},
	"whisp.breaker.failures":               {1, 1000},
	"whisp.max_connections":                {0, 1_000_000},
	"realtime.max_tunnels":                 {0, 0},
	"realtime.max_tunnels_per_user":        {0, 0},
	"realtime.connection_rate":             {0, 100_000},
	"realtime.connection_burst":            {1, 1_000_000},
	"realtime.max_frame_rate":              {0, 0},
	"store.max_entries":                    {1000, 10_000_000},
	"store.redis.db":                       {0, 1023},
	"store.redis.pool_size":                {0, 10_000},
}
