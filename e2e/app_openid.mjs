// An app with express-openid-connect for the tests of app_session.
//
//   node app_openid.mjs '{"issuer":"http://127.0.0.1:…","clientId":"app","clientSecret":"…","publicURL":"http://localhost:1234"}'
//
// Its callback is /callback, the module's default. It prints one line
// {"url":"http://127.0.0.1:…"} and ends with its standard input.

import { randomBytes } from "node:crypto";
import express from "express";
import openid from "express-openid-connect";

const options = JSON.parse(process.argv[2]);

const app = express();
app.set("trust proxy", "loopback");
app.use(
  openid.auth({
    issuerBaseURL: options.issuer,
    baseURL: options.publicURL,
    clientID: options.clientId,
    clientSecret: options.clientSecret,
    secret: randomBytes(32).toString("hex"),
    authRequired: false,
    authorizationParams: { response_type: "code", scope: "openid profile email" },
  }),
);
// The endpoint an app needs.
app.get("/me", (req, res) => res.json(req.oidc.isAuthenticated() ? req.oidc.user : null));
app.get("/", (_req, res) => res.type("html").send("<!doctype html><title>express-openid-connect app</title>"));

const server = app.listen(0, "127.0.0.1", () => {
  console.log(JSON.stringify({ url: `http://127.0.0.1:${server.address().port}` }));
});
server.keepAliveTimeout = 300_000; // longer than whoever asks keeps connections
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
