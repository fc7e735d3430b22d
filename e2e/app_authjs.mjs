// An app with Auth.js (NextAuth) for the tests of app_session: its session is
// what a Next.js app with NextAuth has, at the same path. Passwords are not asked.
//
//   node app_authjs.mjs
//
// It prints one line {"url":"http://127.0.0.1:…"} and ends with its standard input.

import { randomBytes } from "node:crypto";
import express from "express";
import { ExpressAuth } from "@auth/express";
import Credentials from "@auth/express/providers/credentials";

const app = express();
app.set("trust proxy", "loopback");
app.use(
  "/api/auth",
  ExpressAuth({
    trustHost: true,
    secret: randomBytes(32).toString("hex"),
    providers: [
      Credentials({
        credentials: { username: {} },
        authorize: ({ username }) => ({
          id: `id-of-${username}`,
          name: username,
          email: `${username}@example.com`,
          // Large enough that the session does not fit into one cookie.
          image: username === "bob" ? `https://img.example.com/${"x".repeat(6000)}` : null,
        }),
      }),
    ],
    // The two lines an app needs: Auth.js keeps the id to itself by default.
    callbacks: {
      jwt: ({ token, account }) => (account ? { ...token, sub: account.providerAccountId } : token),
      session: ({ session, token }) => ({ ...session, user: { ...session.user, id: token.sub } }),
    },
  }),
);
app.get("/", (_req, res) => res.type("html").send("<!doctype html><title>Auth.js app</title>"));

const server = app.listen(0, "127.0.0.1", () => {
  console.log(JSON.stringify({ url: `http://127.0.0.1:${server.address().port}` }));
});
server.keepAliveTimeout = 300_000; // longer than whoever asks keeps connections
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
