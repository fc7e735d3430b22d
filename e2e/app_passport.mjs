// An app with Passport and express-session for the tests of app_session.
// Passwords are not asked.
//
//   node app_passport.mjs
//
// It prints one line {"url":"http://127.0.0.1:…"} and ends with its standard input.

import { randomBytes } from "node:crypto";
import express from "express";
import session from "express-session";
import passport from "passport";
import { Strategy } from "passport-local";

const users = new Map(["alice", "bob"].map((name, i) => [i + 1, { id: i + 1, username: name, email: `${name}@example.com` }]));

passport.use(
  new Strategy({ passwordField: "username" }, (username, _password, done) =>
    done(null, [...users.values()].find((user) => user.username === username) ?? false),
  ),
);
passport.serializeUser((user, done) => done(null, user.id));
passport.deserializeUser((id, done) => done(null, users.get(id) ?? false));

const app = express();
app.set("trust proxy", "loopback");
// Every visitor gets a session cookie, signed in or not.
app.use(session({ secret: randomBytes(32).toString("hex"), resave: false, saveUninitialized: true, cookie: { secure: "auto" } }));
app.use(passport.session());
app.post("/login", express.urlencoded({ extended: false }), passport.authenticate("local"), (_req, res) => res.redirect(303, "/"));
app.post("/logout", (req, res, next) => req.logout((error) => (error ? next(error) : res.redirect(303, "/"))));
// The endpoint an app needs.
app.get("/me", (req, res) => {
  if (!req.user) return res.sendStatus(401);
  res.json({ id: req.user.id, username: req.user.username, email: req.user.email });
});
app.get("/", (_req, res) => res.type("html").send("<!doctype html><title>Passport app</title>"));

const server = app.listen(0, "127.0.0.1", () => {
  console.log(JSON.stringify({ url: `http://127.0.0.1:${server.address().port}` }));
});
server.keepAliveTimeout = 300_000; // longer than whoever asks keeps connections
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
