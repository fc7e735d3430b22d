package problem

import "net/http"

// Session and identity.

// SessionRequired answers a call that needs a session and has none.
func SessionRequired() *Problem {
	return &Problem{Status: http.StatusUnauthorized, Code: "session_required", Title: "Session required",
		Message: "You are not signed in, or your session has ended. Sign in again."}
}

// CredentialRefused: a credential that is for one of the identity sources did
// not pass its checks. No weaker source is asked then.
func CredentialRefused() *Problem {
	return &Problem{Status: http.StatusUnauthorized, Code: "credential_refused", Title: "Credential refused",
		Message: "Your sign-in was not accepted or has ended. Sign in again."}
}

// AccessDenied: who asks is known, and may not have this.
func AccessDenied() *Problem {
	return &Problem{Status: http.StatusForbidden, Code: "access_denied", Title: "Access denied",
		Message: "You are signed in, but you are not allowed to see this."}
}

// IdentityUnavailable: whoever could say who is asking (key set, introspection
// endpoint, the app) did not answer.
func IdentityUnavailable() *Problem {
	return &Problem{Status: http.StatusServiceUnavailable, Code: "identity_unavailable", Title: "Identity cannot be checked",
		Message: "It cannot be checked right now who you are. Try again in a moment."}
}

// StoreUnavailable: the session store did not answer in time.
func StoreUnavailable() *Problem {
	return &Problem{Status: http.StatusServiceUnavailable, Code: "store_unavailable", Title: "Session store unavailable",
		Message: "Your session cannot be checked right now. Try again in a moment."}
}

// Login.

// LoginUnknown: a callback without a login in progress in this browser
// (no, foreign, used or expired state).
func LoginUnknown() *Problem {
	return &Problem{Status: http.StatusBadRequest, Code: "login_unknown", Title: "Login not in progress",
		Message: "This sign-in was not started in this browser, was already finished, or took too long. Start it again."}
}

// LoginIssuerMismatch: the iss parameter of RFC 9207 names another provider.
func LoginIssuerMismatch() *Problem {
	return &Problem{Status: http.StatusBadRequest, Code: "login_issuer_mismatch", Title: "Answer from another provider",
		Message: "The sign-in answer came from a provider that was not asked. Start again."}
}

// LoginDenied: the provider answered with an error such as access_denied.
func LoginDenied() *Problem {
	return &Problem{Status: http.StatusForbidden, Code: "login_denied", Title: "Sign-in was not granted",
		Message: "The sign-in was cancelled or refused by the identity provider. Start again, or ask your administrator."}
}

// LoginRejected: the provider's answer failed verification.
func LoginRejected() *Problem {
	return &Problem{Status: http.StatusUnauthorized, Code: "login_rejected", Title: "Sign-in could not be verified",
		Message: "The identity provider's answer could not be verified. Start again; if it keeps failing, ask your administrator."}
}

// LogoutTokenInvalid: a back-channel logout without a logout token, or with one
// that failed verification or was used before.
func LogoutTokenInvalid() *Problem {
	return &Problem{Status: http.StatusBadRequest, Code: "logout_token_invalid", Title: "Logout token not valid",
		Message: "The logout token is missing, not valid, or was used before."}
}

// ProviderUnavailable: discovery, token or key endpoint did not answer.
func ProviderUnavailable() *Problem {
	return &Problem{Status: http.StatusServiceUnavailable, Code: "provider_unavailable", Title: "Identity provider unavailable",
		Message: "The identity provider does not answer. Try again in a moment."}
}

// ProviderMisconfigured: the provider refused us as a client
// (invalid_client, invalid redirect URI): an operator's matter.
func ProviderMisconfigured() *Problem {
	return &Problem{Status: http.StatusBadGateway, Code: "provider_refused_client", Title: "Identity provider refused this site",
		Message: "The identity provider does not accept this site's configuration. Ask your administrator."}
}

// Cross-site requests and request form.

// OriginForbidden: the Origin or Sec-Fetch-Site of the request is not ours.
func OriginForbidden() *Problem {
	return &Problem{Status: http.StatusForbidden, Code: "origin_forbidden", Title: "Origin not allowed",
		Message: "This request did not come from an allowed origin."}
}

// HostUnknown: the Host header is not the configured public host (RFC 9110 section 15.5.20).
func HostUnknown() *Problem {
	return &Problem{Status: http.StatusMisdirectedRequest, Code: "host_unknown", Title: "Unknown host",
		Message: "This server does not serve the host that was asked for."}
}

// PathNotCanonical: the path has an encoding, dot segment or character that
// two parsers could read differently.
func PathNotCanonical() *Problem {
	return &Problem{Status: http.StatusBadRequest, Code: "path_not_canonical", Title: "Path not canonical",
		Message: "The path of this request is not in canonical form."}
}

// RouteForbidden: not one of the Whisp routes that may pass.
func RouteForbidden() *Problem {
	return &Problem{Status: http.StatusForbidden, Code: "route_forbidden", Title: "Route not allowed",
		Message: "This Whisp route cannot be used from a browser."}
}

// NotFound: no such endpoint of ours.
func NotFound() *Problem {
	return &Problem{Status: http.StatusNotFound, Code: "not_found", Title: "Not found", Message: "There is nothing here."}
}

// MethodNotAllowed: the endpoint exists, the method is wrong; the caller sets Allow.
func MethodNotAllowed() *Problem {
	return &Problem{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Title: "Method not allowed",
		Message: "This endpoint does not take this method."}
}

// BodyInvalid: not the JSON the endpoint takes; unknown fields included.
func BodyInvalid() *Problem {
	return &Problem{Status: http.StatusBadRequest, Code: "body_invalid", Title: "Body not understood",
		Message: "The body must be empty or JSON with the documented fields only."}
}

// BodyTooLarge: more than the endpoint takes.
func BodyTooLarge() *Problem {
	return &Problem{Status: http.StatusRequestEntityTooLarge, Code: "body_too_large", Title: "Body too large",
		Message: "The body of this request is larger than allowed."}
}

// CredentialsNotAccepted: a sign-in body with a user name or password.
func CredentialsNotAccepted() *Problem {
	return &Problem{Status: http.StatusBadRequest, Code: "credentials_not_accepted", Title: "Credentials not accepted",
		Message: "The session says who signs in: send no username or password, just an empty body."}
}

// Whisp.

// WhispUnreachable: no connection to Whisp, or the circuit breaker is open.
func WhispUnreachable() *Problem {
	return &Problem{Status: http.StatusServiceUnavailable, Code: "whisp_unreachable", Title: "Chat service unreachable",
		Message: "The chat service cannot be reached. Try again in a moment."}
}

// WhispTimeout: Whisp did not answer within the configured time.
func WhispTimeout() *Problem {
	return &Problem{Status: http.StatusServiceUnavailable, Code: "whisp_timeout", Title: "Chat service too slow",
		Message: "The chat service did not answer in time. Try again in a moment."}
}

// WhispFailed: Whisp answered 5xx.
func WhispFailed() *Problem {
	return &Problem{Status: http.StatusServiceUnavailable, Code: "whisp_failed", Title: "Chat service failed",
		Message: "The chat service reported a fault of its own. Try again in a moment."}
}

// WhispRateLimited: Whisp answered 429.
func WhispRateLimited() *Problem {
	return &Problem{Status: http.StatusServiceUnavailable, Code: "whisp_rate_limited", Title: "Chat service busy",
		Message: "The chat service asks to slow down. Try again in a moment."}
}

// WhispBadAnswer: Whisp's answer is not what its API documents.
func WhispBadAnswer() *Problem {
	return &Problem{Status: http.StatusBadGateway, Code: "whisp_bad_answer", Title: "Chat service gave a bad answer",
		Message: "The chat service gave an answer that cannot be understood. Try again; if it keeps failing, ask your administrator."}
}

// WhispKeyRefused: Whisp accepts none of the configured API keys.
func WhispKeyRefused() *Problem {
	return &Problem{Status: http.StatusServiceUnavailable, Code: "whisp_key_refused", Title: "Chat service refused this site",
		Message: "Chat is not available: the chat service refuses this site's key. Ask your administrator."}
}

// Accounts.

// AccountConflict: the mapped user name (or e-mail) belongs to another account.
func AccountConflict() *Problem {
	return &Problem{Status: http.StatusConflict, Code: "account_conflict", Title: "Chat account name taken",
		Message: "Your chat name or e-mail address is already used by another account. Ask your administrator."}
}

// AccountInvalid: Whisp refuses the mapped user name, e-mail or names.
func AccountInvalid() *Problem {
	return &Problem{Status: http.StatusUnprocessableEntity, Code: "account_invalid", Title: "Chat account cannot be created",
		Message: "The chat service does not accept the account that your profile maps to. Ask your administrator."}
}

// AccountLost: the linked account refuses its credential and may have been
// renamed or deleted behind our back. An administrator must say which.
func AccountLost() *Problem {
	return &Problem{Status: http.StatusConflict, Code: "account_lost", Title: "Chat account cannot be opened",
		Message: "Your chat account can no longer be opened. Ask your administrator."}
}

// AccountUnknown: no account is linked to the identity that an administrator
// asked for.
func AccountUnknown() *Problem {
	return &Problem{Status: http.StatusNotFound, Code: "account_unknown", Title: "No account linked",
		Message: "No chat account is linked to this identity."}
}

// Administration.

// AdminTokenRefused: the admin API was called without its token or with another.
func AdminTokenRefused() *Problem {
	return &Problem{Status: http.StatusUnauthorized, Code: "admin_token_refused", Title: "Admin token refused",
		Message: "The admin API needs the token of server.admin_token in the Authorization header."}
}

// IdentityInvalid: an administrator named an identity that cannot be one.
func IdentityInvalid() *Problem {
	return &Problem{Status: http.StatusUnprocessableEntity, Code: "identity_invalid", Title: "Identity not valid",
		Message: "An identity needs an issuer and a subject of 1 to 255 bytes without control characters."}
}

// Realtime.

// TicketRefused: no ticket, or one that is used, late or another session's.
func TicketRefused() *Problem {
	return &Problem{Status: http.StatusUnauthorized, Code: "ticket_refused", Title: "Ticket refused",
		Message: "The realtime ticket is missing, used, too old or not yours. Fetch a new one."}
}

// UpgradeInvalid: not a valid WebSocket opening handshake (RFC 6455 section 4.2.1).
func UpgradeInvalid() *Problem {
	return &Problem{Status: http.StatusBadRequest, Code: "upgrade_invalid", Title: "WebSocket handshake invalid",
		Message: "This is not a valid WebSocket opening handshake."}
}

// TunnelLimit: as many realtime connections as allowed are open.
func TunnelLimit() *Problem {
	return &Problem{Status: http.StatusServiceUnavailable, Code: "tunnel_limit", Title: "Too many realtime connections",
		Message: "Too many realtime connections are open. Close one, or try again in a moment."}
}

// ConnectionRate: one client address begins too many realtime connections.
func ConnectionRate() *Problem {
	return &Problem{Status: http.StatusTooManyRequests, Code: "connection_rate", Title: "Too many new realtime connections",
		Message: "Too many realtime connections were begun from your network. Try again in a moment."}
}

// App.

// AppUnreachable: no connection to the app behind us.
func AppUnreachable() *Problem {
	return &Problem{Status: http.StatusBadGateway, Code: "app_unreachable", Title: "Application unreachable",
		Message: "The application does not answer. Try again in a moment."}
}

// AppTimeout: the app behind us did not answer in time.
func AppTimeout() *Problem {
	return &Problem{Status: http.StatusGatewayTimeout, Code: "app_timeout", Title: "Application too slow",
		Message: "The application did not answer in time. Try again in a moment."}
}

// Ourselves.

// ShuttingDown: this process takes no new work.
func ShuttingDown() *Problem {
	return &Problem{Status: http.StatusServiceUnavailable, Code: "shutting_down", Title: "Shutting down",
		Message: "This server is shutting down. Try again in a moment."}
}

// Internal is a fault of ours.
func Internal() *Problem {
	return &Problem{Status: http.StatusInternalServerError, Code: "internal", Title: "Internal error",
		Message: "Something went wrong on our side. Quote the request id if you report it."}
}
