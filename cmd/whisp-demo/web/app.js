// The page: which screen is shown, and what keeps the chat alive.

import { Chats } from "./chats.js";
import { Conversation } from "./conversation.js";
import { avatar, byId } from "./dom.js";
import { get, HTTPError, post } from "./http.js";
import { startChat, whisp } from "./integration.js";
import { People } from "./people.js";
import { showThreeLines } from "./snippet.js";

const WATCH_MS = 2_000;
const RETRY_MAX_MS = 30_000;

const people = new People();
const conversation = new Conversation(whisp, people, notify);
const chats = new Chats(whisp, people, conversation, notify);

let starting = false; // from the sign-in call until its end, or the wait before the next
let failures = 0;

listen();
showThreeLines();
start();
setInterval(watch, WATCH_MS);

// Signs in and connects. Runs again when the client has lost its tokens: the
// session may still be good, and if it is not, the answer is 401.
async function start() {
  starting = true;
  try {
    await startChat();
    failures = 0;
  } catch (error) {
    if (error.status === 401) return showSignIn();
    if (document.body.dataset.screen !== "chat") return showSignIn(error.message);
    notify(error.message);
    await new Promise((resolve) => setTimeout(resolve, Math.min(2_000 * 2 ** failures++, RETRY_MAX_MS)));
  } finally {
    starting = false;
  }
}

// The client ends its reconnect loop without an event once its tokens are
// refused; only looking tells.
function watch() {
  if (document.body.dataset.screen === "chat" && !starting && !whisp.authenticated) start();
}

function listen() {
  whisp.realtime.on("connected", connected);
  whisp.realtime.on("disconnected", () => {
    starting = false; // connect() may never settle (see whisp-client.js)
    status("connecting", "Reconnecting");
  });
  byId("log-out").addEventListener("click", logOut);
  byId("back").addEventListener("click", () => (location.hash = ""));
  byId("sign-in-button").addEventListener("click", (event) => {
    if (event.currentTarget.dataset.retry !== "true") return; // a plain link
    event.preventDefault();
    location.reload();
  });
}

// Each time: whatever happened while the socket was away is fetched by REST.
async function connected() {
  status("connected", "Connected");
  notify("");
  try {
    if (!people.me) {
      people.take(await get("/api/people").catch(() => []), await whisp.getUser());
      byId("me-name").textContent = people.me.name;
      byId("me-username").textContent = people.me.username;
      avatar(byId("me-avatar"), people.me.name);
    }
    await chats.load();
    await conversation.reload();
    show("chat");
  } catch (error) {
    notify(error.message);
    show("chat");
  }
}

function show(screen) {
  document.body.dataset.screen = screen;
  byId("sign-in").hidden = screen !== "sign-in";
  byId("chat").hidden = screen !== "chat";
}

function showSignIn(problem = "") {
  whisp.disconnect();
  const button = byId("sign-in-button");
  button.dataset.retry = String(problem !== "");
  button.textContent = problem ? "Try again" : "Sign in";
  byId("sign-in-error").textContent = problem;
  byId("sign-in-error").hidden = problem === "";
  show("sign-in");
}

function status(state, text) {
  const pill = byId("status");
  pill.dataset.state = state;
  pill.textContent = text;
  conversation.online(state === "connected");
}

function notify(text) {
  const notice = byId("notice");
  notice.textContent = text;
  notice.hidden = text === "";
}

async function logOut() {
  const button = byId("log-out");
  button.disabled = true;
  try {
    const { logoutUrl } = (await post("/auth/logout")) ?? {};
    whisp.disconnect();
    location.assign(logoutUrl || "/");
  } catch (error) {
    if (error instanceof HTTPError && error.status === 401) return showSignIn();
    button.disabled = false;
    notify(error.message);
  }
}
