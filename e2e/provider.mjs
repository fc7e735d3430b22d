// An OpenID Provider for the tests: the certified npm package oidc-provider,
// with a one-click login instead of passwords.
//
//   node provider.mjs '{"port":0,"clientId":"web","clientSecret":"…","publicURL":"http://localhost:1234"}'
//
// More clients can be given as they are registered, in "clients", and resources
// (RFC 8707) that access tokens can be asked for:
// "resources":{"urn:x":{"audience":"…","format":"jwt|opaque","ttl":3600}}.
//
// It prints one line {"issuer":"http://127.0.0.1:…"} once it listens, and ends with
// its standard input.

import { generateKeyPairSync, randomBytes } from "node:crypto";
import { createServer } from "node:http";
import Provider, { errors } from "oidc-provider";

const options = JSON.parse(process.argv[2]);

const PEOPLE = {
  alice: ["Alice", "Anderson"],
  bob: ["Bob", "Brown"],
  carol: ["Carol", "Clark"],
  dave: ["Dave", "Dubois"],
};

const server = createServer();
// Node closes idle connections after 5 s, and a request that is just then sent
// on one is lost. Providers in production sit behind something more patient.
server.keepAliveTimeout = 300_000;
await new Promise((resolve, reject) => {
  server.once("error", reject);
  server.listen(options.port, "127.0.0.1", resolve);
});
const issuer = `http://127.0.0.1:${server.address().port}`;

const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });

const provider = new Provider(issuer, {
  jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), kid: "1", use: "sig", alg: "RS256" }] },
  cookies: { keys: [randomBytes(32).toString("hex")] },
  clients: [
    ...(options.clients ?? []),
    options.clientId && {
      client_id: options.clientId,
      client_secret: options.clientSecret,
      grant_types: ["authorization_code", "refresh_token"],
      redirect_uris: [`${options.publicURL}/auth/callback`],
      post_logout_redirect_uris: [options.publicURL, `${options.publicURL}/`],
      backchannel_logout_uri: `${options.publicURL}/auth/backchannel-logout`,
      backchannel_logout_session_required: true,
    },
  ].filter(Boolean),
  pkce: { required: () => true },
  claims: {
    openid: ["sub"],
    profile: ["name", "given_name", "family_name", "preferred_username"],
    email: ["email", "email_verified"],
  },
  scopes: ["openid", "profile", "email", "offline_access"],
  findAccount,
  issueRefreshToken: async (_ctx, client) => client.grantTypeAllowed("refresh_token"),
  // Tabs of one browser that log in at the same moment replace one another's
  // session here; what they were given must not die with it.
  expiresWithSession: async () => false,
  loadExistingGrant,
  interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
  extraTokenClaims,
  // By default it sends nothing to loopback addresses, where everybody is here.
  fetch: (url, { dispatcher: _, ...init }) => fetch(url, init),
  features: {
    backchannelLogout: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true },
    resourceIndicators: { enabled: true, getResourceServerInfo },
    revocation: { enabled: true },
    rpInitiatedLogout: { logoutSource },
  },
});

function findAccount(_ctx, id) {
  const name = PEOPLE[id] ?? ["New", "Person"];
  return {
    accountId: id,
    claims: async () => ({
      sub: id,
      name: name.join(" "),
      given_name: name[0],
      family_name: name[1],
      preferred_username: id,
      email: `${id}@example.com`,
      email_verified: true,
    }),
  };
}

// A first-party client: nobody is asked for consent.
async function loadExistingGrant(ctx) {
  const { client, session, params } = ctx.oidc;
  const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
  grant.addOIDCScope(params.scope);
  if (params.resource) grant.addResourceScope(params.resource, params.scope);
  await grant.save();
  return grant;
}

function getResourceServerInfo(_ctx, resource) {
  const { audience, format, ttl } = options.resources?.[resource] ?? {};
  if (!audience) throw new errors.InvalidTarget();
  return { audience, scope: "chat", accessTokenFormat: format, accessTokenTTL: ttl };
}

// Access tokens that say more of a person than the subject, as most providers' do.
function extraTokenClaims(_ctx, { accountId }) {
  return accountId && { preferred_username: accountId, email: `${accountId}@example.com` };
}

const page = (title, body) =>
  `<!doctype html><html lang="en"><meta charset="utf-8"><link rel="icon" href="data:,"><title>${title}</title>${body}</html>`;

function logoutSource(ctx, form) {
  ctx.body = page("Sign out", `${form}<button id="logout" form="op.logoutForm" name="logout" value="yes">Sign out</button>`);
}

async function interaction(req, res) {
  const path = new URL(req.url, issuer).pathname;
  if (req.method === "GET") {
    const buttons = Object.keys(PEOPLE).map((id) => `<button name="account" value="${id}">${id}</button>`);
    res.setHeader("Content-Type", "text/html; charset=utf-8");
    res.end(page("Sign in", `<form method="post" action="${path}">${buttons.join(" ")}</form>`));
    return;
  }
  const chunks = [];
  for await (const chunk of req) chunks.push(chunk);
  const accountId = new URLSearchParams(Buffer.concat(chunks).toString()).get("account");
  await provider.interactionFinished(req, res, { login: { accountId } }, { mergeWithLastSubmission: false });
}

const callback = provider.callback();
server.on("request", (req, res) => {
  if (!req.url.startsWith("/interaction/")) return callback(req, res);
  interaction(req, res).catch((error) => {
    res.statusCode = 400;
    res.end(String(error));
  });
});

provider.on("backchannel.error", (_ctx, error) => console.error(`back-channel logout: ${error}`));

process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
console.log(JSON.stringify({ issuer }));
